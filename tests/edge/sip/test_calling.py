"""The calling side: two user agents on a pretend wire, and a called peer of text where the wire is too polite."""

from __future__ import annotations

import itertools

import pytest

from edge.sip.configuration import Timers
from edge.sip.errors import BadField, SipDefect, UnknownCall, WrongState
from edge.sip.events import (
    AckTimeout,
    CallAcknowledged,
    CallAnswered,
    CallCancelled,
    CallFailed,
    CallHungUp,
    CallRejected,
    IncomingCall,
    InfoReceived,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    RequestAnswered,
    RingingReceived,
    Transport,
)
from edge.sip.message import Request, Response
from edge.sip.sdp import Direction
from tests.fakes.sip_peer import ANSWER, OFFER, SOURCE, Peer
from tests.fakes.sip_wire import Wire

pytestmark = pytest.mark.unit


class TestOnTheWire:
    def test_a_call_both_ways(self) -> None:
        wire = Wire()
        ours, theirs = wire.call()
        answered = wire.caller.last(CallAnswered)
        assert answered.call == ours
        assert answered.answer is not None
        assert answered.answer.codecs == ("PCMU", "TELEPHONE-EVENT")
        assert wire.callee.last(CallAcknowledged).call == theirs
        wire.caller.user_agent.hang_up(ours, wire.now)
        wire.settle()
        assert wire.callee.last(CallHungUp).call == theirs
        assert [line.split(" ", 1)[1] for line in wire.log] == [
            "caller INVITE sip:agent@192.0.2.2 SIP/2.0",
            "callee SIP/2.0 100 Trying",
            "callee SIP/2.0 200 OK",
            "caller ACK sip:callbus@192.0.2.2:5060 SIP/2.0",
            "caller BYE sip:callbus@192.0.2.2:5060 SIP/2.0",
            "callee SIP/2.0 200 OK",
        ]
        wire.run(60)
        assert wire.caller.user_agent.next_deadline() is None
        assert wire.callee.user_agent.next_deadline() is None

    def test_the_callee_hangs_up(self) -> None:
        wire = Wire(transport=Transport.TCP)
        ours, theirs = wire.call()
        wire.callee.user_agent.hang_up(theirs, wire.now, reason="Q.850;cause=16")
        wire.settle()
        assert wire.caller.last(CallHungUp) == CallHungUp(call=ours, reason="Q.850;cause=16")
        wire.run(60)
        assert wire.caller.user_agent.next_deadline() is None

    @pytest.mark.parametrize("lost", list(itertools.product([False, True], repeat=5)))
    def test_any_of_the_first_five_messages_may_be_lost(self, lost: tuple[bool, ...]) -> None:
        wire = Wire(lost)
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=wire.caller.session.offer())
        wire.run(16)
        incoming = wire.callee.last(IncomingCall)
        assert incoming.offer is not None
        wire.callee.user_agent.answer(incoming.call, wire.callee.session.answer(incoming.offer), wire.now)
        wire.run(20)
        assert wire.callee.count(IncomingCall) == 1
        assert wire.caller.count(CallAnswered) == 1
        assert wire.callee.count(CallAcknowledged) == 1
        wire.caller.user_agent.hang_up(handle, wire.now)
        wire.run(60)
        assert wire.callee.count(CallHungUp) == 1
        assert wire.callee.user_agent.next_deadline() is None
        assert wire.caller.user_agent.next_deadline() is None

    def test_lost_ack_is_sent_again_with_the_repeated_200(self) -> None:
        wire = Wire([False, False, False, True, True])
        wire.call()
        wire.run(5)
        # The ACK is lost, and so is the first repetition of the 200.
        assert [line.split()[0] for line in wire.sent("ACK")] == ["0.00", "1.50"]
        assert wire.callee.count(CallAcknowledged) == 1

    def test_silence_after_the_answer(self) -> None:
        wire = Wire()
        wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        incoming = wire.callee.last(IncomingCall)
        wire.cut = True
        wire.callee.user_agent.answer(incoming.call, ANSWER, wire.now)
        wire.run(100)
        assert wire.callee.count(AckTimeout) == 1

    def test_nobody_there(self) -> None:
        wire = Wire()
        wire.cut = True
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.run(60)
        assert [line.split()[0] for line in wire.sent("INVITE")] == [
            "0.00", "0.50", "1.50", "3.50", "7.50", "15.50", "31.50",
        ]  # fmt: skip
        assert wire.caller.events == [CallFailed(call=handle, why="timeout")]

    def test_timer_b_does_not_run_while_it_rings(self) -> None:
        wire = Wire()
        wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        wire.callee.user_agent.ring(wire.callee.last(IncomingCall).call, wire.now)
        wire.run(100)
        assert wire.caller.last(RingingReceived).status == 180
        assert wire.caller.count(CallFailed) == 0

    def test_ringing_for_too_long_is_cancelled(self) -> None:
        wire = Wire(invite_timeout_s=60.0)
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.run(59)
        assert wire.callee.count(CallCancelled) == 0
        wire.run(2)
        assert wire.callee.count(CallCancelled) == 1
        assert wire.caller.events == [CallFailed(call=handle, why="unanswered")]
        with pytest.raises(UnknownCall):
            wire.caller.user_agent.hang_up(handle, wire.now)

    def test_busy_with_retry_after(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        call = wire.callee.last(IncomingCall).call
        wire.callee.user_agent.reject(call, 503, wire.now, headers=(("Retry-After", "7"),))
        wire.settle()
        assert wire.caller.last(CallRejected) == CallRejected(
            call=handle, status=503, reason="Service Unavailable", retry_after_s=7
        )
        assert len(wire.sent("ACK")) == 1
        wire.run(60)
        assert wire.caller.user_agent.next_deadline() is None

    def test_early_media(self) -> None:
        wire = Wire()
        wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        wire.callee.user_agent.ring(wire.callee.last(IncomingCall).call, wire.now, status=183, sdp=ANSWER)
        wire.settle()
        ringing = wire.caller.last(RingingReceived)
        assert ringing.status == 183
        assert ringing.early_answer is not None

    def test_hold_and_resume(self) -> None:
        wire = Wire()
        ours, theirs = wire.call()
        for direction, mirrored in ((Direction.SENDONLY, "recvonly"), (Direction.SENDRECV, "sendrecv")):
            wire.caller.user_agent.reinvite(ours, wire.caller.session.offer(direction), wire.now)
            wire.settle()
            change = wire.callee.last(ReinviteReceived)
            assert change.offer is not None
            wire.callee.user_agent.answer_reinvite(theirs, wire.callee.session.answer(change.offer), wire.now)
            wire.settle()
            answer = wire.caller.last(ReinviteAnswered).answer
            assert answer is not None
            assert answer.media[0].direction == mirrored
        assert wire.caller.count(ReinviteAnswered) == 2

    def test_glare_and_the_wait_that_ends_it(self) -> None:
        """Section 14.1."""
        wire = Wire()
        ours, theirs = wire.call()
        wire.caller.user_agent.reinvite(ours, OFFER, wire.now)
        wire.callee.user_agent.reinvite(theirs, OFFER, wire.now)
        wire.settle()
        caller, callee = wire.caller.last(ReinviteRejected), wire.callee.last(ReinviteRejected)
        assert (caller.status, callee.status) == (491, 491)
        assert 2.1 <= caller.retry_after_s <= 4.0
        assert 0.0 <= callee.retry_after_s <= 2.0

    def test_info_carries_a_key(self) -> None:
        wire = Wire()
        ours, _ = wire.call()
        wire.caller.user_agent.info(ours, "application/dtmf", b"5", wire.now)
        wire.settle()
        assert wire.callee.last(InfoReceived).digit == ("5", 250)
        assert wire.caller.last(RequestAnswered) == RequestAnswered(call=ours, method="INFO", status=200)

    def test_options(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.options("sip:192.0.2.2", 0.0)
        wire.settle()
        assert wire.caller.events == [RequestAnswered(call=handle, method="OPTIONS", status=200)]
        wire.cut = True
        silent = wire.caller.user_agent.options("sip:192.0.2.2", wire.now)
        wire.run(40)
        assert wire.caller.events[-1] == RequestAnswered(call=silent, method="OPTIONS", status=408)
        # Timer E doubles up to T2 = 4 s, timer F ends it at 32 s.
        assert [line.split()[0] for line in wire.sent("OPTIONS")][1:] == [
            "0.00", "0.50", "1.50", "3.50", "7.50", "11.50", "15.50", "19.50", "23.50", "27.50", "31.50",
        ]  # fmt: skip

    def test_late_offer(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0)
        wire.settle()
        call = wire.callee.last(IncomingCall).call
        wire.callee.user_agent.answer(call, wire.callee.session.offer(), wire.now)
        wire.settle()
        offer = wire.caller.last(CallAnswered).answer
        assert offer is not None
        assert wire.sent("ACK") == []
        wire.caller.user_agent.acknowledge(handle, wire.caller.session.answer(offer), wire.now)
        wire.settle()
        answer = wire.callee.last(CallAcknowledged).answer
        assert answer is not None
        wire.callee.session.accept(answer)
        assert wire.callee.session.media is not None
        assert wire.callee.session.media.codec == "PCMU"
        with pytest.raises(WrongState):
            wire.caller.user_agent.acknowledge(handle, b"", wire.now)
        # The same inside the call.
        wire.caller.user_agent.reinvite(handle, b"", wire.now)
        wire.settle()
        wire.callee.user_agent.answer_reinvite(call, wire.callee.session.offer(), wire.now)
        wire.settle()
        assert wire.caller.count(ReinviteAnswered) == 1
        wire.caller.user_agent.acknowledge(handle, ANSWER, wire.now)
        wire.settle()
        assert wire.callee.count(CallAcknowledged) == 2

    def test_late_offer_never_answered_is_hung_up_properly(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0)
        wire.settle()
        wire.callee.user_agent.answer(wire.callee.last(IncomingCall).call, OFFER, wire.now)
        wire.settle()
        wire.caller.user_agent.hang_up(handle, wire.now)
        wire.settle()
        assert [len(wire.sent(method)) for method in ("ACK", "BYE")] == [1, 1]
        assert wire.callee.count(CallHungUp) == 1

    def test_shorter_timers(self) -> None:
        wire = Wire(timers=Timers(t1=0.1))
        wire.cut = True
        wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.run(7)
        assert wire.caller.count(CallFailed) == 1


class TestCancel:
    def test_while_it_rings(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        wire.caller.user_agent.cancel(handle, wire.now, reason="SIP;cause=200")
        wire.settle()
        assert wire.callee.last(CallCancelled).reason == "SIP;cause=200"
        assert wire.caller.last(CallCancelled).call == handle
        wire.run(60)
        assert wire.caller.user_agent.next_deadline() is None
        assert wire.callee.user_agent.next_deadline() is None

    def test_waits_for_a_first_response(self) -> None:
        """Section 9.1: no CANCEL before a provisional response."""
        wire = Wire([True])
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.caller.user_agent.cancel(handle, 0.0)
        wire.settle()
        assert wire.sent("CANCEL") == []
        wire.run(1)
        assert len(wire.sent("CANCEL")) == 1
        assert wire.caller.count(CallCancelled) == 1

    def test_of_a_silent_peer(self) -> None:
        wire = Wire()
        wire.cut = True
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.caller.user_agent.cancel(handle, 0.0)
        wire.run(60)
        assert wire.caller.events == [CallCancelled(call=handle)]

    def test_crossing_the_200(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        wire.caller.user_agent.cancel(handle, wire.now)
        wire.callee.user_agent.answer(wire.callee.last(IncomingCall).call, ANSWER, wire.now)
        wire.settle()
        assert wire.caller.events == [CallCancelled(call=handle)]
        assert wire.callee.count(CallHungUp) == 1

    def test_peer_dies_after_the_cancel(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        wire.cut = True
        wire.caller.user_agent.cancel(handle, wire.now)
        wire.run(60)
        assert wire.caller.events == [CallCancelled(call=handle)]
        assert wire.caller.user_agent.next_deadline() is None

    def test_hang_up_before_the_answer_says_nothing_more(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        wire.caller.user_agent.hang_up(handle, wire.now)
        wire.run(60)
        assert wire.caller.events == []
        assert wire.callee.count(CallCancelled) == 1

    def test_hang_up_after_cancel(self) -> None:
        wire = Wire()
        handle = wire.caller.user_agent.invite("sip:agent@192.0.2.2", 0.0, sdp=OFFER)
        wire.settle()
        wire.caller.user_agent.cancel(handle, wire.now)
        wire.caller.user_agent.hang_up(handle, wire.now)
        wire.run(60)
        assert wire.caller.events == []


class Called:
    """A called peer of text."""

    def __init__(self, **changes: object) -> None:
        self.peer = Peer(**changes)  # type: ignore[arg-type]
        self.call = self.peer.user_agent.invite("sip:them@192.0.2.1:5062", self.peer.now, sdp=OFFER)
        (request,) = self.peer.heard()
        assert isinstance(request, Request)
        self.invite = request

    def answer(self, request: Request, status: int, **parts: str | bytes) -> list[Request | Response]:
        return self.peer.send(self.peer.reply(request, status, **parts))  # type: ignore[arg-type]

    def up(self, extra: str = "Contact: <sip:them@192.0.2.1:5062>\r\n") -> Request:
        (ack,) = self.answer(self.invite, 200, extra=extra, body=ANSWER, to_tag="them")
        assert isinstance(ack, Request)
        return ack


def test_what_an_invite_holds() -> None:
    invite = Called().invite
    assert (invite.method, invite.uri, invite.body) == ("INVITE", "sip:them@192.0.2.1:5062", OFFER)
    assert invite.headers.get("max-forwards") == "70"
    assert invite.vias[0].unique
    assert "rport" in invite.vias[0].parameters
    assert invite.headers.get("contact") == "<sip:callbus@192.0.2.2:5060>"
    assert invite.sender.tag
    assert not invite.recipient.tag
    assert invite.headers.get("user-agent") == "callbus"


def test_ack_of_200_has_its_own_branch_and_goes_to_the_contact() -> None:
    called = Called()
    ack = called.up("Contact: <sip:direct@192.0.2.8:5099>\r\n")
    assert (ack.method, ack.uri, ack.cseq) == ("ACK", "sip:direct@192.0.2.8:5099", (1, "ACK"))
    assert ack.vias[0].branch != called.invite.vias[0].branch
    assert ack.recipient.tag == "them"
    assert called.peer.outgoing[0].destination == ("192.0.2.8", 5099)


def test_200_again_gets_the_ack_again() -> None:
    called = Called()
    first = called.up()
    assert called.up().serialise() == first.serialise()
    assert called.peer.kinds() == ["CallAnswered"]


def test_second_fork_is_acknowledged_and_hung_up() -> None:
    """Section 13.2.2.4."""
    called = Called()
    called.up()
    fork = "Contact: <sip:fork@192.0.2.9>\r\n"
    ack, bye = called.answer(called.invite, 200, extra=fork, body=ANSWER, to_tag="fork")
    assert isinstance(ack, Request)
    assert isinstance(bye, Request)
    assert (ack.method, bye.method, bye.uri, bye.recipient.tag) == ("ACK", "BYE", "sip:fork@192.0.2.9", "fork")
    again = called.answer(called.invite, 200, extra=fork, body=ANSWER, to_tag="fork")
    assert [each.serialise() for each in again] == [ack.serialise()]
    called.answer(bye, 200)
    called.peer.user_agent.hang_up(called.call, called.peer.now)
    (ours,) = called.peer.heard()
    assert ours.recipient.tag == "them"


def test_ack_of_a_refusal_keeps_the_branch() -> None:
    called = Called()
    (ack,) = called.answer(called.invite, 486, to_tag="them")
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri, ack.vias[0].branch) == ("ACK", called.invite.uri, called.invite.vias[0].branch)
    assert ack.recipient.tag == "them"
    assert called.peer.statuses(called.answer(called.invite, 486, to_tag="them")) == ["ACK"]
    assert called.peer.kinds() == ["CallRejected"]


def test_200_with_sdp_that_cannot_be_read() -> None:
    called = Called()
    called.answer(called.invite, 200, body=b"rubbish", to_tag="them")
    event = called.peer.events[-1]
    assert isinstance(event, CallAnswered)
    assert event.answer is None


def test_response_of_someone_else_is_not_ours() -> None:
    called = Called()
    other = called.peer.reply(called.invite, 200, to_tag="x").replace(b"branch=z9hG4bKua", b"branch=z9hG4bKno")
    called.peer.feed(other)
    assert called.peer.kinds() == ["Defect"]


@pytest.mark.parametrize(("status", "hung_up"), [(481, False), (408, True)])
def test_reinvite_that_finds_no_dialog_ends_the_call(status: int, hung_up: bool) -> None:
    """Section 12.2.1.2."""
    called = Called()
    called.up()
    called.peer.user_agent.reinvite(called.call, OFFER, called.peer.now)
    (reinvite,) = called.peer.heard()
    assert isinstance(reinvite, Request)
    sent = called.peer.statuses(called.answer(reinvite, status))
    assert sent == (["ACK", "BYE"] if hung_up else ["ACK"])
    assert called.peer.events[-1] == CallFailed(call=called.call, why="dialog_lost")
    assert called.peer.user_agent.call_count == 0


def test_reinvite_into_silence_ends_the_call() -> None:
    called = Called()
    called.up()
    called.peer.user_agent.reinvite(called.call, OFFER, called.peer.now)
    called.peer.heard()
    called.peer.wait(100)
    assert called.peer.events[-1] == CallFailed(call=called.call, why="dialog_lost")
    assert called.peer.user_agent.next_deadline() is None


def test_refused_reinvite_keeps_the_call() -> None:
    called = Called()
    called.up()
    called.peer.user_agent.reinvite(called.call, OFFER, called.peer.now)
    (reinvite,) = called.peer.heard()
    assert isinstance(reinvite, Request)
    called.answer(reinvite, 488)
    assert called.peer.events[-1] == ReinviteRejected(call=called.call, status=488)
    assert called.peer.user_agent.call_count == 1


def test_reinvite_answered_after_we_hung_up_is_still_acknowledged() -> None:
    called = Called()
    called.up()
    called.peer.user_agent.reinvite(called.call, OFFER, called.peer.now)
    (reinvite,) = called.peer.heard()
    assert isinstance(reinvite, Request)
    called.peer.user_agent.hang_up(called.call, called.peer.now)
    called.peer.heard()
    assert called.peer.statuses(called.answer(reinvite, 200, body=ANSWER)) == ["ACK"]
    assert called.peer.kinds() == ["CallAnswered"]


@pytest.mark.parametrize("status", [481, None])
def test_info_that_finds_no_dialog_ends_the_call(status: int | None) -> None:
    called = Called()
    called.up()
    called.peer.user_agent.info(called.call, "application/dtmf", b"1", called.peer.now)
    (info,) = called.peer.heard()
    assert isinstance(info, Request)
    if status:
        called.answer(info, status)
    else:
        called.peer.wait(40)
    assert called.peer.kinds()[-2:] == ["RequestAnswered", "CallFailed"]


def test_provisional_responses_slow_the_repetitions_of_a_request() -> None:
    """Section 17.1.2.2: in Proceeding timer E runs at T2."""
    peer = Peer()
    peer.user_agent.options("sip:them@192.0.2.1", peer.now)
    (options,) = peer.heard()
    assert isinstance(options, Request)
    peer.wait(0.7)
    peer.send(peer.reply(options, 100))
    assert [at for at, _ in peer.wait(12)] == [0.8, 4.8, 8.8]
    peer.send(peer.reply(options, 200))
    assert peer.events == [RequestAnswered(call=1, method="OPTIONS", status=200)]  # type: ignore[arg-type]


def test_unreachable_peer() -> None:
    """Section 18.4 and 8.1.3.1."""
    called = Called()
    events = called.peer.user_agent.unreachable(SOURCE, Transport.UDP, called.peer.now)
    assert events == [CallFailed(call=called.call, why="transport")]
    peer = Peer()
    handle = peer.user_agent.options("sip:them@192.0.2.1:5062;transport=tcp", peer.now)
    peer.heard()
    assert peer.outgoing[0].transport is Transport.TCP
    assert peer.user_agent.unreachable(SOURCE, Transport.UDP, peer.now) == []
    assert peer.user_agent.unreachable(SOURCE, Transport.TCP, peer.now) == [
        RequestAnswered(call=handle, method="OPTIONS", status=503)
    ]


def test_unreachable_after_cancel() -> None:
    called = Called()
    called.peer.user_agent.cancel(called.call, called.peer.now)
    events = called.peer.user_agent.unreachable(SOURCE, Transport.UDP, called.peer.now)
    assert events == [CallCancelled(call=called.call)]


def test_cancel_refused_with_another_status_is_that_refusal() -> None:
    called = Called()
    called.answer(called.invite, 180, to_tag="them")
    called.peer.user_agent.cancel(called.call, called.peer.now)
    called.peer.heard()
    called.answer(called.invite, 486, to_tag="them")
    assert called.peer.kinds() == ["RingingReceived", "CallRejected"]


@pytest.mark.parametrize("target", ["agent", "tel:+1555", "sip:", "sip:a b@c", ""])
def test_targets_that_are_no_sip_uri(target: str) -> None:
    with pytest.raises(SipDefect):
        Peer().user_agent.invite(target, 0.0, sdp=OFFER)
    with pytest.raises(SipDefect):
        Peer().user_agent.invite("sip:a@b", 0.0, sdp=OFFER, from_uri=target or "nobody")


def test_outbound_proxy_and_names_left_to_the_shell() -> None:
    peer = Peer()
    peer.user_agent.invite("sip:a@pbx.example", peer.now, sdp=OFFER, headers=(("X-Campaign", "7"),))
    (invite,) = peer.heard()
    assert peer.outgoing[0].destination == ("pbx.example", 5060)
    assert invite.headers.get("x-campaign") == "7"
    peer.user_agent.invite("sip:a@pbx.example", peer.now, sdp=OFFER, destination=("192.0.2.50", 5080))
    peer.heard()
    assert peer.outgoing[0].destination == ("192.0.2.50", 5080)


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\nb"])
def test_line_breaks_of_the_application_stay_out_of_headers(text: str) -> None:
    peer = Peer()
    incoming = peer.offered()
    agent, now = peer.user_agent, peer.now
    with pytest.raises(BadField):
        agent.reject(incoming.call, 486, now, reason=text)
    with pytest.raises(BadField):
        agent.reject(incoming.call, 486, now, headers=(("Retry-After", text),))
    with pytest.raises(BadField):
        agent.hang_up(incoming.call, now, reason=text)
    with pytest.raises(BadField):
        agent.invite("sip:a@b", now, headers=(("X-A:\r\n", "1"),))
    with pytest.raises(SipDefect):
        agent.invite("sip:a@b\n", now)
    call = agent.invite("sip:a@b", now)
    with pytest.raises(BadField):
        agent.cancel(call, now, reason=text)
