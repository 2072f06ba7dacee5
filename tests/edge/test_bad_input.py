"""What strangers, broken telephones and broken programs send: the call goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator

import pytest

from bus import codec
from bus.dead_letter import REASON_HEADER
from bus.memory import MemoryServer
from schemas import call, failure, playout, subjects
from schemas.audio import AudioFlag, Codec, pack_audio, segment_sequence
from tests.edge.harness import Edge, running_edge, settings, until
from tests.fakes.caller import HOST, Caller, tone

pytestmark = pytest.mark.integration


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    server = MemoryServer()
    async with running_edge(server.connect("edge"), server.connect("observer")) as running:
        yield running


async def ended(edge: Edge, caller: Caller) -> call.CallEnded:
    caller.hang_up()
    return await edge.observer.wait_for(call.CallEnded)


async def test_rtp_of_a_stranger_is_not_heard(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(5))
        await until(lambda: len(edge.observer.frames) == 5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(10):
                stranger.sendto(caller.packet(b"\x00" * 160), caller.edge_rtp)
        caller.sequence, caller.timestamp = caller.sequence - 10, caller.timestamp - 1600
        await caller.talk(tone(n) for n in range(5, 10))
        await until(lambda: len(edge.observer.frames) == 10)
        last = await ended(edge, caller)
    assert [frame.payload for frame in edge.observer.frames] == [tone(n) for n in range(10)]
    assert last.media.rejected == 10


async def test_wrong_payload_types_and_other_bytes_are_refused(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(3))
        caller.send(b"")
        caller.send(b"\x80")
        caller.send(b"x" * 11)
        caller.send(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12))
        caller.send(caller.packet(tone(3), payload_type=18))
        caller.send(b"\xa0" + caller.packet(bytes(160))[1:])  # says it has padding, of 0 bytes
        await caller.talk([tone(5)])
        await until(lambda: edge.observer.frames[-1:] != [] and edge.observer.frames[-1].payload == tone(5))
        last = await ended(edge, caller)
    assert last.media.rejected >= 5
    assert [frame.sequence for frame in edge.observer.frames] == list(range(len(edge.observer.frames)))


async def test_oversize_datagrams_are_refused(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk([tone(0)])
        caller.send(caller.packet(b"z" * 60_000))
        caller.sequence, caller.timestamp = caller.sequence - 1, caller.timestamp - 60_000
        await caller.talk([tone(1)])
        await until(lambda: len(edge.observer.frames) == 2)
        last = await ended(edge, caller)
    assert last.media.rejected == 1
    assert [frame.payload for frame in edge.observer.frames] == [tone(0), tone(1)]


async def test_sequence_and_timestamp_wrap(edge: Edge) -> None:
    async with Caller() as caller:
        caller.sequence, caller.timestamp = 65_526, (1 << 32) - 10 * 160
        await caller.dial(edge.port)
        sent = await caller.talk(tone(n) for n in range(30))
        await until(lambda: len(edge.observer.frames) == 30)
        last = await ended(edge, caller)
    frames = edge.observer.frames
    assert [frame.payload for frame in frames] == sent
    assert [frame.sequence for frame in frames] == list(range(30))
    assert all(frame.flags is AudioFlag.NONE for frame in frames)
    assert frames[-1].media_time - frames[0].media_time == 29 * 160
    assert (last.media.lost, last.media.ssrc_changes) == (0, 0)


async def test_a_gap_is_marked_and_sequence_stays_contiguous(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(3))
        for _ in range(2):
            caller.packet(tone(9))  # never sent
        await caller.talk(tone(n) for n in range(5, 8))
        await until(lambda: len(edge.observer.frames) == 6)
        last = await ended(edge, caller)
    frames = edge.observer.frames
    assert [frame.sequence for frame in frames] == list(range(6))
    assert [bool(frame.flags & AudioFlag.GAP) for frame in frames] == [False, False, False, True, False, False]
    assert frames[3].media_time - frames[2].media_time == 3 * 160
    assert last.media.lost == 2


async def test_frames_of_other_lengths_travel_as_they_are(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk([tone(1, 240), tone(2, 240), tone(3, 80), b"\x01"])
        await until(lambda: len(edge.observer.frames) == 4)
        await ended(edge, caller)
    assert [len(frame.payload) for frame in edge.observer.frames] == [240, 240, 80, 1]
    assert [frame.frame_count for frame in edge.observer.recorded["rec.in"]] == [2, 1, 1]


async def test_audio_out_that_does_not_decode_goes_to_the_dead_letters(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        subject = subjects.live_audio("out", edge.observer.call_id)
        edge.observer.connection.publish(subject, b"rubbish")
        await until(lambda: len(edge.observer.dead) == 1)
        assert "shorter than its" in edge.observer.dead[0].headers[REASON_HEADER]
        assert edge.observer.dead[0].data == b"rubbish"
        edge.observer.connection.publish(
            subject, pack_audio(tone(7), sequence=segment_sequence(0, 0), flags=AudioFlag.SEGMENT_END)
        )
        await caller.hear([tone(7)])
        await ended(edge, caller)


async def test_audio_out_in_another_codec_is_a_failure_said_once(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        subject = subjects.live_audio("out", edge.observer.call_id)
        for number in range(3):
            edge.observer.connection.publish(subject, pack_audio(tone(7), sequence=number, codec=Codec.PCMA))
        said = await edge.observer.wait_for(failure.Failure)
        assert (said.code, said.stage) == ("bad_message", "edge")
        assert "PCMA" in said.detail
        await ended(edge, caller)
    assert len(edge.observer.of(failure.Failure)) == 1
    assert edge.observer.of(playout.PlayoutStarted) == []


async def test_a_command_that_does_not_decode_is_answered_and_buried(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        subject = subjects.control_of("edge", edge.observer.call_id, command="nonsense")
        reply = await edge.observer.connection.request(subject, b'{"type":"control.nonsense.v1"}')
        assert json.loads(reply.data)["error"] == "bad_message"
        await until(lambda: len(edge.observer.dead) == 1)
        await ended(edge, caller)


@pytest.mark.parametrize(
    ("from_uri", "caller_is"),
    [
        ("sip:" + "a" * 300 + "@example.org", "a" * 64),
        ("sip:%22%0d%0a%00x@example.org", '"\N{REPLACEMENT CHARACTER}' * 1 + "\N{REPLACEMENT CHARACTER}" * 2 + "x"),
        ("sip:%ff%fe@example.org", None),
    ],
)
async def test_any_bytes_in_a_user_part_leave_readable_json(edge: Edge, from_uri: str, caller_is: str | None) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port, from_uri=from_uri)
        offered = await edge.observer.wait_for(call.CallOffered)
        assert len(offered.caller) <= 64
        assert offered.caller.isprintable()
        if caller_is is not None:
            assert offered.caller == caller_is
        json.loads(codec.encode(offered))
        await ended(edge, caller)


async def test_silence_for_too_long_ends_the_call_but_not_on_hold() -> None:
    server = MemoryServer()
    section = settings(media_timeout_ms=600)
    async with running_edge(server.connect("edge"), server.connect("observer"), section) as edge, Caller() as caller:
        await caller.dial(edge.port)
        await caller.hold()
        await until(lambda: edge.observer.of(call.CallHeld) != [])
        held_at = len(caller.events)
        for _ in range(20):
            await caller.talk([tone(1)], every_s=0.1)
        assert len(caller.events) == held_at
        await caller.hold_off()
        last = await edge.observer.wait_for(call.CallEnded)
        assert (last.result, last.reason, last.ended_by) == ("failed", "media_timeout", "edge")
        assert edge.observer.of(failure.Failure)[0].code == "media_timeout"


async def test_sip_junk_is_counted_and_nothing_falls(edge: Edge) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for junk in (b"", b"\x00" * 50, b"INVITE\r\n\r\n", b"\xff" * 65_000, b"OPTIONS sip:a@b SIP/2.0\r\n\r\n" * 5):
            peer.sendto(junk, (HOST, edge.port))
    async with Caller() as caller:
        await caller.dial(edge.port)
        await ended(edge, caller)
    assert edge.board.signalling.defects >= 1
