"""Engines that stand in for each other: who says a sentence, and who says the rest of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from config.settings import FailoverSection, Settings, TtsSection
from services.resilience.attempts import CUT, EMPTY, FAILED, TIMEOUT, StageDownError
from services.tts.engine import EngineChoiceError, EngineError, SpeechChunk, WordStart
from services.tts.failover import FailoverEngine, FailoverRun, load_engines
from services.tts.words import timed_words
from tests.services.resilience.test_attempts import Counted
from tests.services.tts.actors import CHARACTER_MS, Actor, levels, tone, troupe, word_starts
from tests.services.tts.scripted import Script, virtual

pytestmark = pytest.mark.unit

TEXT = "It was sent on Monday by the post."
A, B, C = 4000, 8000, 12000
HANG = 1000.0


class Said:
    """What came of a run."""

    def __init__(self, run: FailoverRun) -> None:
        self.run = run
        self.pcm = b""
        self.words: list[WordStart] = []
        self.first_ms = -1.0
        self.gap_ms = 0.0
        self.error: Exception | None = None

    async def to_the_end(self) -> Said:
        loop = asyncio.get_running_loop()
        begun = last = loop.time()
        try:
            async for chunk in self.run:
                if chunk.pcm:
                    self.first_ms = 1000 * (loop.time() - begun) if self.first_ms < 0 else self.first_ms
                    self.gap_ms = max(self.gap_ms, 1000 * (loop.time() - last))
                    last = loop.time()
                self.pcm += chunk.pcm
                self.words += chunk.words
        except Exception as error:
            self.error = error
        finally:
            self.run.cancel()
        return self

    @property
    def levels(self) -> list[tuple[int, int]]:
        return levels(self.pcm)

    @property
    def takeovers(self) -> list[str]:
        return [takeover.detail for takeover in self.run.takeovers]


async def say(engine: FailoverEngine, text: str = TEXT) -> Said:
    return await Said(engine.open(text)).to_the_end()


def length(text: str) -> int:
    return sum(len(word) + 1 for word in text.split()) * CHARACTER_MS


WHOLE = length(TEXT)
BROKEN: list[tuple[str, Script, str, str, float]] = [
    ("fails at once", [ValueError("secret")], FAILED, "ValueError", 0),
    ("fails after silence", [b"\0" * 1600, ValueError("secret")], FAILED, "ValueError", 0),
    ("nothing at all", [], EMPTY, "EmptyError", 0),
    ("silence only", [b"\0" * 32_000], EMPTY, "EmptyError", 0),
    ("hangs", [HANG], TIMEOUT, "nothing for 800 ms", 800),
    ("hangs after silence", [b"\0" * 1600, HANG], TIMEOUT, "nothing for 800 ms", 800),
    ("fails late", [0.7, ValueError("secret")], TIMEOUT, "nothing for 800 ms", 800),
    ("endless silence", [b"\0" * 1_600_000], FAILED, "RubbishError", 0),
    ("no audio at all", ["an error page"], FAILED, "RubbishError", 0),  # type: ignore[list-item]
    ("no bytes", [SpeechChunk("text")], FAILED, "RubbishError", 0),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("script", "why", "kind", "first_ms"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_who_gives_no_audio_is_succeeded_by_the_next(script: Script, why: str, kind: str, first_ms: float) -> None:
    @virtual
    async def scenario() -> None:
        figures = Counted()
        first, second = Actor("a", level=A), Actor("b", level=B)
        first.always = script
        said = await say(troupe(first, second, figures=figures))
        assert said.error is None
        assert said.levels == [(B, WHOLE)]
        assert said.run.engine == "b"
        assert said.takeovers == [f"engine a: {kind}; b took over"]
        assert said.first_ms == pytest.approx(first_ms, abs=1)
        assert figures.of("failover") == [("a",)]
        assert set(figures.of("error")) >= {("a", why)}
        assert len(first.opened) == (1 if HANG in script else 2)
        assert first.cancelled == len(first.opened), "each run of it is let go"

    scenario()


@virtual
async def test_an_engine_whose_audio_can_not_be_brought_to_the_rate_is_not_begun():
    first, second, tasks = Actor("a", rate_hz=0), Actor("b", level=B), len(asyncio.all_tasks())
    said = await say(troupe(second, first, failover=FailoverSection(attempts=1)))
    assert (said.levels, first.opened) == ([(B, WHOLE)], [])
    second.always = [OSError("x")]
    said = await say(troupe(second, first, failover=FailoverSection(attempts=1)))
    assert str(said.error) == "b: OSError; a: ValueError"
    await asyncio.sleep(1)
    assert (first.opened, len(asyncio.all_tasks())) == ([], tasks)


@virtual
async def test_an_engine_that_works_at_its_second_try_goes_on():
    first, second = Actor("a", [ValueError("x")], level=A), Actor("b")
    said = await say(troupe(first, second, failover=FailoverSection(backoff_ms=50)))
    assert said.levels == [(A, WHOLE)]
    assert (said.run.engine, said.takeovers, second.opened) == ("a", [], [])
    assert said.first_ms == pytest.approx(25), "half of the longest pause"


@pytest.mark.parametrize("times", [True, False])
@pytest.mark.parametrize("ending", ["fails", "ends", "hangs", "odd"])
def test_who_breaks_off_is_succeeded_for_the_rest_of_the_sentence(ending: str, times: bool) -> None:
    @virtual
    async def scenario() -> None:
        figures = Counted()
        first, second = Actor("a", level=A, times=times), Actor("b", level=B, times=times)
        half = first.speech(TEXT, 1200 if ending != "ends" or times else 200)
        end: dict[str, Any] = {"fails": [OSError("x")], "hangs": [HANG], "ends": [], "odd": [b"\x10"]}
        first.scripts = [[*half, *end[ending]]]
        said = await say(troupe(first, second, figures=figures))
        if ending == "ends" and times:
            assert said.levels == [(A, 1200)], "an end is believed where it comes late enough"
            return
        assert said.error is None
        rest = second.opened[0]
        assert (TEXT.endswith(rest) and len(rest) < len(TEXT)) or ending == "ends"
        given = sum(ms for level, ms in said.levels if level == A)
        assert said.levels == [(A, given), (B, length(rest))]
        spoken_ms = length(TEXT[: len(TEXT) - len(rest)])
        assert spoken_ms <= given, "nothing is left out"
        if times:
            assert given - spoken_ms <= length("Monday"), "a word is said twice at most"
        assert figures.of("error") == [("a", TIMEOUT if ending == "hangs" else CUT)]
        assert said.gap_ms == pytest.approx(1200 if ending == "hangs" else 0, abs=1), "until it was heard"
        assert said.run.engine == "b"
        assert len(said.takeovers) == 1

    scenario()


@virtual
async def test_word_times_go_on_where_the_first_engine_stopped():
    first, second = Actor("a", times=True), Actor("b", times=True)
    first.scripts = [[*first.speech(TEXT, 1300), OSError("x")]]
    said = await say(troupe(first, second))
    # "It" 195 ms, "was" 260, "sent" 325, "on" 195, then "Monday" is under way at 975.
    assert second.opened == ["Monday by the post."]
    assert [(word.text, word.start_ms) for word in said.words] == [
        ("It", 0), ("was", 195), ("sent", 455), ("on", 780),
        ("Monday", 1300), ("by", 1755), ("the", 1950), ("post.", 2210),
    ]  # fmt: skip
    spoken = timed_words(TEXT, said.words, 1300 + length("Monday by the post."))
    assert [word.text for word in spoken] == TEXT.split()
    assert spoken[-1].end_ms == 1300 + length("Monday by the post.")


@virtual
async def test_an_engine_without_word_times_has_them_spread_where_another_tells_them():
    for knows_first in (True, False):
        first, second = Actor("a", times=knows_first), Actor("b", times=not knows_first)
        first.scripts = [[*first.speech(TEXT, 1300), OSError("x")]]
        said = await say(troupe(first, second))
        told = [word.text for word in said.words]
        assert told == TEXT.split()
        starts = [word.start_ms for word in said.words]
        assert starts == sorted(starts)
        assert said.words[told.index(second.opened[0].split()[0])].start_ms == 1300


@virtual
async def test_without_any_word_times_none_are_told():
    first, second = Actor("a"), Actor("b")
    first.scripts = [[*first.speech(TEXT, 1300), OSError("x")]]
    assert (await say(troupe(first, second))).words == []
    whole = await say(troupe(Actor("a", [ValueError()], [ValueError()], times=True), Actor("b")))
    assert whole.words == [], "one engine alone has said it: its times are spread by who speaks"


@virtual
async def test_a_word_that_was_begun_is_told_when_nobody_says_it_again():
    first = Actor("a", times=True)
    first.scripts = [[*first.speech(TEXT, 1200), OSError("x")]]
    down = Actor("b")
    down.always = [ValueError("x")]
    first.always = [ValueError("x")]
    said = await say(troupe(first, down))
    assert isinstance(said.error, StageDownError)
    assert [word.text for word in said.words] == ["It", "was", "sent", "on", "Monday"]


@virtual
async def test_a_sentence_that_was_said_to_its_last_word_is_over_though_the_engine_fails():
    first, second = Actor("a", level=A), Actor("b", level=B)
    # Slower than any voice: it must have come to the end.
    first.scripts = [[tone(A, 9000), OSError("x")]]
    said = await say(troupe(first, second))
    assert said.error is None and said.levels[0] == (A, 9000)
    assert second.opened == ["post."], "but for the last word, perhaps"


@virtual
async def test_an_engine_may_take_its_time_while_there_is_something_to_be_heard():
    """One that does first what is needed first gives the rest of a sentence when it is needed."""
    first, second = Actor("a", level=A), Actor("b")
    speech = first.speech(TEXT)
    first.scripts = [[*speech[:10], 1.9, *speech[10:]]]
    said = await say(troupe(first, second))
    assert said.levels == [(A, WHOLE)] and second.opened == []
    first.scripts = [[*speech[:2], 0.3, *speech[2:4], 0.79, *speech[4:]]]
    assert (await say(troupe(first, second))).levels == [(A, WHOLE)]
    first.scripts = [[*speech[:2], 0.81, *speech[2:]]]
    assert (await say(troupe(first, second))).run.engine == "b"


@virtual
async def test_times_of_words_that_can_not_be_in_so_little_audio_are_not_believed():
    first, second = Actor("a", times=True), Actor("b", level=B, times=True)
    first.scripts = [[SpeechChunk(tone(A, 200), word_starts(TEXT, 3))]]
    said = await say(troupe(first, second))
    assert second.opened == [TEXT]
    assert said.takeovers == ["engine a: RubbishError; b took over"]


@virtual
async def test_the_gaps_of_an_engine_that_is_slower_than_speech_are_counted_together():
    first, second = Actor("a", level=A), Actor("b", level=B)
    first.scripts = [[each for chunk in first.speech(TEXT) for each in (chunk, 0.45)]]
    said = await say(troupe(first, second))
    assert said.levels[0] == (A, 800), "200 ms each, and 250 ms of silence after each"
    assert said.takeovers == ["engine a: slower than speech by more than 800 ms; b took over"]
    first.scripts = [[each for chunk in first.speech(TEXT) for each in (chunk, 0.21)]]
    assert (await say(troupe(first, second))).levels == [(A, WHOLE)]


@virtual
async def test_audio_without_end_is_stopped():
    first, second = Actor("a", level=A), Actor("b", level=B)
    first.scripts = [[tone(A, 1000)] * 1000]
    figures = Counted()
    said = await say(troupe(first, second, figures=figures))
    assert figures.of("error") == [("a", CUT)]
    assert said.levels == [(A, 8 * WHOLE // 1000 * 1000), (B, length("post."))]


@virtual
async def test_the_first_rate_is_everybodys():
    first, second, third = (
        Actor("a", rate_hz=8000),
        Actor("b", level=B, rate_hz=22050),
        Actor("c", level=C, rate_hz=24000),
    )
    first.always = [OSError("x")]
    second.scripts = [[*second.speech(TEXT, 1200), OSError("x")]]
    engine = troupe(first, second, third)
    said = await say(engine)
    assert engine.capabilities.sample_rate_hz == 8000
    assert [level for level, _ in said.levels] == [pytest.approx(B, abs=2), pytest.approx(C, abs=2)]
    assert len(said.pcm) // 16 == pytest.approx(1200 + length(third.opened[0]), abs=3)
    assert said.takeovers == ["engine a: OSError; b took over", "engine b: OSError; c took over"]


@virtual
async def test_three_that_break_off_one_after_the_other():
    actors = [Actor(name, level=level, times=True) for name, level in (("a", A), ("b", B), ("c", C))]
    for actor in actors:
        actor.scripts = [[*actor.speech("x" * 30, 600), OSError("x")]]
        actor.scripts[0][0] = SpeechChunk(tone(actor.level, 200))
    said = await say(troupe(*actors))
    assert said.error is None
    assert [level for level, _ in said.levels] == [A, B, C, A], "and the first again, for what nobody else says"
    assert said.run.engine == "a"


@pytest.mark.parametrize("script", [[ValueError("secret words")], [HANG]])
def test_when_nobody_is_left_the_error_names_everybody(script: Script) -> None:
    @virtual
    async def scenario() -> None:
        figures = Counted()
        first, second = Actor("a"), Actor("b", [ValueError("secret words")], [EngineError("no credit left")])
        first.always = script
        said = await say(troupe(first, second, figures=figures))
        kind = "ValueError" if isinstance(script[0], Exception) else "nothing for 800 ms"
        assert str(said.error) == f"a: {kind}; b: EngineError"
        assert isinstance(said.error, StageDownError)
        assert said.takeovers == []
        assert figures.of("failover") == []

    scenario()


@virtual
async def test_an_open_breaker_costs_nothing_and_one_run_tries_the_engine_again():
    figures = Counted()
    first, second = Actor("a", level=A), Actor("b", level=B)
    first.always = [HANG]
    failover = FailoverSection(failures=5, open_ms=30_000, backoff_ms=0)
    engine = troupe(first, second, figures=figures, failover=failover)
    for _ in range(5):
        assert (await say(engine)).first_ms == pytest.approx(800, abs=1)
    for _ in range(20):
        assert (await say(engine)).first_ms == 0
    assert len(first.opened) == 5
    await asyncio.sleep(30.1)
    # Two at once: one of them is the trial, and has the next engine ready.
    at_once = await asyncio.gather(say(engine), say(engine))
    assert sorted(round(said.first_ms) for said in at_once) == [0, 800]
    assert len(first.opened) == 6
    assert (await say(engine)).first_ms == 0
    await asyncio.sleep(30.1)
    first.always = None
    assert (await say(engine)).levels == [(A, WHOLE)]
    assert (await say(engine)).levels == [(A, WHOLE)]
    assert figures.of("state") == [("a", 0), ("b", 0), ("a", 2), ("a", 1), ("a", 2), ("a", 1), ("a", 0)]


@virtual
async def test_the_last_engine_has_the_time_that_it_needs():
    first, second = Actor("a", [HANG]), Actor("b", level=B)
    second.scripts = [[1.5, *second.speech(TEXT)]]
    said = await say(troupe(first, second))
    assert said.first_ms == pytest.approx(2300)
    assert said.levels == [(B, WHOLE)]


@virtual
async def test_a_slow_engine_that_is_still_first_stays():
    figures = Counted()
    first, second = Actor("a", level=A), Actor("b", level=B)
    first.scripts = [[0.3, *first.speech(TEXT)]]
    second.scripts = [[0.3, *second.speech(TEXT)]]
    said = await say(troupe(first, second, figures=figures, hedge_ms=200))
    assert said.levels == [(A, WHOLE)] and said.first_ms == pytest.approx(300)
    assert figures.of("hedge") == [("primary",)]
    assert (second.opened, second.cancelled, said.takeovers) == ([TEXT], 1, [])
    assert figures.of("error") == []


@virtual
async def test_the_other_one_is_first_and_the_slow_one_is_stopped_at_once():
    figures = Counted()
    first, second = Actor("a", [HANG]), Actor("b", level=B)
    engine = troupe(first, second, figures=figures, hedge_ms=200)
    run = engine.open(TEXT)
    steps = aiter(run)
    chunk = await anext(steps)
    assert levels(chunk.pcm) == [(B, 200)]
    assert asyncio.get_running_loop().time() == pytest.approx(0.2)
    assert first.cancelled == 1, "before anything else is said"
    run.cancel()
    assert figures.of("hedge") == [("hedge",)]
    assert figures.of("failover") == [], "nothing has failed"


@virtual
async def test_nobody_is_asked_twice_at_once_where_there_is_no_need():
    first, second = Actor("a", level=A), Actor("b")
    first.scripts = [[0.1, *first.speech(TEXT)]]
    assert (await say(troupe(first, second, hedge_ms=200))).levels == [(A, WHOLE)]
    assert second.opened == []


@virtual
async def test_both_fail_and_a_third_is_asked():
    figures = Counted()
    first, second, third = Actor("a", [0.3, OSError("x")]), Actor("b", [0.3, OSError("x")]), Actor("c", level=C)
    first.always = second.always = [OSError("x")]
    said = await say(troupe(first, second, third, figures=figures, hedge_ms=200))
    assert said.levels == [(C, WHOLE)]
    assert sorted(figures.of("failover")) == [("a",), ("b",)]


@virtual
async def test_with_one_engine_left_there_is_no_other():
    first, second = Actor("a"), Actor("b", [ValueError()], [ValueError()], level=B)
    second.scripts = [[0.5, *second.speech(TEXT)]]
    first.always = [ValueError()]
    assert (await say(troupe(first, second, hedge_ms=100))).levels == [(B, WHOLE)]


@pytest.mark.parametrize(
    ("script", "at_ms"),
    [
        ([HANG], 100),
        ([ValueError("x")], 20),
        ([tone(A, 200), 0.1, tone(A, 200), HANG], 50),
        ([tone(A, 200), HANG], 500),
    ],
)
@pytest.mark.parametrize("hedge_ms", [0, 30])
def test_it_ends_when_it_is_cancelled(script: Script, at_ms: int, hedge_ms: int) -> None:
    """In each state: while an engine is asked, in a pause, between two chunks, while the rest is waited for."""

    @virtual
    async def scenario() -> None:
        first, second = Actor("a"), Actor("b", [HANG])
        first.always = script
        run = troupe(first, second, hedge_ms=hedge_ms, failover=FailoverSection(backoff_ms=5000)).open(TEXT)
        task = asyncio.create_task(Said(run).to_the_end())
        await asyncio.sleep(at_ms / 1000)
        run.cancel()
        run.cancel()
        said = await asyncio.wait_for(task, 0.05)
        assert said.error is None
        await asyncio.sleep(0)
        assert first.cancelled == len(first.opened) and second.cancelled == len(second.opened)
        assert len(asyncio.all_tasks()) == 1
        assert [chunk async for chunk in run] == []

    scenario()


@virtual
async def test_a_hanging_engine_that_is_cancelled_late_has_failed_and_an_early_one_has_not():
    figures = Counted()
    alone = Actor("a")
    alone.always = [HANG]
    other = Actor("b")
    engine = troupe(alone, other, figures=figures)
    engine.roster.leave_out(1, 0)
    for wait_s in (0.5, 1.0):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(wait_s):
                await say(engine)
    assert figures.of("error") == [("a", TIMEOUT)]


@virtual
async def test_an_engine_that_is_cancelled_while_its_audio_is_heard_has_not_failed():
    for wait_s, told in ((1.9, []), (2.1, [("a", TIMEOUT)])):
        figures = Counted()
        first = Actor("a")
        first.scripts = [[tone(A, 2000), HANG]]
        engine = troupe(first, Actor("b"), figures=figures)
        engine.roster.leave_out(1, 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(wait_s):
                await say(engine)
        assert figures.of("error") == told


@virtual
async def test_nothing_is_left_behind_by_500_runs():
    first, second = Actor("a"), Actor("b", times=True)
    scripts: list[Script | None] = [
        None, [OSError("x")], [HANG], [tone(A, 400), OSError("x")], [tone(A, 200), HANG], [b""], [tone(A, 300) + b"\1"],
    ]  # fmt: skip
    engine = troupe(first, second, hedge_ms=300, failover=FailoverSection(failures=100, backoff_ms=5))
    for number in range(500):
        first.always = scripts[number % len(scripts)]
        said = Said(engine.open(TEXT))
        if number % 5:
            assert (await said.to_the_end()).error is None
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(said.to_the_end(), number % 3 / 1000)
    await asyncio.sleep(0.01)
    assert len(asyncio.all_tasks()) == 1
    assert first.cancelled == len(first.opened) and second.cancelled == len(second.opened)


@pytest.mark.parametrize("text", ["", "...", "—"])
def test_where_there_is_nothing_to_say_nothing_need_come(text: str) -> None:
    @virtual
    async def scenario() -> None:
        first, second = Actor("a", [], [b"\0" * 320]), Actor("b")
        engine = troupe(first, second)
        for _ in range(2):
            said = await say(engine, text)
            assert said.error is None and second.opened == []

    scenario()


@virtual
async def test_all_engines_are_loaded():
    actors = [Actor("a"), Actor("b")]
    engine = troupe(*actors)
    await engine.warm()
    assert [actor.warmed for actor in actors] == [1, 1]
    assert engine.capabilities.name == "a,b"
    await engine.close()


@virtual
async def test_one_that_can_not_be_loaded_is_left_out_until_it_can():
    figures = Counted()
    first, second = Actor("a", level=A, warms=False, rate_hz=16000), Actor("b", level=B)
    engine = troupe(first, second, figures=figures)
    await engine.warm()
    assert engine.capabilities.sample_rate_hz == 8000, "nobody knows the rate of one that is not loaded"
    assert (await say(engine)).levels == [(B, WHOLE)]
    assert figures.of("state")[-1] == ("a", 2)
    await asyncio.sleep(31)
    assert first.warmed == 2 and first.opened == []
    first.warms = True
    await asyncio.sleep(31)
    assert [level for level, _ in (await say(engine)).levels] == [pytest.approx(A, abs=2)]
    assert len(asyncio.all_tasks()) == 1
    await engine.close()


@virtual
async def test_with_none_that_can_be_loaded_the_first_ones_error_counts():
    engine = troupe(Actor("a", warms=False), Actor("b", warms=False))
    with pytest.raises(OSError, match="the model is missing"):
        await engine.warm()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


class TestLoad:
    def test_without_fallbacks_it_is_the_engine_itself(self) -> None:
        assert load_engines(Settings(tts=TtsSection(engine="instant"))).capabilities.name == "instant"

    def test_with_fallbacks_it_is_all_of_them(self) -> None:
        engine = load_engines(Settings(tts=TtsSection(engine="instant", fallbacks=" espeak , ")))
        assert isinstance(engine, FailoverEngine)
        assert engine.capabilities.name == "instant,espeak"

    @pytest.mark.parametrize(("fallbacks", "told"), [("instant", "named twice"), ("festival", "no such engine")])
    def test_what_can_not_be_is_told(self, fallbacks: str, told: str) -> None:
        with pytest.raises(EngineChoiceError, match=told):
            load_engines(Settings(tts=TtsSection(engine="instant", fallbacks=fallbacks)))
