"""One call on real sockets, the bus in memory: from INVITE to the last event."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from bus import codec
from bus.control import send_control
from bus.memory import MemoryServer
from edge.media.rtcp import Goodbye, SenderReport
from edge.sip import events as sip
from edge.sip.dtmf_info import DTMF_RELAY, build_dtmf_relay
from edge.sip.events import Transport
from edge.sip.negotiation import LocalMedia, OfferAnswer
from edge.sip.sdp import Direction
from schemas import audio, call, control, playout, subjects
from schemas.audio import AudioFrame, Codec
from tests.edge.agent import finish, frames_of, speak
from tests.edge.harness import Edge, running_edge, settings, until
from tests.fakes.caller import EVENT_TYPE, HOST, Caller, tone

pytestmark = pytest.mark.integration


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
async def edge(server: MemoryServer) -> AsyncIterator[Edge]:
    async with running_edge(server.connect("edge"), server.connect("observer")) as running:
        yield running


async def test_a_call_from_invite_to_bye(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port, user="bank", from_uri="sip:alice@example.org")
        sent = await caller.talk(tone(n) for n in range(25))
        await until(lambda: len(edge.observer.frames) == 25)
        caller.hang_up()
        ended = await edge.observer.wait_for(call.CallEnded)
    observer = edge.observer
    assert [type(event) for event in observer.events] == [call.CallOffered, call.CallAnswered, call.CallEnded]
    offered, answered = observer.events[0], observer.events[1]
    assert isinstance(offered, call.CallOffered)
    assert (offered.caller, offered.called, offered.transport) == ("alice", "bank", "udp")
    assert offered.codecs[:2] == ("PCMU", "PCMA")
    assert isinstance(answered, call.CallAnswered)
    assert (answered.codec, answered.clock_rate_hz, answered.frame_ms) == ("PCMU", 8000, 20)
    assert (ended.result, ended.reason, ended.ended_by) == ("completed", "caller_hung_up", "caller")
    assert ended.media.packets_received == 25
    assert ended.setup.answered_ms is not None
    assert ended.setup.acknowledged_ms is not None
    assert [frame.sequence for frame in observer.frames] == list(range(25))
    assert [frame.payload for frame in observer.frames] == sent
    assert frames_of(observer.recorded["rec.in"]) == sent
    times = [frame.media_time for frame in observer.frames]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [160] * 24


async def test_recorded_chunks_are_contiguous_and_200_ms(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(24))
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    chunks = edge.observer.recorded["rec.in"]
    assert [chunk.frame_count for chunk in chunks] == [10, 10, 4]
    assert [chunk.sequence for chunk in chunks] == [0, 10, 20]
    assert chunks[1].media_time - chunks[0].media_time == 1600


async def test_what_the_agent_says_is_heard_marked_and_recorded(edge: Edge) -> None:
    words = [tone(1000 + n) for n in range(12)]
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        speak(edge, 0, 0, words[:6])
        speak(edge, 0, 1, words[6:])
        finish(edge, 0, 2)
        done = await edge.observer.wait_for(playout.PlayoutFinished)
        await caller.hear(words)
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    observer = edge.observer
    started = observer.of(playout.PlayoutStarted)[0]
    marks = observer.of(playout.PlayoutMark)
    assert [(mark.utterance_id, mark.index) for mark in marks] == [(0, 0), (0, 1)]
    assert done.frames == 12
    assert marks[0].media_time_ms - started.media_time_ms == 120
    assert done.media_time_ms - started.media_time_ms == 240
    assert frames_of(observer.recorded["rec.out"]) == words
    assert observer.recorded["rec.out"][0].media_time == started.media_time_ms * 8


async def test_silence_is_sent_between_utterances_and_not_recorded(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await until(lambda: len(caller.rtp_in) >= 10)
        assert {packet.payload for packet in caller.heard()} == {bytes([Codec.PCMU.silence]) * 160}
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    assert edge.observer.recorded["rec.out"] == []


async def test_flush_takes_effect_within_one_frame(edge: Edge) -> None:
    words = [tone(2000 + n) for n in range(200)]
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        speak(edge, 100, 0, words)
        await until(lambda: caller.has_heard(words[:5]))
        reply = await send_control(
            edge.observer.connection, "edge", control.Flush(call_id=edge.observer.call_id, reason="barge_in")
        )
        heard_at_flush = sum(1 for packet in caller.heard() if packet.payload in words)
        assert reply.ok
        flushed = await edge.observer.wait_for(playout.PlayoutFlushed)
        before = len(caller.rtp_in)
        await until(lambda: len(caller.rtp_in) >= before + 5)
        heard = [packet.payload for packet in caller.heard() if packet.payload in words]
        assert len(heard) <= heard_at_flush + 1
        assert (flushed.utterance_id, flushed.index, flushed.why) == (100, 0, "barge_in")
        assert flushed.sent_ms == len(heard) * 20
        assert flushed.sent_ms + flushed.dropped_ms == 4000
        speak(edge, 100, 0, words)
        again = await send_control(edge.observer.connection, "edge", control.Flush(call_id=edge.observer.call_id))
        assert again.error == "unknown_utterance"
        caller.hang_up()
        ended = await edge.observer.wait_for(call.CallEnded)
    assert ended.media.frames_dropped_stale == 200
    assert frames_of(edge.observer.recorded["rec.out"]) == heard


async def test_a_sentence_said_again_by_a_successor_plays_only_what_is_missing(edge: Edge) -> None:
    words = [tone(3000 + n) for n in range(10)]
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        speak(edge, 0, 0, words[:4], end=False)
        await until(lambda: caller.has_heard(words[:4]))
        speak(edge, 0, 0, words)
        finish(edge, 0)
        await edge.observer.wait_for(playout.PlayoutFinished)
        await until(lambda: caller.has_heard(words[4:]))
        assert [packet.payload for packet in caller.heard() if packet.payload in words] == words
        caller.hang_up()


@pytest.mark.parametrize("source", ["rtp", "info"])
async def test_keys(edge: Edge, source: str) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        if source == "rtp":
            await caller.talk(tone(n) for n in range(3))
            await caller.press("42#")
        else:
            for digit in "42#":
                await caller.info(DTMF_RELAY, build_dtmf_relay(digit, 120))
        await edge.observer.wait_for(call.DtmfIn, 3)
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    keys = edge.observer.of(call.DtmfIn)
    assert [(key.press, key.digit, key.source) for key in keys] == [
        (1, "4", source),
        (2, "2", source),
        (3, "#", source),
    ]
    assert all(key.duration_ms >= 100 for key in keys)
    # Telephone events are no audio.
    assert len(edge.observer.frames) == (3 if source == "rtp" else 0)


async def test_hold_and_resume_are_mirrored_and_told(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await until(lambda: len(caller.rtp_in) > 3)
        answer = caller.negotiation
        held = await caller.hold(Direction.SENDONLY)
        assert held.direction is Direction.SENDONLY  # recvonly at the edge, seen from here
        told = await edge.observer.wait_for(call.CallHeld)
        assert (told.change, told.held, told.direction) == (1, True, "recvonly")
        await until(lambda: True)
        before = len(caller.rtp_in)
        await caller.talk((tone(n) for n in range(10)), every_s=0.02)
        assert len(caller.rtp_in) - before <= 1  # one may have been on its way
        resumed = await caller.hold(Direction.SENDRECV)
        assert resumed.direction is Direction.SENDRECV
        told = await edge.observer.wait_for(call.CallHeld, 2)
        assert (told.change, told.held, told.direction) == (2, False, "sendrecv")
        count = len(caller.rtp_in)
        await until(lambda: len(caller.rtp_in) > count + 3)
        assert answer.media is not None
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_cancel_before_the_answer(server: MemoryServer) -> None:
    section = settings(ring_ms=10_000)
    async with running_edge(server.connect("edge"), server.connect("observer"), section) as edge, Caller() as caller:
        caller.invite(edge.port)
        ringing = await caller.wait_for(sip.RingingReceived)
        assert ringing.status == 180
        await edge.observer.wait_for(call.CallOffered)
        caller.hang_up()
        ended = await edge.observer.wait_for(call.CallEnded)
        assert (ended.result, ended.reason, ended.duration_ms) == ("cancelled", "caller_cancelled", 0)
        assert ended.setup.ringing_ms is not None
        assert ended.setup.answered_ms is None
        await until(lambda: not edge.board.calls)


async def test_it_rings_then_answers(server: MemoryServer) -> None:
    async with (
        running_edge(server.connect("edge"), server.connect("observer"), settings(ring_ms=60)) as edge,
        Caller() as caller,
    ):
        await caller.dial(edge.port)
        assert any(isinstance(event, sip.RingingReceived) for event in caller.events)
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_the_agent_hangs_up(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        reply = await send_control(
            edge.observer.connection, "edge", control.Hangup(call_id=edge.observer.call_id, reason="goodbye_said")
        )
        assert reply.ok
        await caller.wait_for(sip.CallHungUp)
        ended = await edge.observer.wait_for(call.CallEnded)
    assert (ended.result, ended.reason, ended.ended_by) == ("completed", "goodbye_said", "agent")
    after = await send_control(edge.observer.connection, "edge", control.Pause(call_id=ended.call_id))
    assert after.error == "not_owner"


async def test_commands_that_cannot_be_carried_out(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        connection, call_id = edge.observer.connection, edge.observer.call_id
        for command, error in (
            (control.Transfer(call_id=call_id, target="nobody"), "invalid_argument"),
            (control.Say(call_id=call_id, text="hello"), "not_supported"),
            (control.SendDtmf(call_id=call_id, digits="12x"), "invalid_argument"),
            (control.SendDtmf(call_id=call_id, digits=""), "invalid_argument"),
        ):
            assert (await send_control(connection, "edge", command)).error == error
        caller.hang_up()


async def test_keys_to_the_caller(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        command = control.SendDtmf(call_id=edge.observer.call_id, digits="5")
        assert (await send_control(edge.observer.connection, "edge", command)).ok
        await until(lambda: sum(packet.payload_type == EVENT_TYPE for packet in caller.heard()) >= 5)
        events = [packet for packet in caller.heard() if packet.payload_type == EVENT_TYPE]
        assert events[0].marker
        assert events[0].payload[0] == 5
        caller.hang_up()


async def test_over_tcp(edge: Edge) -> None:
    async with Caller(Transport.TCP) as caller:
        await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(5))
        await until(lambda: len(edge.observer.frames) == 5)
        caller.hang_up()
        ended = await edge.observer.wait_for(call.CallEnded)
    assert ended.reason == "caller_hung_up"
    assert edge.observer.of(call.CallOffered)[0].transport == "tcp"


async def test_late_offer_starts_media_with_the_ack(edge: Edge) -> None:
    async with Caller() as caller:
        caller.invite(edge.port, sdp=b"")
        answered = await caller.wait_for(sip.CallAnswered)
        assert answered.answer is not None
        answer = OfferAnswer(LocalMedia(address=HOST, port=caller._pair.port, session_id=5, codecs=("PCMA",)))
        caller.acknowledge(answer.answer(answered.answer))
        told = await edge.observer.wait_for(call.CallAnswered)
        assert told.codec == "PCMA"
        await until(lambda: len(caller.rtp_in) > 2)
        assert {packet.payload for packet in caller.heard()} == {b"\xd5" * 160}
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_replay_gives_what_the_ring_holds(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        sent = await caller.talk(tone(n) for n in range(40))
        await until(lambda: len(edge.observer.frames) == 40)
        connection, call_id = edge.observer.connection, edge.observer.call_id
        got: list[AudioFrame] = []
        await connection.subscribe("_INBOX.asr.replayed", lambda message: got.append(audio.unpack_audio(message.data)))
        request = control.ReplayRequest(call_id=call_id, from_sequence=7, reply_to="_INBOX.asr.replayed")
        answer = await connection.request(subjects.replay(call_id), codec.encode(request))
        reply = codec.decode(answer.data, control.ReplayReply)
        assert (reply.first_sequence, reply.next_sequence) == (7, 40)
        await until(lambda: sum(message.frame_count for message in got) == 33)
        assert frames_of(got) == sent[7:]
        assert got[0].sequence == 7
        assert max(message.frame_count for message in got) > 10
        request = control.ReplayRequest(call_id=call_id, from_sequence=99, reply_to="_INBOX.asr.replayed")
        answer = await connection.request(subjects.replay(call_id), codec.encode(request))
        reply = codec.decode(answer.data, control.ReplayReply)
        assert (reply.first_sequence, reply.next_sequence) == (40, 40)
        caller.hang_up()


@pytest.mark.parametrize(
    "reply_to",
    ["call.default.x.asr.final", "rt.default.x.audio.in", "$JS.API.STREAM.PURGE.CALLS", "_INBOX.>", "", "_INBOX.a b"],
)
async def test_replay_to_a_subject_of_others_is_refused(edge: Edge, reply_to: str) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        call_id = edge.observer.call_id
        request = control.ReplayRequest(call_id=call_id, from_sequence=0, reply_to=reply_to)
        edge.observer.connection.publish(subjects.replay(call_id), codec.encode(request))
        await until(lambda: len(edge.observer.dead) == 1)
        caller.hang_up()


async def test_reports_are_exchanged(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk((tone(n) for n in range(5)), every_s=0.02)
        await until(lambda: any(isinstance(report, SenderReport) for report in caller.reports()), 9.0)
        first = next(report for report in caller.reports() if isinstance(report, SenderReport))
        assert first.packets > 10
        assert first.blocks[0].ssrc == caller.ssrc
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
        await until(lambda: any(isinstance(report, Goodbye) for report in caller.reports()))
