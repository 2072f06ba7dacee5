"""``control.say`` to the tts stage: a text said as an utterance without the llm stage."""

from __future__ import annotations

import asyncio

import pytest

from bus.control import send_control
from schemas.control import ControlReply, Say
from schemas.failure import Failure
from schemas.llm import LlmSentence
from schemas.playout import PlayoutFlushed
from schemas.tts import TtsDone, TtsStarted
from services.tts.commands import TEXT_LIMIT
from tests.services.tts.edge_twin import CALL, EPOCH_US, EdgeTwin, done, sentence, settle, speech_call
from tests.services.tts.scripted import FRAME, ScriptedEngine, started_twin, virtual

pytestmark = pytest.mark.unit

TEXT = "I am sorry. Please say that again."


async def say(edge: EdgeTwin, utterance_id: int | None = 199, text: str = TEXT) -> ControlReply:
    reply = await send_control(edge.connection, "tts", Say(call_id=CALL, text=text, utterance_id=utterance_id))
    await settle()
    return reply


@virtual
async def test_the_text_is_said_sentence_by_sentence_and_told_with_its_words():
    edge = await started_twin()
    async with speech_call(edge):
        await edge.answer()
        assert await say(edge) == ControlReply(ok=True)
        assert {(label.utterance_id, label.sentence) for label in edge.labels()} == {(199, 0), (199, 1)}
        assert edge.ends() == [(199, 2)]
        assert [(event.turn, event.utterance_id, event.index) for event in edge.of(TtsStarted)] == [
            (1, 199, 0), (1, 199, 1),
        ]  # fmt: skip
        first, second = edge.of(TtsDone)
        assert (first.text, second.text) == ("I am sorry.", "Please say that again.")
        assert [word.text for word in second.words] == ["Please", "say", "that", "again."]


@virtual
async def test_the_same_command_again_is_answered_alike_and_said_once():
    edge = await started_twin()
    async with speech_call(edge):
        await edge.answer()
        assert (await say(edge)).ok
        frames = len(edge.frames)
        assert (await say(edge)).ok
        await edge.tell(PlayoutFlushed(call_id=CALL, at_us=EPOCH_US, utterance_id=199, media_time_ms=0))
        assert (await say(edge)).ok
        assert len(edge.frames) == frames
        assert (await say(edge, text="Something else.")).error == "unknown_utterance"


@virtual
async def test_what_can_not_be_said_is_refused_with_words():
    edge = await started_twin()
    async with speech_call(edge):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        frames = len(edge.frames)
        refused = [
            (await say(edge, None), "not_supported"),
            (await say(edge, text=""), "invalid_argument"),
            (await say(edge, text=" ... "), "invalid_argument"),
            (await say(edge, text="a" * (TEXT_LIMIT + 1)), "invalid_argument"),
            (await say(edge, 100), "unknown_utterance"),
        ]
        await edge.tell(PlayoutFlushed(call_id=CALL, at_us=EPOCH_US, utterance_id=300, media_time_ms=0))
        refused.append((await say(edge, 300), "unknown_utterance"))
        for reply, error in refused:
            assert (reply.ok, reply.error) == (False, error)
            assert reply.message
        assert len(edge.frames) == frames
        assert (await say(edge, 400, "a" * TEXT_LIMIT)).ok


@virtual
async def test_older_utterances_of_the_turn_are_void_and_those_of_other_turns_are_not():
    edge = await started_twin()
    engine = ScriptedEngine([FRAME * 9, 100.0], [FRAME], [FRAME])
    async with speech_call(edge, engine):
        await edge.answer()
        await edge.tell(sentence(100, 0), sentence(100, 1), sentence(101, 0))
        await asyncio.sleep(0.1)
        assert (await say(edge)).ok
        assert engine.cancelled >= 1
        await edge.tell(sentence(100, 2), done(100, 3), sentence(150, 0), sentence(0, 0, "still said"))
        await asyncio.sleep(5)
        assert engine.opened == ["hello there", "I am sorry.", "Please say that again.", "still said"]
        assert edge.ends() == [(100, 0), (199, 2)], "the edge waits for no more of what it has begun"
        assert (await say(edge, 150)).error == "unknown_utterance"


@virtual
async def test_it_is_said_in_the_language_of_the_conversation_and_once_the_codec_is_known():
    edge = await started_twin()
    engine = ScriptedEngine()
    async with speech_call(edge, engine):
        await edge.tell(
            LlmSentence(call_id=CALL, at_us=EPOCH_US, turn=0, utterance_id=0, index=0, text="Guten Tag", language="de")
        )
        assert (await say(edge, text="Entschuldigung.")).ok
        assert engine.opened == []
        await edge.answer()
        assert engine.languages == ["de", "de"]


@virtual
async def test_a_successor_ends_it_and_tells_what_was_lost():
    edge = await started_twin()
    engine = ScriptedEngine([FRAME * 9], [FRAME * 9, 100.0])
    async with speech_call(edge, engine, epoch=1):
        await edge.answer()
        assert (await say(edge)).ok
        await asyncio.sleep(0.1)
    assert edge.ends() == []
    engine = ScriptedEngine()
    async with speech_call(edge, engine, epoch=2):
        await asyncio.sleep(1.9)
        assert edge.ends() == []
        await asyncio.sleep(3)
        assert edge.ends() == [(199, 2)]
        assert engine.opened == []
        (failure,) = edge.of(Failure)
        assert (failure.code, failure.turn) == ("bad_message", 1)
        assert [(event.index, event.text, event.frames) for event in edge.of(TtsDone)] == [
            (0, "I am sorry.", 10), (1, "", 0),
        ]  # fmt: skip
