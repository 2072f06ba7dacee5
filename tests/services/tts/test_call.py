"""One call in the tts stage on the in-memory bus: order, marks, interruption, takeover, flow."""

from __future__ import annotations

import asyncio

import pytest

from bus.control import send_control
from schemas.audio import AudioFlag, Codec, split_segment_sequence
from schemas.call import CallHeld
from schemas.control import Flush, Pause
from schemas.failure import Failure
from schemas.playout import PlayoutFlushed, PlayoutMark, PlayoutPaused, PlayoutResumed, PlayoutStarted
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted
from services.tts import call as call_module
from services.tts.ahead import PAUSE_LIMIT_S
from services.tts.engines.instant import frame_count
from tests.fakes.virtual import run_virtual
from tests.services.tts.edge_twin import CALL, EPOCH_US, done, ended, sentence, settle, speech_call, wait_for
from tests.services.tts.scripted import ScriptedEngine, started_twin, virtual

pytestmark = pytest.mark.unit

TEXT = "hello there"
FRAMES = frame_count(TEXT)


@virtual
async def test_an_utterance_is_said_frame_by_frame_and_told():
    edge = await started_twin()
    async with speech_call(edge) as call:
        await edge.answer()
        await edge.tell(sentence(100, 0), sentence(100, 1, "bye"), done(100, 2))
        await settle()
        expected = [(100, 0, n) for n in range(FRAMES)] + [(100, 1, n) for n in range(frame_count("bye"))]
        assert edge.labels() == expected
        assert edge.ends() == [(100, 2)]
        assert edge.frames[0].frame_count == 1, "the first frame leaves alone"
        assert max(frame.frame_count for frame in edge.frames) == 5
        closing = [split_segment_sequence(f.sequence)[0] for f in edge.frames if f.flags & AudioFlag.SEGMENT_END]
        assert closing == [0, 1]
        (first, second) = edge.of(TtsStarted)
        assert (first.turn, first.utterance_id, first.index, first.epoch, first.engine) == (1, 100, 0, 1, "instant")
        assert first.ttfb_ms < 50
        assert second.index == 1
        (first_done, _) = edge.of(TtsDone)
        assert first_done.frames * 20 == first_done.duration_ms
        assert [word.text for word in first_done.words] == ["hello", "there"]
        assert not first_done.proportional
        assert call.figures["sentences"] == 2


@virtual
async def test_sentences_out_of_order_are_said_in_order():
    edge = await started_twin()
    async with speech_call(edge):
        await edge.answer()
        await edge.tell(done(100, 3), sentence(100, 2), sentence(100, 0), sentence(100, 1))
        await settle()
        assert [label.sentence for label in edge.labels()] == [0] * FRAMES + [1] * FRAMES + [2] * FRAMES
        assert edge.ends() == [(100, 3)]


@virtual
async def test_a_sentence_that_never_comes_is_skipped_after_two_seconds_and_reported():
    edge = await started_twin()
    async with speech_call(edge):
        await edge.answer()
        await edge.tell(sentence(100, 1), done(100, 2))
        await asyncio.sleep(1.9)
        assert edge.frames == []
        await asyncio.sleep(0.2)
        assert {label.sentence for label in edge.labels()} == {1}
        assert edge.ends() == [(100, 2)]
        (failure,) = edge.of(Failure)
        assert (failure.code, failure.stage, failure.turn, failure.number) == ("bad_message", "tts", 1, 0)


@virtual
async def test_nothing_is_said_before_the_codec_is_known_and_then_in_that_codec():
    edge = await started_twin()
    async with speech_call(edge):
        await edge.tell(sentence(0, 0), done(0, 1))
        assert edge.frames == []
        await edge.answer("PCMA")
        await settle()
        assert {frame.codec for frame in edge.frames} == {Codec.PCMA}
        assert edge.labels() == [(0, 0, n) for n in range(FRAMES)]


@virtual
async def test_an_unknown_codec_is_a_failure_not_a_crash():
    edge = await started_twin()
    async with speech_call(edge) as call:
        await edge.answer("OPUS")
        await edge.tell(sentence(0, 0), done(0, 1), ended())
        await wait_for(lambda: call.over == [CALL])
        assert [failure.code for failure in edge.of(Failure)] == ["not_supported"]


@virtual
async def test_interruption_stops_speech_at_once_and_nothing_of_it_follows():
    for event in (
        TurnInterrupted(call_id=CALL, at_us=EPOCH_US, turn=2, utterance_id=100),
        PlayoutFlushed(call_id=CALL, at_us=EPOCH_US, utterance_id=100, media_time_ms=0),
    ):
        edge = await started_twin()
        pcm = b"\x10\x20" * 160
        engine = ScriptedEngine([pcm, 1.0, pcm, 1.0, pcm])
        async with speech_call(edge, engine):
            await edge.answer()
            await edge.tell(sentence(100, 0), sentence(100, 1))
            await asyncio.sleep(0.5)
            assert len(edge.frames) == 1
            await edge.tell(event)
            assert engine.cancelled == 1
            await edge.tell(sentence(100, 2), done(100, 3))
            await asyncio.sleep(5)
            assert len(edge.frames) == 1
            assert engine.opened == [TEXT]
            await edge.tell(sentence(200, 0), done(200, 1))
            await settle()
            assert edge.ends() == [(200, 1)], "the next utterance is said"


@virtual
async def test_flush_command_ends_the_utterance_so_that_the_edge_is_not_left_waiting():
    edge = await started_twin()
    engine = ScriptedEngine([b"\x10\x20" * 160, 10.0])
    async with speech_call(edge, engine):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await asyncio.sleep(0.1)
        reply = await send_control(edge.connection, "tts", Flush(call_id=CALL))
        assert reply.ok
        await settle()
        assert edge.ends() == [(100, 0)]
        again = await send_control(edge.connection, "tts", Flush(call_id=CALL, utterance_id=100))
        assert (again.ok, again.error) == (False, "unknown_utterance")
        assert (await send_control(edge.connection, "tts", Flush(call_id=CALL))).ok, "nothing plays: nothing to do"
        other = await send_control(edge.connection, "tts", Pause(call_id=CALL))
        assert (other.ok, other.error) == (False, "not_supported")


@virtual
async def test_words_of_an_engine_without_times_are_spread_over_the_audio():
    edge = await started_twin()
    async with speech_call(edge, ScriptedEngine([bytes(320 * 5) + b"\x10\x20" * 160 * 20])):
        await edge.answer()
        await edge.tell(sentence(100, 0, "hello there"), done(100, 1))
        await settle()
        (event,) = edge.of(TtsDone)
        assert event.proportional
        assert [(word.start_ms, word.end_ms) for word in event.words] == [(100, 300), (300, 500)]
        assert edge.of(TtsStarted)[0].leading_silence_ms == 100


@virtual
async def test_a_successor_says_again_what_was_not_played_and_every_frame_plays_once():
    edge = await started_twin()
    async with speech_call(edge, epoch=1):
        await edge.answer()
        await edge.tell(sentence(100, 0), sentence(100, 1), sentence(100, 2))
        await settle()
        await edge.tell(PlayoutMark(call_id=CALL, at_us=EPOCH_US, utterance_id=100, index=0, media_time_ms=0))
    before = len(edge.labels())
    async with speech_call(edge, epoch=2):
        await edge.tell(done(100, 4), sentence(100, 3))
        await settle()
        assert {label.sentence for label in edge.labels()[before:]} == {1, 2, 3}, "what is marked is not said again"
        assert edge.played() == [(100, index, n) for index in range(4) for n in range(FRAMES)]
        assert edge.ends() == [(100, 4)]
        assert [(event.index, event.epoch) for event in edge.of(TtsDone)] == [(0, 1), (1, 1), (2, 1), (3, 2)]
        assert [event.index for event in edge.of(TtsStarted)] == [0, 1, 2, 3], "events are not repeated"


@virtual
async def test_a_successor_leaves_alone_what_was_interrupted():
    edge = await started_twin()
    await edge.answer()
    await edge.tell(
        sentence(100, 0),
        done(100, 1),
        TurnInterrupted(call_id=CALL, at_us=EPOCH_US, turn=2, utterance_id=100),
        sentence(200, 0),
        done(200, 1),
    )
    async with speech_call(edge, epoch=2):
        await settle()
        await settle()
        assert {label.utterance_id for label in edge.labels()} == {200}


@virtual
async def test_the_end_of_the_call_ends_the_work_and_is_told_once():
    edge = await started_twin()
    engine = ScriptedEngine([b"\x10\x20" * 160, 100.0])
    async with speech_call(edge, engine) as call:
        await edge.answer()
        await edge.tell(sentence(100, 0))
        await edge.tell(ended())
        await wait_for(lambda: call.over == [CALL])
        assert engine.cancelled == 1
        reply = await send_control(edge.connection, "tts", Flush(call_id=CALL))
        assert reply.error == "not_owner"


@virtual
async def test_audio_runs_45_s_ahead_of_playout_and_no_further():
    edge = await started_twin()
    second = b"\x10\x20" * 8000
    async with speech_call(edge, ScriptedEngine([second] * 100)):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await asyncio.sleep(5)

        def sent_s() -> float:
            return sum(frame.frame_count for frame in edge.frames) / 50

        assert 45 <= sent_s() <= 46.1, "nothing has been played: it waits"
        await edge.tell(PlayoutStarted(call_id=CALL, at_us=EPOCH_US, utterance_id=100, media_time_ms=0))
        await asyncio.sleep(10)
        assert 54 <= sent_s() <= 57
        await edge.tell(CallHeld(call_id=CALL, at_us=EPOCH_US, change=0, held=True))
        await asyncio.sleep(600)
        assert 54 <= sent_s() <= 57, "on hold nothing is played, and hold may last"
        await edge.tell(CallHeld(call_id=CALL, at_us=EPOCH_US, change=1, held=False))
        await asyncio.sleep(60)
        assert sent_s() == 100.0
        assert edge.ends() == [(100, 1)]


@virtual
async def test_an_edge_that_plays_nothing_does_not_keep_an_utterance_for_ever():
    edge = await started_twin()
    second = b"\x10\x20" * 8000
    engine = ScriptedEngine([second] * 100)
    async with speech_call(edge, engine):
        await edge.answer()
        await edge.tell(sentence(100, 0))
        await asyncio.sleep(call_module.STALL_LIMIT_S + 10)
        assert engine.cancelled == 1
        (failure,) = edge.of(Failure)
        assert (failure.code, failure.caller_hears) == ("turn_stuck", "silence")
        await edge.tell(sentence(200, 0), done(200, 1))
        await settle()
        assert edge.ends() == [(200, 1)]


@virtual
async def test_letting_go_stops_speech_at_its_next_wait():
    edge = await started_twin()
    engine = ScriptedEngine([b"\x10\x20" * 160, 1.0, b"\x10\x20" * 160])
    async with speech_call(edge, engine) as call:
        await edge.answer()
        await edge.tell(sentence(100, 0))
        await call.release("draining")
        await asyncio.sleep(5)
        assert engine.cancelled == 1
        assert len(edge.frames) == 1
        assert call.over == []


@virtual
async def test_speaking_that_breaks_off_is_let_go_when_the_call_ends():
    edge = await started_twin()
    async with speech_call(edge) as call:
        await edge.answer()
        vars(call._ledger)["step"] = lambda _: 1 / 0
        await edge.tell(sentence(100, 0), done(100, 1))
        await settle()
        assert edge.labels() == []
        assert call.over == []
        await edge.tell(ended())
        await wait_for(lambda: call.over == [CALL])
        assert call._feed._closed


def paused(sent_ms: int) -> PlayoutPaused:
    return PlayoutPaused(call_id=CALL, at_us=EPOCH_US, utterance_id=100, media_time_ms=sent_ms, sent_ms=sent_ms)


@virtual
async def test_a_pause_holds_audio_back_and_is_no_stall():
    edge = await started_twin()
    second = b"\x10\x20" * 8000
    async with speech_call(edge, ScriptedEngine([second] * 100)):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1))
        await edge.tell(PlayoutStarted(call_id=CALL, at_us=EPOCH_US, utterance_id=100, media_time_ms=0))
        await asyncio.sleep(10)

        def sent_s() -> float:
            return sum(frame.frame_count for frame in edge.frames) / 50

        await edge.tell(paused(10_000))
        before = sent_s()
        await asyncio.sleep(25)
        assert sent_s() <= before + 1, "what is paused makes no room"
        resumed = PlayoutResumed(call_id=CALL, at_us=EPOCH_US, utterance_id=100, media_time_ms=35_000)
        await edge.tell(resumed)
        await asyncio.sleep(60)
        assert sent_s() == 100.0
        assert edge.ends() == [(100, 1)]


@virtual
async def test_a_pause_that_is_never_taken_back_does_not_hold_audio_back_for_ever():
    edge = await started_twin()
    async with speech_call(edge, ScriptedEngine([b"\x10\x20" * 8000] * 100)):
        await edge.answer()
        await edge.tell(sentence(100, 0), done(100, 1), paused(0))
        await asyncio.sleep(PAUSE_LIMIT_S - 1)
        assert sum(frame.frame_count for frame in edge.frames) / 50 <= 46
        await asyncio.sleep(70)
        assert edge.ends() == [(100, 1)]


@virtual
async def test_an_interruption_of_what_is_paused_stops_the_work_on_it_at_once():
    for event in (
        TurnInterrupted(call_id=CALL, at_us=EPOCH_US, turn=2, utterance_id=100),
        PlayoutFlushed(call_id=CALL, at_us=EPOCH_US, utterance_id=100, media_time_ms=0),
    ):
        edge = await started_twin()
        engine = ScriptedEngine([b"\x10\x20" * 8000] * 100, [b"\x10\x20" * 160])
        async with speech_call(edge, engine):
            await edge.answer()
            await edge.tell(sentence(100, 0), done(100, 1), paused(2000))
            await asyncio.sleep(5)
            frames = len(edge.frames)
            await edge.tell(event)
            assert engine.cancelled == 1
            await asyncio.sleep(5)
            assert len(edge.frames) == frames
            await edge.tell(sentence(200, 0), done(200, 1))
            assert edge.ends() == [(200, 1)], "a pause of what is over holds nothing up"


def test_time_under_way_and_time_in_the_queue_are_told_apart(monkeypatch):
    run_virtual(under_way_and_in_the_queue(monkeypatch))


async def under_way_and_in_the_queue(monkeypatch) -> None:
    now_us = EPOCH_US + 2500
    monkeypatch.setattr(call_module, "wall_us", lambda: now_us)
    edge = await started_twin()
    async with speech_call(edge, ScriptedEngine([0.2, b"\x10\x20" * 160, 0.3, b"\x10\x20" * 160])):
        await edge.answer()
        await edge.tell(sentence(100, 0), sentence(100, 1), done(100, 2))
        await asyncio.sleep(2)
        first, second = edge.of(TtsStarted)
        assert (first.bus_hop_ms, round(first.queue_wait_ms), round(first.ttfb_ms)) == (2.5, 0, 200)
        assert (second.bus_hop_ms, round(second.queue_wait_ms), round(second.ttfb_ms)) == (2.5, 500, 500)
        now_us = EPOCH_US - 9000
        await edge.tell(sentence(200, 0), done(200, 1))
        assert edge.of(TtsStarted)[2].bus_hop_ms == 0, "clocks that differ make no time"
