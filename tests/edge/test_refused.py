"""Calls that are not taken, and why."""

from __future__ import annotations

import socket

import pytest

from bus import codec
from bus.memory import MemoryServer
from edge.sip import events as sip
from schemas import call, subjects
from schemas.session import Stage, WorkerRecord
from tests.edge.harness import running_edge, settings, until
from tests.fakes.caller import HOST, Caller

pytestmark = pytest.mark.integration

VIDEO_ONLY = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 4000 RTP/AVP 96\r\n"
UNKNOWN_CODEC = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 18 96\r\na=rtpmap:96 opus/48000/2\r\n"
)
ENCRYPTED = UNKNOWN_CODEC.replace(b"RTP/AVP 18 96", b"RTP/SAVP 0")


@pytest.mark.parametrize("sdp", [VIDEO_ONLY, UNKNOWN_CODEC, ENCRYPTED], ids=["no audio", "unknown codec", "encrypted"])
async def test_nothing_in_common_is_488(sdp: bytes) -> None:
    server = MemoryServer()
    async with running_edge(server.connect("edge"), server.connect("observer")) as edge, Caller() as caller:
        refused = await caller.refused(edge.port, sdp=sdp)
        assert refused.status == 488
        assert refused.retry_after_s is None
        assert edge.board.calls == {}
        assert edge.observer.events == []


async def test_one_call_over_the_limit_is_503_and_the_first_goes_on() -> None:
    server = MemoryServer()
    section = settings(max_calls=1, retry_after_s=7)
    async with (
        running_edge(server.connect("edge"), server.connect("observer"), section) as edge,
        Caller() as first,
        Caller() as second,
    ):
        await first.dial(edge.port)
        refused = await second.refused(edge.port)
        assert (refused.status, refused.retry_after_s) == (503, 7)
        assert len(edge.board.calls) == 1
        first.hang_up()
        await edge.observer.wait_for(call.CallEnded)
        await until(lambda: not edge.board.calls)
        await second.dial(edge.port)
        second.hang_up()


async def test_one_more_call_of_the_same_caller_is_486() -> None:
    server = MemoryServer()
    async with (
        running_edge(server.connect("edge"), server.connect("observer"), settings(max_calls_per_caller=1)) as edge,
        Caller() as first,
        Caller() as second,
    ):
        await first.dial(edge.port)
        refused = await second.refused(edge.port)
        assert (refused.status, refused.retry_after_s) == (486, None)
        first.hang_up()
        await edge.observer.wait_for(call.CallEnded)
        await until(lambda: not edge.board.calls)
        await second.dial(edge.port)
        second.hang_up()


async def test_a_required_stage_without_a_free_slot_is_503_until_a_worker_has_one() -> None:
    server = MemoryServer()
    section = settings(required_stages="asr")
    async with (
        running_edge(server.connect("edge"), server.connect("observer"), section) as edge,
        Caller() as early,
        Caller() as late,
    ):
        assert (await early.refused(edge.port)).status == 503
        record = WorkerRecord(stage=Stage.ASR, worker="asr-1", calls=0, slots=1)
        edge.observer.connection.publish(subjects.heartbeat("asr", "asr-1"), codec.encode(record))
        await until(lambda: edge.admission.refusal(calls=0, bus_connected=True) is None)
        await late.dial(edge.port)
        late.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_no_rtp_port_is_503() -> None:
    server = MemoryServer()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        port = taken.getsockname()[1] & ~1
        section = settings(rtp_port_min=port, rtp_port_max=port + 1)
        async with (
            running_edge(server.connect("edge"), server.connect("observer"), section) as edge,
            Caller() as caller,
        ):
            refused = await caller.refused(edge.port)
            assert refused.status == 503
            assert refused.retry_after_s == 5


async def test_a_draining_edge_refuses_and_keeps_what_it_has() -> None:
    server = MemoryServer()
    async with (
        running_edge(server.connect("edge"), server.connect("observer")) as edge,
        Caller() as first,
        Caller() as second,
    ):
        await first.dial(edge.port)
        edge.admission.draining = True
        assert (await second.refused(edge.port)).status == 503
        assert len(edge.board.calls) == 1
        edge.board.hang_up_all("edge_stopping")
        await first.wait_for(sip.CallHungUp)
        ended = await edge.observer.wait_for(call.CallEnded)
        assert (ended.reason, ended.ended_by) == ("edge_stopping", "edge")


async def test_a_reinvite_that_cannot_be_taken_leaves_the_call_as_it_is() -> None:
    server = MemoryServer()
    async with running_edge(server.connect("edge"), server.connect("observer")) as edge, Caller() as caller:
        await caller.dial(edge.port)
        caller.reinvite(UNKNOWN_CODEC)
        rejected = await caller.wait_for(sip.ReinviteRejected)
        assert rejected.status == 488
        count = len(caller.rtp_in)
        await until(lambda: len(caller.rtp_in) > count + 3)
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_an_empty_reinvite_is_answered_with_our_offer() -> None:
    server = MemoryServer()
    async with running_edge(server.connect("edge"), server.connect("observer")) as edge, Caller() as caller:
        await caller.dial(edge.port)
        caller.reinvite(b"")
        answered = await caller.wait_for(sip.ReinviteAnswered)
        assert answered.answer is not None
        assert answered.answer.codecs[0] == "PCMU"
        caller.acknowledge(caller.negotiation.answer(answered.answer))
        count = len(caller.rtp_in)
        await until(lambda: len(caller.rtp_in) > count + 3)
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_a_set_up_that_fails_is_a_refusal_not_a_silence() -> None:
    server = MemoryServer()
    edge_side = server.connect("edge")
    async with running_edge(edge_side, server.connect("observer")) as edge, Caller() as caller:

        async def refuse(*_: object, **__: object) -> None:
            raise OSError("no more subscriptions")

        edge_side.subscribe = refuse  # type: ignore[method-assign, assignment]
        refused = await caller.refused(edge.port)
        assert refused.status == 500
        await until(lambda: not edge.board.calls)
        assert edge.observer.events == []
