"""A call whose engines fail: what the caller hears, and what is told of it."""

from __future__ import annotations

import asyncio

import pytest

from bus import metrics
from config.load import ConfigError
from config.settings import Settings, TtsSection
from schemas.failure import Failure
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted
from services.resilience.attempts import TAKEOVER_HEARD
from services.tts.apology import Apology, keep_apology
from services.tts.delivery import HEARS_APOLOGY, HEARS_NOTHING
from services.tts.worker import TtsWorker, warm_engine
from tests.services.tts.actors import Actor, tone, troupe
from tests.services.tts.edge_twin import CALL, EPOCH_US, EdgeTwin, done, sentence, settle, speech_call
from tests.services.tts.scripted import FRAME, ScriptedEngine, started_twin, virtual
from tests.services.tts.test_delivery import failures, frames_of
from tests.services.tts.test_failover import HANG, WHOLE

pytestmark = pytest.mark.unit

TEXT = "It was sent on Monday by the post."
APOLOGY = Apology("I am sorry.", FRAME * 30)


@virtual
async def test_an_engine_that_dies_in_mid_sentence_is_not_noticed_but_in_the_voice():
    edge = await started_twin()
    first, second = Actor("a", times=True), Actor("b", level=8000, times=True)
    first.scripts = [[*first.speech(TEXT, 1200), OSError("secret")], [OSError("secret")], [OSError("secret")]]
    async with speech_call(edge, troupe(first, second), apology=APOLOGY) as call:
        await edge.answer()
        await edge.tell(sentence(100, 0, TEXT), sentence(100, 1, TEXT), done(100, 2))
        await settle(200)
        assert failures(edge) == [("engine_failed", TAKEOVER_HEARD)] * 2
        assert [event.detail for event in edge.of(Failure)] == ["engine a: OSError; b took over"] * 2
        assert "secret" not in str(edge.said)
        assert [(event.index, event.engine) for event in edge.of(TtsStarted)] == [(0, "a"), (1, "b")]
        first_done, second_done = edge.of(TtsDone)
        assert (first_done.text, first_done.proportional, second_done.text) == (None, False, None)
        assert [word.text for word in first_done.words] == TEXT.split()
        assert frames_of(edge, 0) == list(range(first_done.frames)), "one flow, each frame once"
        assert WHOLE <= first_done.duration_ms <= WHOLE + 500
        assert edge.ends() == [(100, 2)]
        assert call.figures["sentences"] == 2


@virtual
async def test_no_pause_is_longer_than_a_second_and_a_half_when_the_voice_hangs():
    edge = await started_twin()
    first, second = Actor("a"), Actor("b")
    first.scripts = [[*first.speech(TEXT, 1000), HANG]]
    first.always = [HANG]
    async with speech_call(edge, troupe(first, second), apology=APOLOGY):
        await edge.answer()
        for utterance in (100, 200, 300):
            await edge.tell(sentence(utterance, 0, TEXT), done(utterance, 1))
            await asyncio.sleep(5)
        gaps = [after - before for before, after in zip([0, *edge.sent_at], edge.sent_at, strict=False)]
        in_speech = [gap for gap in gaps if gap < 3]
        assert max(in_speech) < 1.5
        assert [event.engine for event in edge.of(TtsStarted)] == ["a", "b", "b"]
        assert all(round(event.ttfb_ms) <= 801 for event in edge.of(TtsStarted))
        assert failures(edge) == [("engine_timeout", TAKEOVER_HEARD)] * 3


@virtual
async def test_who_has_given_much_and_hangs_is_succeeded_before_the_sentence_is_given_up():
    edge = await started_twin()
    first, second = Actor("a"), Actor("b")
    first.scripts = [[tone(4000, 8000), HANG]]
    long = " ".join([TEXT] * 5)
    async with speech_call(edge, troupe(first, second), apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0, long), done(100, 1))
        await asyncio.sleep(5)
        assert failures(edge) == [("engine_timeout", TAKEOVER_HEARD)]
        assert [event.text for event in edge.of(TtsDone)] == [None]
        assert long.endswith(second.opened[0])


@virtual
async def test_when_all_are_down_there_is_the_apology_and_one_failure_that_says_so():
    edge = await started_twin()
    first, second = Actor("a"), Actor("b")
    first.always, second.always = [OSError("x")], [ValueError("x")]
    async with speech_call(edge, troupe(first, second), apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0, TEXT), done(100, 1))
        await settle(200)
        assert failures(edge) == [("stage_down", HEARS_APOLOGY)]
        assert edge.of(Failure)[0].detail == "a: OSError; b: ValueError"
        assert [event.text for event in edge.of(TtsDone)] == ["I am sorry."]
        assert (len(first.opened), len(second.opened)) == (2, 2), "no second round"
        assert edge.ends() == [(100, 1)]


@virtual
async def test_a_last_engine_that_hangs_is_a_stage_that_is_down():
    edge = await started_twin()
    first, second = Actor("a"), Actor("b")
    first.always, second.always = [HANG], [HANG]
    async with speech_call(edge, troupe(first, second), apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0, TEXT), done(100, 1))
        await asyncio.sleep(3.1)
        assert failures(edge) == [("stage_down", HEARS_APOLOGY)]
        assert edge.of(Failure)[0].detail == "a: nothing for 800 ms; b: nothing for 800 ms"
        assert edge.ends() == [(100, 1)]


@virtual
async def test_a_sentence_that_everybody_breaks_off_ends_where_it_stands():
    edge = await started_twin()
    first, second = Actor("a", times=True), Actor("b", times=True)
    first.scripts = [first.speech(TEXT), [*first.speech(TEXT, 1000), OSError("x")]]
    first.always = second.always = [OSError("x")]
    async with speech_call(edge, troupe(first, second), apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0, TEXT), sentence(100, 1, TEXT), done(100, 2))
        await settle(200)
        assert failures(edge) == [("stage_down", HEARS_NOTHING)]
        assert [(event.index, event.text) for event in edge.of(TtsDone)] == [(0, None), (1, "It was sent on")]


@virtual
async def test_an_interruption_stops_all_of_them():
    edge = await started_twin()
    first, second = Actor("a", [HANG]), Actor("b", [HANG])
    async with speech_call(edge, troupe(first, second, hedge_ms=100), apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await asyncio.sleep(0.3)
        await edge.tell(TurnInterrupted(call_id=CALL, at_us=EPOCH_US, turn=2, utterance_id=100))
        assert (first.cancelled, second.cancelled) == (1, 1)
        await asyncio.sleep(5)
        assert (edge.frames, failures(edge)) == ([], [])


@virtual
async def test_the_apology_is_kept_whoever_can_say_it():
    first, second = Actor("a"), Actor("b", level=8000)
    first.always = [OSError("x")]
    apology = await keep_apology(troupe(first, second), "I am sorry.")
    assert apology is not None and apology.pcm[:400] == tone(8000, 25)


@virtual
async def test_sentences_are_timed_by_the_engine_that_said_them():
    def timed(engine: str) -> float:
        return metrics.REGISTRY.get_sample_value("callbus_tts_seconds_count", {"engine": engine}) or 0

    before = timed("a"), timed("b")
    edge = await started_twin()
    first, second = Actor("a"), Actor("b", level=8000)
    first.scripts, first.always = [first.speech(TEXT, 1000)], [OSError("x")]
    async with speech_call(edge, troupe(first, second)):
        await edge.answer()
        await edge.tell(sentence(100, 0, TEXT), sentence(100, 1, TEXT), done(100, 2))
        await settle(200)
    assert (timed("a") - before[0], timed("b") - before[1]) == (1, 1)


@virtual
async def test_errors_of_an_engine_that_is_alone_are_counted_too():
    def counted(why: str) -> float:
        labels = {"stage": "tts", "engine": "scripted", "why": why}
        return metrics.REGISTRY.get_sample_value("callbus_engine_errors_total", labels) or 0

    before = counted("failed"), counted("timeout")
    edge = await started_twin()
    async with speech_call(edge, ScriptedEngine([OSError("x")], [HANG]), settings=TtsSection(deadline_ms=500)):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await asyncio.sleep(1)
    assert (counted("failed") - before[0], counted("timeout") - before[1]) == (1, 1)


async def test_a_worker_says_which_engines_it_has():
    settings = Settings(tts=TtsSection(engine="instant", fallbacks="tests.services.tts.test_failover_call:Own"))
    engine = await warm_engine(settings)
    edge = EdgeTwin()
    worker = TtsWorker(edge.server.connect("tts"), "tts-1", settings, engine)
    await worker.start()
    workers = await edge.connection.bucket("workers")
    entry = await workers.get("tts.tts-1")
    assert entry is not None
    assert b"instant,tests.services.tts.test_failover_call:Own" in entry.value
    await worker.drain(100)
    await engine.close()


async def test_a_missing_resampler_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tts=TtsSection(engine="instant", fallbacks="tests.services.tts.test_failover_call:Own"))
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(ConfigError, match="soxr"):
        await warm_engine(settings)


class Own(Actor):
    """An engine of the user's own."""

    def __init__(self, section: TtsSection) -> None:
        super().__init__("own", rate_hz=16000)
