"""What seldom happens in a call, and must end well all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.control import send_control
from bus.interface import Subscription
from bus.memory import MemoryServer
from edge.media.reports import RtcpReporter
from edge.media.rtcp import ReceiverReport, build_compound
from edge.sip import events as sip
from edge.sip.events import CallFailed, InfoReceived
from edge.sip.sdp import Direction
from schemas import call, control, playout, subjects
from schemas.audio import pack_audio, segment_sequence
from tests.edge.harness import Edge, running_edge, settings, until
from tests.fakes.caller import Caller, tone

pytestmark = pytest.mark.integration

NO_AUDIO = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n"


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
async def edge(server: MemoryServer) -> AsyncIterator[Edge]:
    async with running_edge(server.connect("edge"), server.connect("observer")) as running:
        yield running


async def test_a_late_offer_that_is_refused_ends_the_call(edge: Edge) -> None:
    async with Caller() as caller:
        caller.invite(edge.port, sdp=b"")
        await caller.wait_for(sip.CallAnswered)
        caller.acknowledge(NO_AUDIO)
        ended = await edge.observer.wait_for(call.CallEnded)
        assert (ended.result, ended.reason) == ("failed", "no_codec")
        await caller.wait_for(sip.CallHungUp)
    assert edge.observer.of(call.CallAnswered) == []


async def test_the_agent_may_hang_up_while_it_rings(server: MemoryServer) -> None:
    async with (
        running_edge(server.connect("edge"), server.connect("observer"), settings(ring_ms=10_000)) as edge,
        Caller() as caller,
    ):
        caller.invite(edge.port)
        await edge.observer.wait_for(call.CallOffered)
        command = control.Hangup(call_id=edge.observer.call_id)
        assert (await send_control(edge.observer.connection, "edge", command)).ok
        rejected = await caller.wait_for(sip.CallRejected)
        assert rejected.status >= 400
        ended = await edge.observer.wait_for(call.CallEnded)
        assert (ended.result, ended.reason, ended.ended_by) == ("rejected", "agent_hung_up", "agent")


async def test_a_caller_who_gives_up_during_set_up_leaves_nothing_behind(server: MemoryServer) -> None:
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller:
        subscribe = connection.subscribe
        open_now: list[str] = []
        gate = asyncio.Event()

        async def slowly(subject: str, *arguments: Any, **options: Any) -> Subscription:
            await gate.wait()
            open_now.append(subject)
            return await subscribe(subject, *arguments, **options)

        connection.subscribe = slowly  # type: ignore[method-assign]
        caller.invite(edge.port)
        await until(lambda: len(edge.board.calls) == 1)
        caller.hang_up()
        await until(lambda: not edge.board.calls)
        gate.set()
        await until(lambda: not edge.board._tasks)
        assert len([subject for subject in open_now if subject.startswith("rt.")]) == 3
        subjects_left = [each.subject for each in server._subscriptions if each.owner is connection]
        assert not [subject for subject in subjects_left if subject.startswith("rt.")]
        assert edge.observer.events == []


async def test_a_set_up_that_takes_too_long_is_refused(server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller:
        monkeypatch.setattr("edge.call.SETUP_TIMEOUT_S", 0.05)

        async def never(*_: object, **__: object) -> Subscription:
            await asyncio.Event().wait()
            raise AssertionError

        connection.subscribe = never  # type: ignore[method-assign]
        assert (await caller.refused(edge.port)).status == 500


async def test_a_dialog_that_fails_ends_the_call_with_its_reason(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        (running,) = edge.board.calls.values()
        edge.board.on_event(CallFailed(call=running.handle, why="dialog_lost"))
        ended = await edge.observer.wait_for(call.CallEnded)
        assert (ended.result, ended.reason, ended.ended_by) == ("failed", "dialog_lost", "edge")
        running.on_sip(sip.CallHungUp(call=running.handle))
        edge.board.on_event(sip.CallHungUp(call=running.handle))
        caller.hang_up()
    assert len(edge.observer.of(call.CallEnded)) == 1


@pytest.mark.parametrize(
    ("event", "reason"), [(sip.AckTimeout, "no_ack"), (sip.EndOfCall, "dialog_ended")], ids=["no ack", "other"]
)
async def test_other_ends_are_failures(edge: Edge, event: type[sip.EndOfCall], reason: str) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        (running,) = edge.board.calls.values()
        edge.board.on_event(event(call=running.handle))
        ended = await edge.observer.wait_for(call.CallEnded)
        assert (ended.result, ended.reason) == ("failed", reason)
        caller.hang_up()


async def test_info_that_is_no_key_says_nothing(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        (running,) = edge.board.calls.values()
        running.on_sip(InfoReceived(call=running.handle, content_type="text/plain", body=b"hello", digit=None))
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    assert edge.observer.of(call.DtmfIn) == []


async def test_what_plays_at_the_end_of_the_call_is_told_as_flushed(edge: Edge) -> None:
    words = [tone(n) for n in range(50)]
    async with Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        edge.observer.connection.publish(
            subjects.live_audio("out", edge.observer.call_id),
            pack_audio(b"".join(words), sequence=segment_sequence(0, 0), frame_count=50, utterance=300),
        )
        await until(lambda: caller.has_heard(words[:4]))
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
    flushed = edge.observer.of(playout.PlayoutFlushed)[0]
    assert (flushed.utterance_id, flushed.why) == (300, "call_ended")
    assert flushed.sent_ms >= 80
    assert edge.observer.events.index(flushed) < len(edge.observer.events) - 1


async def test_a_call_that_begins_on_hold_sends_nothing_until_it_is_taken_back(edge: Edge) -> None:
    async with Caller() as caller:
        caller.invite(edge.port, sdp=caller.negotiation.offer(Direction.INACTIVE))
        answered = await caller.wait_for(sip.CallAnswered)
        assert answered.answer is not None
        caller.media = caller.negotiation.accept(answered.answer)
        held = await edge.observer.wait_for(call.CallHeld)
        assert (held.change, held.held, held.direction) == (1, True, "inactive")
        await asyncio.sleep(0.1)
        assert caller.rtp_in == []
        await caller.hold_off()
        await until(lambda: len(caller.rtp_in) > 3)
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_an_address_that_cannot_be_reached_gets_nothing_and_the_call_goes_on(edge: Edge) -> None:
    async with Caller() as caller:
        offer = caller.negotiation.offer().replace(b"IN IP4 127.0.0.1", b"IN IP4 phone.example.invalid")
        caller.invite(edge.port, sdp=offer)
        answered = await caller.wait_for(sip.CallAnswered)
        assert answered.answer is not None
        caller.media = caller.negotiation.accept(answered.answer)
        await edge.observer.wait_for(call.CallAnswered)
        await asyncio.sleep(0.1)
        assert caller.rtp_in == []
        # Symmetric RTP finds the way all the same.
        await caller.talk(tone(n) for n in range(6))
        await until(lambda: len(caller.rtp_in) > 3)
        await until(lambda: len(edge.observer.frames) == 6)
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_reports_of_the_caller_are_read_on_either_port(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    receive = RtcpReporter.receive

    def spy(self: RtcpReporter, datagram: bytes, now: float) -> Any:
        read.append(datagram)
        return receive(self, datagram, now)

    monkeypatch.setattr(RtcpReporter, "receive", spy)
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk([tone(1)])
        await until(lambda: len(edge.observer.frames) == 1)
        report = build_compound((ReceiverReport(caller.ssrc, ()),))
        caller.send(report)
        caller.rtcp.sendto(report, (caller.edge_rtp[0], caller.edge_rtp[1] + 1))
        await until(lambda: read == [report, report])
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)


async def test_keys_cannot_be_sent_to_a_telephone_that_takes_none(edge: Edge) -> None:
    async with Caller() as caller:
        offer = caller.negotiation.offer().replace(b" 101\r\n", b"\r\n")
        caller.invite(edge.port, sdp=offer)
        await caller.wait_for(sip.CallAnswered)
        await edge.observer.wait_for(call.CallAnswered)
        command = control.SendDtmf(call_id=edge.observer.call_id, digits="1")
        assert (await send_control(edge.observer.connection, "edge", command)).error == "not_supported"
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
