"""Engines that stand in for each other: no frame of the caller is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import cast

import msgspec
import pytest

from bus.clock import ManualClock
from config.settings import AsrSection, FailoverSection, Settings, TurnSection
from schemas.llm import ListenFor
from services.asr.failover import FailoverEngine, FailoverRecognition, load_engines
from services.asr.hearing import Piece
from services.asr.loading import EngineChoiceError
from services.asr.pool import EnginePool
from services.asr.recognition import Outcome
from services.asr.worker import load_models
from services.resilience.attempts import CUT, EMPTY, FAILED, TIMEOUT, Takeover
from tests.services.asr.ears import Ear, frame, heard, relay
from tests.services.resilience.test_attempts import Counted

pytestmark = pytest.mark.unit


class Speech:
    """A recognition, and what it said."""

    def __init__(
        self,
        engine: FailoverEngine,
        clock: ManualClock | None = None,
        listen_for: ListenFor = ListenFor(),  # noqa: B008
    ) -> None:
        self.clock = clock or ManualClock()
        self.partials: list[str] = []
        self.outcomes: list[Outcome] = []
        self.takeovers: list[str] = []
        self.ears = cast(tuple[Ear, ...], engine.engines)
        self.idle = 0
        self.frames = 0
        self.recognition = FailoverRecognition(
            engine,
            listen_for,
            clock=self.clock,
            deadline_ms=3000,
            on_partial=self.partials.append,
            on_outcome=self.outcomes.append,
            on_idle=self._on_idle,
            on_takeover=self._on_takeover,
        )

    def _on_idle(self) -> None:
        self.idle += 1

    def _on_takeover(self, takeover: Takeover) -> None:
        self.takeovers.append(takeover.detail)

    async def say(self, frames: int) -> Speech:
        for _ in range(frames):
            self.recognition.feed(Piece(20.0 * self.frames, self.frames, frame(self.frames)))
            self.frames += 1
            if any(ear.capabilities.blocking for ear in self.ears):
                # The clock does not wait for threads: what they have to do is done before it goes on.
                await until(self._at_rest)
            await self.clock.advance(20)
        return self

    def _at_rest(self) -> bool:
        hanging = any(ear.hanging for ear in self.ears)
        return hanging or not self.recognition.busy or self.recognition._pause is not None

    async def finish(self) -> Outcome:
        self.recognition.finish()
        await until(lambda: self.outcomes)
        (outcome,) = self.outcomes
        return outcome


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


PLANS = [
    ("open", FAILED, "RuntimeError", 2),
    ("raise 0", FAILED, "RuntimeError", 2),
    ("raise 25", CUT, "RuntimeError", 1),
    ("raise-end", CUT, "RuntimeError", 1),
    ("no-text 25", CUT, "EngineError", 1),
    ("none", CUT, "EngineError", 1),
    ("flood", CUT, "too much text", 1),
]


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(("plan", "why", "kind", "tries"), PLANS, ids=[plan for plan, *_ in PLANS])
async def test_who_fails_is_succeeded_and_no_frame_is_lost(
    plan: str, why: str, kind: str, tries: int, blocking: bool
) -> None:
    figures = Counted()
    first, second = Ear("a", blocking=blocking), Ear("b", blocking=blocking)
    first.always = plan
    engine = relay(first, second, figures=figures)
    speech = await Speech(engine).say(50)
    await until(lambda: not speech.recognition.busy)
    outcome = await speech.finish()
    assert outcome[:3] == ("heard 0-49", 0.9, ())
    assert (outcome.error, outcome.engine) == ("", "b")
    assert speech.takeovers == [f"engine a: {kind}; b took over"]
    assert set(figures.of("error")) == {("a", why)}
    assert first.opened == tries
    assert speech.recognition.through_sequence == 49
    engine.close()


async def test_who_hangs_up_in_the_pause_before_a_trial_leaves_the_trial_to_the_next_caller() -> None:
    first, second = Ear("a"), Ear("b")
    first.always, second.always = "raise 0", "raise 25"
    engine = relay(first, second, failover=FailoverSection(failures=1, open_ms=400, backoff_ms=4000))
    speech = await Speech(engine).say(25)
    assert first.opened == 1
    assert not engine.roster.allows(0, speech.clock.elapsed_us() / 1000), "the second try is the trial, in its pause"
    speech.recognition.cancel()
    assert engine.roster.allows(0, speech.clock.elapsed_us() / 1000)
    engine.close()


async def test_a_second_try_comes_after_a_pause_in_which_the_caller_goes_on() -> None:
    first, second = Ear("a", "raise 0"), Ear("b")
    engine = relay(first, second, failover=FailoverSection(backoff_ms=200))
    speech = await Speech(engine).say(4)
    assert speech.recognition.busy, "in its pause"
    assert first.opened == 1
    await speech.say(46)
    outcome = await speech.finish()
    assert (outcome.text, outcome.engine, first.opened, second.opened) == ("heard 0-49", "a", 2, 0)
    assert speech.takeovers == []
    again = Speech(relay(Ear("a", "raise 0"), second, failover=FailoverSection(backoff_ms=200)))
    await again.say(4)
    again.recognition.finish()
    assert again.outcomes == []
    await again.clock.advance(100)
    assert [outcome.text for outcome in again.outcomes] == ["heard 0-3"]


async def test_an_engine_that_hangs_in_mid_speech_is_left_and_starves_nobody() -> None:
    figures = Counted()
    first, second = Ear("a", "hang 25", blocking=True), Ear("b", blocking=True)
    engine = relay(first, second, figures=figures)
    speech = await Speech(engine).say(24)
    await until(lambda: not speech.recognition.busy)
    await speech.say(3)
    await until(lambda: first.hanging)
    await speech.clock.advance(700)
    assert second.opened == 0
    await speech.clock.advance(100)
    await until(lambda: second.opened and not speech.recognition.busy)
    await speech.say(3)
    await until(lambda: not speech.recognition.busy)
    assert (await speech.finish()).text == "heard 0-29"
    assert speech.takeovers == ["engine a: nothing for 800 ms; b took over"]
    assert figures.of("error") == [("a", TIMEOUT)]
    other = await Speech(engine).say(10)
    await until(lambda: not other.recognition.busy)
    assert (await other.finish())[0] == "heard 0-9"
    assert other.outcomes[0].engine == "a", "its thread was replaced"
    first.free.set()
    await until(lambda: first.runs[0].cancelled)
    assert len(speech.outcomes) == 1
    engine.close()


async def test_an_engine_that_hangs_at_the_end_costs_its_time_and_no_word() -> None:
    first, second = Ear("a", "hang-end", blocking=True), Ear("b", blocking=True)
    engine = relay(first, second)
    speech = await Speech(engine).say(50)
    await until(lambda: not speech.recognition.busy)
    speech.recognition.finish()
    await until(lambda: first.hanging)
    await speech.clock.advance(799)
    assert second.opened == 0
    await speech.clock.advance(1)
    await until(lambda: speech.outcomes)
    assert [(outcome.text, outcome.engine) for outcome in speech.outcomes] == [("heard 0-49", "b")]
    first.free.set()
    engine.close()


async def test_partials_do_not_go_back_while_the_next_engine_hears_what_was_said() -> None:
    first, second = Ear("a", "raise 25", blocking=True), Ear("b", blocking=True)
    engine = relay(first, second)
    speech = await Speech(engine).say(40)
    await until(lambda: not speech.recognition.busy)
    await speech.say(20)
    await until(lambda: not speech.recognition.busy)
    lasts = [int(text.rsplit("-", 1)[1]) for text in speech.partials]
    assert lasts == sorted(lasts)
    assert (await speech.finish()).text == "heard 0-59"
    engine.close()


async def test_the_audio_of_each_engine_has_its_own_rate() -> None:
    first, second = Ear("a", "raise-end"), Ear("b", rate_hz=16000, partials=False)
    speech = await Speech(relay(first, second)).say(20)
    await speech.finish()
    assert len(second.runs[0].pcm) == 2 * 20 * 320


async def test_when_nobody_is_left_the_last_partial_stands() -> None:
    figures = Counted()
    first, second = Ear("a"), Ear("b")
    first.always = second.always = "raise 25"
    speech = await Speech(relay(first, second, figures=figures)).say(50)
    assert speech.outcomes == []
    assert not speech.recognition.busy
    outcome = await speech.finish()
    assert (outcome.text, outcome.error) == ("heard 0-23", "stage_down")
    assert outcome.detail == "a: RuntimeError; b: RuntimeError"
    ab, ba = "engine a: RuntimeError; b took over", "engine b: RuntimeError; a took over"
    assert speech.takeovers == [ab, ba, ab]
    assert figures.of("error") == [("a", CUT), ("b", CUT), ("a", CUT), ("b", CUT)]


async def test_the_last_one_has_the_whole_deadline() -> None:
    first, second = Ear("a", "open", "open"), Ear("b", "hang-end", blocking=True, partials=False)
    engine = relay(first, second)
    speech = await Speech(engine).say(10)
    speech.recognition.finish()
    await until(lambda: second.hanging)
    await speech.clock.advance(2900)
    assert speech.outcomes == []
    await speech.clock.advance(200)
    await until(lambda: speech.outcomes)
    assert speech.outcomes[0].error == "stage_down"
    assert "b: no transcript within 3000 ms" in speech.outcomes[0].detail
    second.free.set()
    engine.close()


async def test_an_open_breaker_costs_nothing_and_one_run_tries_the_engine_again() -> None:
    figures = Counted()
    first, second = Ear("a"), Ear("b")
    first.always = "raise 0"
    engine, clock = relay(first, second, figures=figures), ManualClock()
    for _ in range(10):
        speech = await Speech(engine, clock).say(5)
        assert (await speech.finish()).engine == "b"
    assert first.opened == 5
    await clock.advance(30_000)
    trial, other = Speech(engine, clock), Speech(engine, clock)
    first.always = ""
    await other.say(5)
    assert (await other.finish()).engine == "b"
    await trial.say(5)
    assert (await trial.finish()).engine == "a"
    assert (await (await Speech(engine, clock).say(5)).finish()).engine == "a"
    assert figures.of("state") == [("a", 0), ("b", 0), ("a", 2), ("a", 1), ("a", 0)]


async def test_with_every_breaker_open_a_run_is_over_at_once() -> None:
    first, second = Ear("a"), Ear("b")
    first.always = second.always = "open"
    engine = relay(first, second, failover=FailoverSection(failures=1, backoff_ms=0))
    for _ in range(3):
        speech = await Speech(engine).say(5)
        assert (await speech.finish()).error == "stage_down"
    assert (first.opened, second.opened) == (1, 1)
    assert speech.outcomes[0].detail == "a: left alone; b: left alone"


@pytest.mark.parametrize("plan", ["", "hang 5", "raise 0"])
async def test_a_run_that_is_cancelled_says_nothing_more(plan: str) -> None:
    first, second = Ear("a", blocking=True), Ear("b", blocking=True)
    first.always = plan
    engine = relay(first, second, failover=FailoverSection(backoff_ms=5000))
    speech = await Speech(engine).say(10)
    await until(lambda: first.runs)
    await asyncio.sleep(0.01)
    speech.recognition.cancel()
    speech.recognition.cancel()
    first.free.set()
    await until(lambda: all(run.cancelled for run in first.runs))
    speech.recognition.feed(Piece(0, 99, frame(0)))
    speech.recognition.finish()
    await speech.clock.advance(10_000)
    assert (speech.outcomes, second.opened, speech.recognition.busy) == ([], 0, False)
    engine.close()


async def test_a_hanging_engine_that_is_cancelled_late_has_failed() -> None:
    figures = Counted()
    first, second = Ear("a", "hang 0", blocking=True), Ear("b", "open", "open")
    engine = relay(first, second, figures=figures, failover=FailoverSection(failures=1, backoff_ms=0))
    engine.roster.leave_out(1, 0)
    speech = await Speech(engine).say(10)
    await until(lambda: first.hanging)
    await speech.say(50)
    speech.recognition.cancel()
    assert figures.of("error") == [("a", TIMEOUT)]
    first.free.set()
    engine.close()


async def test_nothing_is_left_behind_by_500_runs() -> None:
    first, second = Ear("a"), Ear("b")
    plans = ["", "open", "raise 0", "raise 3", "raise-end", "none", "flood"]
    engine, clock = relay(first, second, failover=FailoverSection(failures=100, backoff_ms=1)), ManualClock()
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    for number in range(500):
        first.always = plans[number % len(plans)]
        speech = await Speech(engine, clock).say(5)
        if number % 3:
            assert (await speech.finish()).text == "heard 0-4"
        else:
            speech.recognition.cancel()
    assert (threading.active_count(), len(asyncio.all_tasks())) == (threads, tasks)
    await clock.advance(5000)
    assert clock._timers == []
    engine.close()


class TestLoad:
    def test_without_fallbacks_it_is_the_engine_itself(self) -> None:
        assert load_engines(Settings(asr=AsrSection(engine="instant"))).name == "instant"

    @pytest.mark.parametrize(("fallbacks", "told"), [("instant", "named twice"), ("magic", "magic")])
    def test_what_can_not_be_is_told(self, fallbacks: str, told: str) -> None:
        with pytest.raises(EngineChoiceError, match=told):
            load_engines(Settings(asr=AsrSection(engine="instant", fallbacks=fallbacks)))

    async def test_all_are_loaded(self) -> None:
        fixed = "services.asr.engines.instant:FixedText"
        settings = Settings(asr=AsrSection(engine="instant", fallbacks=fixed, vad="energy"))
        engine, _, _ = await load_models(msgspec.structs.replace(settings, turn=TurnSection(endpointing="fixed")))
        assert isinstance(engine, FailoverEngine)
        assert engine.name == f"instant,{fixed}"
        assert engine.open(ListenFor()).finish().text.startswith("frames:0")
        engine.warm()
        engine.close()

    async def test_one_that_can_not_be_loaded_is_left_out(self) -> None:
        first, second = Ear("a"), Ear("b")
        first.warms = False
        engine = relay(first, second)
        await engine.load()
        assert (await (await Speech(engine).say(5)).finish()).engine == "b"
        assert (first.warmed, first.opened) == (1, 0)
        engine.close()
        second.warms = False
        with pytest.raises(OSError, match="no such model"):
            await relay(first, second).load()


def test_what_the_ears_say() -> None:
    assert heard(frame(0) + frame(1) + frame(4)) == "heard 0-1 4-4"


async def test_an_engine_that_hangs_while_it_loads_takes_no_thread_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.warming.WARM_S", 0.01)
    first, second = Ear("a"), Ear("b")
    first.warm = lambda: first.free.wait(30)  # type: ignore[assignment,method-assign,return-value]
    engine = relay(first, second, failover=FailoverSection(open_ms=1))
    threads = threading.active_count()
    await engine.load()
    await asyncio.sleep(0.2)
    assert not engine.roster.allows(0, 0)
    assert threading.active_count() == threads, "those that were there already"
    first.free.set()
    await until(lambda: engine.roster.allows(0, 0))
    engine.close()


# -- words that were not heard ---------------------------------------------------------------------------------------


async def test_who_heard_no_words_is_not_believed_where_another_one_hears_some() -> None:
    figures = Counted()
    speech = Speech(relay(Ear("first", "empty", partials=False), Ear("second"), figures=figures))
    outcome = await (await speech.say(50)).finish()
    assert (outcome.text, outcome.engine) == (heard(b"".join(map(frame, range(50)))), "second")
    assert speech.takeovers == ["engine first: no words; second took over"]
    assert figures.of("error") == [("first", EMPTY)]


@pytest.mark.parametrize("plan", ["empty", "raise-end", "hang-end"])
async def test_who_heard_no_words_is_believed_where_nobody_hears_any(plan: str) -> None:
    figures = Counted()
    second = Ear("second", plan, blocking=True)
    speech = Speech(relay(Ear("first", "empty"), second, figures=figures))
    await speech.say(50)
    speech.recognition.finish()
    if plan == "hang-end":
        await until(lambda: second.hanging)
        await speech.clock.advance(3000)
    await until(lambda: speech.outcomes)
    second.free.set()
    assert [(outcome.text, outcome.error, outcome.engine) for outcome in speech.outcomes] == [("", "", "first")]
    assert speech.takeovers == []
    assert [engine for engine, _ in figures.of("error")] == ([] if plan == "empty" else ["second"])


async def test_who_listens_for_phrases_may_hear_none_of_them() -> None:
    phrases = ListenFor(phrases=("yes", "no"))
    speech = Speech(relay(Ear("first", "empty", grammars=True), Ear("second")), listen_for=phrases)
    assert (await (await speech.say(50)).finish()).text == ""
    assert speech.ears[1].opened == 0


async def test_a_call_that_ends_while_another_one_listens_says_nothing() -> None:
    second = Ear("second", "hang-end", blocking=True)
    speech = Speech(relay(Ear("first", "empty"), second))
    await speech.say(50)
    speech.recognition.finish()
    await until(lambda: second.hanging)
    speech.recognition.cancel()
    second.free.set()
    assert speech.outcomes == []


class SlowPool:
    """Does a job where it is told to."""

    def __init__(self) -> None:
        self._jobs: list[Callable[[], None]] = []

    def submit(self, work: Callable[[], object], done: Callable[[object, None], None]) -> object:
        self._jobs.append(lambda: done(work(), None))
        return object()

    def replace_thread(self, job: object) -> None:
        """There is none."""

    def work(self) -> None:
        if self._jobs:
            self._jobs.pop(0)()


@pytest.mark.parametrize(("every", "late"), [(4, False), (20, True)])
async def test_who_hears_more_slowly_than_the_caller_speaks_is_not_waited_for_at_the_end(
    every: int, late: bool
) -> None:
    engine = relay(Ear("first", blocking=True), Ear("second"), attempt_ms=600)
    pool = SlowPool()
    engine.pools[0] = cast(EnginePool, pool)
    speech = Speech(engine)
    for number in range(100):
        speech.recognition.feed(Piece(20.0 * number, number, frame(number)))
        if number % every == every - 1:
            pool.work()
        await speech.clock.advance(20)
    assert bool(speech.ears[1].opened) is late
    assert speech.takeovers == (["engine first: 600 ms behind the caller; second took over"] if late else [])
