"""An engine that hangs or fails: a second try, the kept apology, or one sentence less."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from config.settings import TtsSection
from schemas.failure import Failure
from schemas.llm import LlmSentence
from schemas.playout import PlayoutMark
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted
from services.llm.heard import heard_text
from services.tts.apology import Apology, keep_apology
from services.tts.delivery import HEARS_APOLOGY, HEARS_NOTHING, HEARS_PAUSE
from services.tts.engine import SpeechChunk, WordStart
from tests.services.tts.edge_twin import CALL, EPOCH_US, EdgeTwin, done, sentence, settle, speech_call
from tests.services.tts.scripted import FRAME, ScriptedEngine, spoken, started_twin, virtual

pytestmark = pytest.mark.unit

APOLOGY = Apology("I am sorry.", FRAME * 30, (WordStart("I", 0), WordStart("am", 200), WordStart("sorry.", 400)))
BAD: Any = "no bytes"
DEADLINE = TtsSection(deadline_ms=700)


def failures(edge: EdgeTwin) -> list[tuple[str, str]]:
    return [(failure.code, failure.caller_hears) for failure in edge.of(Failure)]


def frames_of(edge: EdgeTwin, index: int) -> list[int]:
    """Numbers of the frames of a sentence, in order of arrival."""
    numbers = []
    for message in edge.frames:
        segment, first = divmod(message.sequence, 1 << 20)
        if segment == index and message.frame_count:
            numbers += range(first, first + message.frame_count)
    return numbers


def heard(edge: EdgeTwin, sentences: dict[int, str]) -> str:
    """What is taken for heard once everything that was sent is played."""
    spoken = {event.index: event for event in edge.of(TtsDone)}
    marks = {index for index, event in spoken.items() if event.frames}
    return heard_text(sentences, spoken, marks, finished=True, flushed=None)


@virtual
async def test_an_engine_that_fails_at_once_is_asked_again():
    edge = await started_twin()
    engine = ScriptedEngine([ValueError("secret words")], [spoken("hello there", 20)])
    async with speech_call(edge, engine, apology=APOLOGY) as call:
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await settle()
        assert failures(edge) == [("engine_failed", HEARS_PAUSE)]
        (failure,) = edge.of(Failure)
        assert (failure.detail, failure.number, failure.worker) == ("scripted: ValueError", 0, "tts-1")
        assert "secret" not in str(edge.said)
        assert [(event.index, event.text) for event in edge.of(TtsDone)] == [(0, None)]
        assert frames_of(edge, 0) == list(range(20))
        assert edge.ends() == [(100, 1)]
        assert call.figures == {"failures": 1, "sentences": 1, "ttfb_ms": call.figures["ttfb_ms"]}


@virtual
async def test_an_engine_that_hangs_before_anything_was_heard_costs_its_deadline_and_an_apology():
    edge = await started_twin()
    engine = ScriptedEngine([100.0])
    async with speech_call(edge, engine, settings=DEADLINE, apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0, "It was sent on Monday."), sentence(100, 1))
        await asyncio.sleep(0.6)
        assert edge.frames == []
        await asyncio.sleep(0.2)
        assert failures(edge) == [("engine_timeout", HEARS_APOLOGY)]
        assert engine.cancelled == 1
        assert engine.opened == ["It was sent on Monday."], "an answer that begins with an apology ends with it"
        assert edge.ends() == [(100, 1)]
        assert frames_of(edge, 0) == list(range(30))
        (started,) = edge.of(TtsStarted)
        assert (started.index, round(started.ttfb_ms), round(started.queue_wait_ms)) == (0, 700, 0)
        first, second = edge.of(TtsDone)
        assert (first.text, first.frames, first.proportional) == ("I am sorry.", 30, False)
        assert [(word.text, word.start_ms, word.end_ms) for word in first.words] == [
            ("I", 0, 200), ("am", 200, 400), ("sorry.", 400, 600),
        ]  # fmt: skip
        assert (second.index, second.text, second.frames) == (1, "", 0)
        await edge.tell(sentence(100, 2), done(100, 3))
        assert edge.of(TtsDone)[2].index == 2, "what comes late is not said either, and told"
        assert edge.ends() == [(100, 1)]
        assert heard(edge, {0: "It was sent on Monday.", 1: "x", 2: "y"}) == "I am sorry."
        await edge.tell(sentence(200, 0), done(200, 1))
        assert edge.ends()[1:] == [(200, 1)], "the next answer has an engine again"


@virtual
async def test_both_tries_before_the_first_audio_share_one_deadline():
    edge = await started_twin()
    engine = ScriptedEngine([0.5, RuntimeError("x")], [100.0])
    async with speech_call(edge, engine, settings=DEADLINE, apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await asyncio.sleep(0.75)
        assert failures(edge) == [("engine_failed", HEARS_PAUSE), ("engine_timeout", HEARS_APOLOGY)]
        assert edge.ends() == [(100, 1)]


@virtual
async def test_an_engine_that_gives_chunks_without_audio_hangs_all_the_same():
    edge = await started_twin()
    nothing: list[Any] = [item for _ in range(50) for item in (0.3, SpeechChunk(b""))]
    async with speech_call(edge, ScriptedEngine(nothing), settings=DEADLINE, apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await asyncio.sleep(0.8)
        assert failures(edge) == [("engine_timeout", HEARS_APOLOGY)]


@virtual
async def test_a_sentence_that_breaks_off_is_said_again_and_the_edge_has_each_frame_once():
    edge = await started_twin()
    engine = ScriptedEngine([FRAME * 8, RuntimeError("x")], [FRAME * 20])
    async with speech_call(edge, engine, settings=DEADLINE, apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await settle()
        assert failures(edge) == [("engine_failed", HEARS_PAUSE)]
        assert frames_of(edge, 0) == [*range(8), *range(20)]
        assert len(edge.of(TtsStarted)) == len(edge.of(TtsDone)) == 1


@virtual
async def test_a_first_sentence_that_breaks_off_twice_ends_in_an_apology_where_it_stopped():
    edge = await started_twin()
    text = "It was sent on Monday"
    whole = spoken(text, 50)
    # "Monday" has not begun in what comes of it, and "on" may be cut.
    cut = SpeechChunk(FRAME * 35, whole.words[:4])
    engine = ScriptedEngine([cut, 100.0], [FRAME * 10, 100.0])
    async with speech_call(edge, engine, settings=DEADLINE, apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0, text), done(100, 1))
        await asyncio.sleep(2)
        assert failures(edge) == [("engine_timeout", HEARS_PAUSE), ("engine_timeout", HEARS_APOLOGY)]
        assert frames_of(edge, 0) == [*range(31), *range(10), *range(31, 65)]
        (event,) = edge.of(TtsDone)
        assert event.text == "It was sent I am sorry."
        assert [word.text for word in event.words] == event.text.split()
        assert event.words[3].start_ms == 700, "the apology begins behind what had been sent"
        assert event.words[-1].end_ms == event.duration_ms == 1300
        assert edge.ends() == [(100, 1)]


@virtual
async def test_in_the_middle_of_an_answer_a_sentence_is_tried_twice_then_skipped_and_a_second_one_is_apologised_for():
    edge = await started_twin()
    engine = ScriptedEngine(
        [FRAME * 5], [ValueError("x")], [100.0], [FRAME * 5], [ValueError("x")], [ValueError("x")], [100.0], [100.0]
    )
    async with speech_call(edge, engine, settings=DEADLINE, apology=APOLOGY):
        await edge.answer()
        await edge.tell(*(sentence(100, index, f"text {index}") for index in range(6)), done(100, 6))
        await asyncio.sleep(5)
        assert failures(edge) == [
            ("engine_failed", HEARS_PAUSE),
            ("engine_timeout", HEARS_NOTHING),
            ("engine_failed", HEARS_PAUSE),
            ("engine_failed", HEARS_NOTHING),
            ("engine_timeout", HEARS_PAUSE),
            ("engine_timeout", HEARS_APOLOGY),
        ]
        assert [(event.index, event.text) for event in edge.of(TtsDone)] == [
            (0, None), (1, ""), (2, None), (3, ""), (4, "I am sorry."), (5, ""),
        ]  # fmt: skip
        assert edge.ends() == [(100, 5)]
        assert heard(edge, {n: f"text {n}" for n in range(6)}) == "text 0 text 2 I am sorry."


@virtual
async def test_without_an_apology_the_sentence_is_missing_and_the_utterance_ends():
    edge = await started_twin()
    half = SpeechChunk(FRAME * 10, spoken("hello there", 20).words)
    engine = ScriptedEngine([ValueError("x")], [half, ValueError("x")])
    async with speech_call(edge, engine):
        await edge.answer()
        await edge.tell(sentence(100, 0), sentence(100, 1), done(100, 2))
        await settle()
        assert failures(edge) == [("engine_failed", HEARS_PAUSE), ("engine_failed", HEARS_NOTHING)]
        assert frames_of(edge, 0) == list(range(11)), "what has left of it is ended"
        assert [(event.index, event.text) for event in edge.of(TtsDone)] == [(0, ""), (1, None)]
        assert edge.ends() == [(100, 2)]


@virtual
async def test_a_filler_is_not_apologised_for_and_does_not_stand_for_an_answer():
    edge = await started_twin()

    def filler(index: int) -> LlmSentence:
        return LlmSentence(
            call_id=CALL, at_us=EPOCH_US, turn=1, utterance_id=100, index=index, text="One moment.", filler=True
        )

    engine = ScriptedEngine([ValueError("x")], [ValueError("x")], [FRAME * 9], [ValueError("x")], [ValueError("x")])
    async with speech_call(edge, engine, apology=APOLOGY):
        await edge.answer()
        await edge.tell(filler(0), filler(1), sentence(100, 2), done(100, 3))
        await settle()
        assert [(event.index, event.text) for event in edge.of(TtsDone)] == [(0, ""), (1, None), (2, "I am sorry.")]
        assert failures(edge)[1] == ("engine_failed", HEARS_NOTHING)
        assert failures(edge)[-1] == ("engine_failed", HEARS_APOLOGY)


@virtual
async def test_an_engine_that_opens_nothing_is_a_failure_too():
    edge = await started_twin()
    engine = ScriptedEngine()
    engine.open = None  # type: ignore[assignment,method-assign]
    async with speech_call(edge, engine, apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await settle()
        assert failures(edge) == [("engine_failed", HEARS_PAUSE), ("engine_failed", HEARS_APOLOGY)]
        assert edge.ends() == [(100, 1)]


@virtual
async def test_audio_that_can_not_be_framed_is_a_failure_and_an_apology_that_can_not_is_one_too():
    for apology, hears in ((APOLOGY, HEARS_APOLOGY), (Apology("x", BAD), HEARS_NOTHING)):
        edge = await started_twin()
        async with speech_call(edge, ScriptedEngine([SpeechChunk(BAD)], [SpeechChunk(BAD)]), apology=apology):
            await edge.answer()
            await edge.tell(sentence(100, 0), done(100, 1))
            await settle()
            assert failures(edge) == [("engine_failed", HEARS_PAUSE), ("engine_failed", hears)]
            assert edge.ends() == [(100, 1)]
            await edge.tell(sentence(200, 0), done(200, 1))
            assert edge.ends()[1:] == [(200, 1)], "the call goes on"


@virtual
async def test_an_interruption_while_the_engine_hangs_ends_it_without_an_apology():
    edge = await started_twin()
    async with speech_call(edge, ScriptedEngine([100.0]), settings=DEADLINE, apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await asyncio.sleep(0.3)
        await edge.tell(TurnInterrupted(call_id=CALL, at_us=EPOCH_US, turn=2, utterance_id=100))
        await asyncio.sleep(5)
        assert edge.frames == []
        assert failures(edge) == []


@virtual
async def test_a_successor_does_not_apologise_in_a_sentence_that_was_begun_before_it():
    edge = await started_twin()
    async with speech_call(edge, ScriptedEngine([FRAME * 9, 100.0]), epoch=1):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await asyncio.sleep(0.1)
    async with speech_call(edge, ScriptedEngine([100.0], [100.0]), epoch=2, settings=DEADLINE, apology=APOLOGY):
        await asyncio.sleep(2)
        assert failures(edge) == [("engine_timeout", HEARS_PAUSE), ("engine_timeout", HEARS_NOTHING)]
        assert edge.ends() == [(100, 1)]


@virtual
async def test_a_successor_leaves_an_apology_as_it_is():
    edge = await started_twin()
    async with speech_call(edge, ScriptedEngine([ValueError("x")], [ValueError("x")]), epoch=1, apology=APOLOGY):
        await edge.answer()
        await edge.tell(sentence(100, 0))
        await settle()
    before = len(edge.frames)
    engine = ScriptedEngine()
    async with speech_call(edge, engine, epoch=2, apology=APOLOGY):
        await edge.tell(PlayoutMark(call_id=CALL, at_us=EPOCH_US, utterance_id=100, index=0, media_time_ms=0))
        await edge.tell(done(100, 1))
        await settle()
        assert engine.opened == []
        assert [frame.frame_count for frame in edge.frames[before:]] == [0], "only its end is told again"


# -- the kept apology --------------------------------------------------------------------------------------------------


@virtual
async def test_the_apology_is_kept_with_its_words():
    kept = await keep_apology(ScriptedEngine([spoken("I am sorry.", 30)]), "I am sorry.")
    assert kept == replace(APOLOGY, starts=kept.starts)
    assert [word.start_ms for word in kept.words_at(100, 700)] == [100, 300, 500]
    assert [(word.text, word.start_ms, word.end_ms) for word in Apology("a b", b"").words_at(100, 300)] == [
        ("a", 100, 200), ("b", 200, 300),
    ]  # fmt: skip


@virtual
async def test_an_engine_that_does_not_say_it_leaves_the_worker_without_one():
    assert await keep_apology(ScriptedEngine(), " ") is None
    assert await keep_apology(ScriptedEngine([RuntimeError("secret")]), "Sorry.") is None
    hanging = ScriptedEngine([100.0])
    assert await keep_apology(hanging, "Sorry.", deadline_s=2.0) is None
    assert hanging.cancelled == 1
