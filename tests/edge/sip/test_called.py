"""The called side, against a peer of text: INVITE, CANCEL, ACK, BYE, and all that is lost and comes again."""

from __future__ import annotations

import pytest

from edge.sip.errors import UnknownCall, WrongState
from edge.sip.events import (
    AckTimeout,
    CallAcknowledged,
    CallCancelled,
    CallFailed,
    CallHungUp,
    Defect,
    IncomingCall,
    InfoReceived,
    ReinviteReceived,
    Transport,
)
from edge.sip.message import Request, Response
from tests.fakes.sip_peer import ANSWER, OFFER, Peer

pytestmark = pytest.mark.unit


def response(messages: list[Request | Response]) -> Response:
    (message,) = messages
    assert isinstance(message, Response)
    return message


def test_a_call_from_invite_to_bye() -> None:
    peer = Peer()
    (trying,) = peer.request("INVITE", body=OFFER)
    assert isinstance(trying, Response)
    assert trying.status == 100
    assert trying.recipient.tag == ""
    incoming = peer.events[-1]
    assert isinstance(incoming, IncomingCall)
    assert (incoming.sip_call_id, incoming.from_user, incoming.to_user) == ("call-1", "peer", "agent")
    assert (incoming.request_uri, incoming.request_user) == ("sip:agent@192.0.2.2", "agent")
    assert incoming.offer is not None
    assert incoming.offer.codecs == ("PCMU", "PCMA", "TELEPHONE-EVENT")
    assert ("Max-Forwards", "70") in incoming.headers

    peer.user_agent.ring(incoming.call, peer.now)
    ringing = response(peer.heard())
    assert (ringing.status, ringing.body) == (180, b"")
    peer.user_agent.answer(incoming.call, ANSWER, peer.now)
    ok = response(peer.heard())
    assert ok.status == 200
    assert ok.body == ANSWER
    assert ok.recipient.tag == ringing.recipient.tag != ""
    assert ok.headers.get("contact") == "<sip:callbus@192.0.2.2:5060>"
    assert "INFO" in ok.headers.tokens("allow") or "info" in ok.headers.tokens("allow")
    peer.to_tag = ok.recipient.tag
    assert peer.request("ACK", branch="z9hG4bK-new") == []
    assert peer.events[-1] == CallAcknowledged(call=incoming.call)

    bye = response(peer.request("BYE", extra='Reason: Q.850;cause=16;text="normal"\r\n'))
    assert bye.status == 200
    assert peer.events[-1] == CallHungUp(call=incoming.call, reason='Q.850;cause=16;text="normal"')
    assert peer.user_agent.call_count == 0
    # Nothing but absorbing timers is left, and those end too.
    assert peer.wait(40) == []
    assert peer.user_agent.next_deadline() is None


def test_invite_again_before_any_answer_gets_100_again() -> None:
    peer = Peer()
    peer.offered()
    assert peer.statuses(peer.request("INVITE", body=OFFER, cseq=1)) == [100]
    assert peer.kinds().count("IncomingCall") == 1


def test_invite_again_while_ringing_gets_180_again() -> None:
    peer = Peer()
    peer.user_agent.ring(peer.offered().call, peer.now)
    first = response(peer.heard())
    again = response(peer.request("INVITE", body=OFFER, cseq=1))
    assert again.serialise() == first.serialise()


def test_invite_again_after_200_is_absorbed_and_the_200_repeats_until_ack() -> None:
    """RFC 6026 section 7.1; RFC 3261 section 13.3.1.4: T1, doubling up to T2."""
    peer = Peer()
    peer.answered()
    assert peer.request("INVITE", body=OFFER, cseq=1) == []
    repeats = peer.wait(10)
    assert [at for at, _ in repeats] == [0.5, 1.5, 3.5, 7.5]
    assert {each.status for _, each in repeats if isinstance(each, Response)} == {200}
    peer.request("ACK", branch="z9hG4bK-x")
    assert peer.wait(20) == []
    assert peer.kinds().count("CallAcknowledged") == 1
    # A late copy of the ACK, and one with the INVITE's own branch, mean nothing.
    assert peer.request("ACK", branch="z9hG4bK-x") == []
    assert peer.request("ACK", branch="z9hG4bK-INVITE-1") == []
    assert peer.kinds().count("CallAcknowledged") == 1


def test_no_ack_ends_in_bye_after_64_t1() -> None:
    peer = Peer()
    incoming = peer.answered()
    sent = peer.wait(32)
    at, bye = sent[-1]
    assert isinstance(bye, Request)
    assert (at, bye.method) == (32.0, "BYE")
    assert "408" in (bye.headers.get("reason") or "")
    assert peer.events[-1] == AckTimeout(call=incoming.call)
    peer.send(peer.reply(bye, 200))
    peer.wait(100)
    assert peer.user_agent.next_deadline() is None


def test_ack_with_the_invites_branch_is_taken() -> None:
    """RFC 2543 phones."""
    peer = Peer()
    peer.answered()
    peer.request("ACK", branch="z9hG4bK-INVITE-1")
    assert peer.kinds()[-1] == "CallAcknowledged"


def test_refusal_repeats_until_ack() -> None:
    """Timers G and H, section 17.2.1."""
    peer = Peer()
    incoming = peer.offered()
    peer.user_agent.reject(incoming.call, 486, peer.now, headers=(("Retry-After", "5"),))
    busy = response(peer.heard())
    assert (busy.status, busy.reason, busy.retry_after_s) == (486, "Busy Here", 5)
    assert busy.recipient.tag
    assert [at for at, _ in peer.wait(12)] == [0.5, 1.5, 3.5, 7.5, 11.5]
    # The INVITE again gets the refusal again.
    assert peer.statuses(peer.request("INVITE", body=OFFER, cseq=1)) == [486]
    peer.request("ACK", branch="z9hG4bK-INVITE-1", to_tag=busy.recipient.tag)
    assert peer.wait(40) == []
    assert peer.user_agent.next_deadline() is None
    assert peer.kinds() == ["IncomingCall"]


def test_refusal_without_ack_gives_up_after_64_t1() -> None:
    peer = Peer()
    peer.user_agent.reject(peer.offered().call, 503, peer.now, reason="Over Limit")
    sent = peer.wait(60)
    assert sent[-1][0] == 31.5
    assert peer.user_agent.next_deadline() is None


def test_lost_handles_are_refused() -> None:
    peer = Peer()
    incoming = peer.offered()
    with pytest.raises(WrongState):
        peer.user_agent.ring(incoming.call, peer.now, status=200)
    with pytest.raises(WrongState):
        peer.user_agent.reject(incoming.call, 200, peer.now)
    with pytest.raises(WrongState):
        peer.user_agent.info(incoming.call, "x/y", b"", peer.now)
    peer.user_agent.reject(incoming.call, 486, peer.now)
    with pytest.raises(UnknownCall):
        peer.user_agent.answer(incoming.call, ANSWER, peer.now)


def test_nobody_answers_at_all() -> None:
    peer = Peer(ring_timeout_s=60.0)
    incoming = peer.offered()
    at, refusal = peer.wait(60)[0]
    assert (at, refusal.status) == (60.0, 480)  # type: ignore[union-attr]
    assert peer.events[-1] == CallFailed(call=incoming.call, why="unanswered")


class TestCancel:
    def test_before_the_answer(self) -> None:
        peer = Peer()
        incoming = peer.offered()
        peer.user_agent.ring(incoming.call, peer.now)
        tag = peer.heard()[0].recipient.tag
        ok, terminated = peer.request("CANCEL", branch="z9hG4bK-INVITE-1", extra="Reason: SIP;cause=200\r\n")
        assert isinstance(ok, Response)
        assert isinstance(terminated, Response)
        assert (ok.status, ok.cseq.method, ok.recipient.tag) == (200, "CANCEL", tag)
        assert (terminated.status, terminated.cseq.method, terminated.recipient.tag) == (487, "INVITE", tag)
        assert peer.events[-1] == CallCancelled(call=incoming.call, reason="SIP;cause=200")
        # The 487 repeats until its ACK, and the CANCEL's 200 is replayed.
        assert [at for at, _ in peer.wait(2)] == [0.5, 1.5]
        assert peer.statuses(peer.request("CANCEL", branch="z9hG4bK-INVITE-1")) == [200]
        peer.request("ACK", branch="z9hG4bK-INVITE-1", to_tag=tag)
        assert peer.wait(60) == []

    def test_after_the_answer_changes_nothing(self) -> None:
        peer = Peer()
        peer.answered()
        assert peer.statuses(peer.request("CANCEL", branch="z9hG4bK-INVITE-1", to_tag="")) == [200]
        peer.request("ACK", branch="z9hG4bK-x")
        assert peer.kinds() == ["IncomingCall", "CallAcknowledged"]

    def test_after_a_refusal(self) -> None:
        peer = Peer()
        peer.user_agent.reject(peer.offered().call, 486, peer.now)
        peer.heard()
        assert peer.statuses(peer.request("CANCEL", branch="z9hG4bK-INVITE-1")) == [200]

    def test_of_nothing(self) -> None:
        peer = Peer()
        assert peer.statuses(peer.request("CANCEL", branch="z9hG4bK-unheard")) == [481]

    def test_of_a_reinvite_keeps_the_call(self) -> None:
        peer = Peer()
        incoming = peer.up()
        peer.request("INVITE", body=OFFER)
        assert peer.statuses(peer.request("CANCEL", branch="z9hG4bK-INVITE-2")) == [200, 487]
        with pytest.raises(WrongState):
            peer.user_agent.answer_reinvite(incoming.call, ANSWER, peer.now)
        assert peer.statuses(peer.request("BYE")) == [200]


class TestBye:
    def test_again_is_replayed(self) -> None:
        peer = Peer()
        peer.up()
        first = response(peer.request("BYE"))
        again = response(peer.request("BYE", cseq=2))
        assert again.serialise() == first.serialise()
        assert peer.kinds().count("CallHungUp") == 1
        # Beyond the transaction's life the dialog is unknown.
        peer.wait(40)
        assert peer.statuses(peer.request("BYE", cseq=2)) == [481]

    def test_before_the_answer(self) -> None:
        peer = Peer()
        incoming = peer.offered()
        peer.user_agent.ring(incoming.call, peer.now)
        peer.to_tag = peer.heard()[0].recipient.tag
        assert peer.statuses(peer.request("BYE")) == [200, 487]
        assert peer.events[-1] == CallHungUp(call=incoming.call)

    def test_from_our_side(self) -> None:
        peer = Peer()
        incoming = peer.up()
        peer.user_agent.hang_up(incoming.call, peer.now, reason="Q.850;cause=16")
        (bye,) = peer.heard()
        assert isinstance(bye, Request)
        assert (bye.method, bye.uri, bye.headers.get("reason")) == ("BYE", "sip:peer@192.0.2.1:5062", "Q.850;cause=16")
        assert (bye.sender.tag, bye.recipient.tag, bye.cseq.number) == (peer.to_tag, "peer", 1)
        assert peer.outgoing[0].destination == ("192.0.2.1", 5062)
        # Lost: timer E, doubling up to T2.
        assert [at for at, _ in peer.wait(8)] == [0.5, 1.5, 3.5, 7.5]
        peer.send(peer.reply(bye, 200))
        assert peer.wait(30) == []
        assert peer.user_agent.next_deadline() is None
        assert peer.kinds() == ["IncomingCall", "CallAcknowledged"]

    def test_crossing_ours_is_answered(self) -> None:
        peer = Peer()
        incoming = peer.up()
        peer.user_agent.hang_up(incoming.call, peer.now)
        peer.heard()
        assert peer.statuses(peer.request("INFO")) == [481]
        assert peer.statuses(peer.request("BYE")) == [200]
        assert "CallHungUp" not in peer.kinds()

    def test_waits_for_the_ack(self) -> None:
        """Section 15: the called side may not send BYE before the ACK has come."""
        peer = Peer()
        incoming = peer.answered()
        peer.user_agent.hang_up(incoming.call, peer.now)
        assert peer.heard() == []
        assert peer.statuses(peer.request("ACK", branch="z9hG4bK-x")) == ["BYE"]
        assert peer.kinds() == ["IncomingCall"]

    def test_or_for_its_absence(self) -> None:
        peer = Peer()
        peer.user_agent.hang_up(peer.answered().call, peer.now)
        assert peer.wait(32)[-1][1].cseq.method == "BYE"
        assert peer.kinds() == ["IncomingCall"]

    def test_of_a_call_not_answered_refuses_it(self) -> None:
        peer = Peer()
        peer.user_agent.hang_up(peer.offered().call, peer.now, reason="SIP;cause=480")
        refusal = response(peer.heard())
        assert (refusal.status, refusal.headers.get("reason")) == (480, "SIP;cause=480")

    def test_peer_that_never_answers_is_given_up(self) -> None:
        peer = Peer()
        peer.user_agent.hang_up(peer.up().call, peer.now)
        peer.wait(100)
        assert peer.user_agent.next_deadline() is None
        assert peer.statuses(peer.request("BYE")) == [481]


class TestLateOffer:
    def test_offer_in_200_answer_in_ack(self) -> None:
        peer = Peer()
        incoming = peer.offered(body=b"")
        assert incoming.offer is None
        peer.user_agent.answer(incoming.call, OFFER, peer.now)
        peer.to_tag = peer.heard()[0].recipient.tag
        peer.request("ACK", branch="z9hG4bK-x", body=ANSWER)
        acknowledged = peer.events[-1]
        assert isinstance(acknowledged, CallAcknowledged)
        assert acknowledged.answer is not None
        assert acknowledged.answer.codecs == ("PCMU",)

    def test_answer_that_cannot_be_read(self) -> None:
        peer = Peer()
        incoming = peer.offered(body=b"")
        peer.user_agent.answer(incoming.call, OFFER, peer.now)
        peer.to_tag = peer.heard()[0].recipient.tag
        peer.request("ACK", branch="z9hG4bK-x", body=b"rubbish")
        assert peer.kinds()[-2:] == ["Defect", "CallAcknowledged"]


class TestReinvite:
    def test_is_asked_and_answered(self) -> None:
        peer = Peer()
        incoming = peer.up()
        hold = OFFER + b"a=sendonly\r\n"
        assert peer.statuses(peer.request("INVITE", body=hold, contact="Contact: <sip:moved@192.0.2.7:5090>\r\n")) == [
            100
        ]
        event = peer.events[-1]
        assert isinstance(event, ReinviteReceived)
        assert event.offer is not None
        assert event.offer.media[0].direction == "sendonly"
        peer.user_agent.answer_reinvite(incoming.call, ANSWER, peer.now)
        ok = response(peer.heard())
        assert (ok.status, ok.recipient.tag) == (200, peer.to_tag)
        peer.request("ACK", branch="z9hG4bK-y")
        # Only the first ACK of a call, or one that brings an answer, is news.
        assert peer.kinds().count("CallAcknowledged") == 1
        # Target refresh: what we send now goes to the new Contact.
        peer.user_agent.hang_up(incoming.call, peer.now)
        (bye,) = peer.heard()
        assert isinstance(bye, Request)
        assert bye.uri == "sip:moved@192.0.2.7:5090"
        assert peer.outgoing[0].destination == ("192.0.2.7", 5090)

    def test_refused_keeps_the_old_target(self) -> None:
        peer = Peer()
        incoming = peer.up()
        peer.request("INVITE", body=OFFER, contact="Contact: <sip:moved@192.0.2.7>\r\n")
        peer.user_agent.reject_reinvite(incoming.call, 488, peer.now, headers=(("Warning", '305 x "no codec"'),))
        refusal = response(peer.heard())
        assert (refusal.status, refusal.headers.get("warning")) == (488, '305 x "no codec"')
        peer.request("ACK", branch="z9hG4bK-INVITE-2")
        peer.user_agent.hang_up(incoming.call, peer.now)
        assert peer.heard()[0].uri == "sip:peer@192.0.2.1:5062"  # type: ignore[union-attr]

    def test_late_offer_inside(self) -> None:
        peer = Peer()
        incoming = peer.up()
        peer.request("INVITE")
        event = peer.events[-1]
        assert isinstance(event, ReinviteReceived)
        assert event.offer is None
        peer.user_agent.answer_reinvite(incoming.call, OFFER, peer.now)
        peer.heard()
        peer.request("ACK", branch="z9hG4bK-z", body=ANSWER)
        last = peer.events[-1]
        assert isinstance(last, CallAcknowledged)
        assert last.answer is not None

    def test_second_before_the_first_is_answered(self) -> None:
        """Section 14.2: 500 with Retry-After of 0 to 10 s."""
        peer = Peer()
        peer.up()
        peer.request("INVITE", body=OFFER)
        refusal = response(peer.request("INVITE", body=OFFER))
        assert refusal.status == 500
        assert refusal.retry_after_s in range(11)

    def test_before_our_200_is_acknowledged(self) -> None:
        peer = Peer()
        peer.answered()
        assert peer.statuses(peer.request("INVITE", body=OFFER)) == [491]

    def test_crossing_ours(self) -> None:
        """Section 14.2: glare."""
        peer = Peer()
        incoming = peer.up()
        peer.user_agent.reinvite(incoming.call, OFFER, peer.now)
        (ours,) = peer.heard()
        assert isinstance(ours, Request)
        assert peer.statuses(peer.request("INVITE", body=OFFER)) == [491]
        with pytest.raises(WrongState):
            peer.user_agent.reinvite(incoming.call, OFFER, peer.now)

    def test_that_nobody_answers(self) -> None:
        peer = Peer()
        peer.up()
        peer.request("INVITE", body=OFFER)
        assert [(at, each.status) for at, each in peer.wait(20)] == [(20.0, 500)]  # type: ignore[union-attr]

    def test_bye_meanwhile(self) -> None:
        peer = Peer()
        peer.up()
        peer.request("INVITE", body=OFFER)
        assert peer.statuses(peer.request("BYE")) == [200, 487]

    def test_we_hang_up_meanwhile(self) -> None:
        peer = Peer()
        incoming = peer.up()
        peer.request("INVITE", body=OFFER)
        peer.user_agent.hang_up(incoming.call, peer.now)
        assert peer.statuses(peer.heard()) == [487, "BYE"]

    @pytest.mark.parametrize(
        ("body", "content_type", "status"), [(b"x", "text/plain", 415), (b"rubbish", "application/sdp", 400)]
    )
    def test_with_a_body_that_is_no_offer(self, body: bytes, content_type: str, status: int) -> None:
        peer = Peer()
        peer.up()
        assert peer.statuses(peer.request("INVITE", body=body, content_type=content_type)) == [status]
        assert isinstance(peer.events[-1], Defect)

    def test_answer_without_question(self) -> None:
        peer = Peer()
        incoming = peer.up()
        with pytest.raises(WrongState):
            peer.user_agent.answer_reinvite(incoming.call, ANSWER, peer.now)
        peer.request("INVITE", body=OFFER)
        with pytest.raises(WrongState):
            peer.user_agent.reject_reinvite(incoming.call, 200, peer.now)


class TestUpdate:
    """RFC 3311, as session timers use it."""

    def test_without_body_refreshes_the_target(self) -> None:
        peer = Peer()
        incoming = peer.up()
        ok = response(peer.request("UPDATE", contact="Contact: <sip:moved@192.0.2.7>\r\n"))
        assert (ok.status, ok.headers.get("contact")) == (200, "<sip:callbus@192.0.2.2:5060>")
        peer.user_agent.hang_up(incoming.call, peer.now)
        assert peer.heard()[0].uri == "sip:moved@192.0.2.7"  # type: ignore[union-attr]

    def test_with_an_offer_is_asked_like_a_reinvite(self) -> None:
        peer = Peer()
        incoming = peer.up()
        assert peer.request("UPDATE", body=OFFER) == []
        peer.user_agent.answer_reinvite(incoming.call, ANSWER, peer.now)
        ok = response(peer.heard())
        assert (ok.status, ok.body, ok.cseq.method) == (200, ANSWER, "UPDATE")


class TestInfo:
    @pytest.mark.parametrize(
        ("content_type", "body", "digit"),
        [
            ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", ("5", 160)),
            ("application/dtmf-relay", b"Signal= #\nDuration= 90\n", ("#", 90)),
            ("application/dtmf-relay", b"Signal=10\r\n", ("*", 250)),
            ("application/dtmf", b"7", ("7", 250)),
            ("application/dtmf", b"d\r\n", ("D", 250)),
            ("application/dtmf", b"hello", None),
            ("application/dtmf", b"1" * 2000, None),
            ("application/dtmf-relay", b"Signal=1\r\nDuration=99999999999\r\n", ("1", 250)),
        ],
    )
    def test_digits(self, content_type: str, body: bytes, digit: tuple[str, int] | None) -> None:
        peer = Peer()
        peer.up()
        assert peer.statuses(peer.request("INFO", body=body, content_type=content_type)) == [200]
        event = peer.events[-1]
        assert isinstance(event, InfoReceived)
        assert event.digit == digit
        assert (event.content_type, event.body) == (content_type, body)

    def test_again_is_replayed_not_pressed_twice(self) -> None:
        peer = Peer()
        peer.up()
        for _ in range(2):
            assert peer.statuses(peer.request("INFO", cseq=2, body=b"1", content_type="application/dtmf")) == [200]
        assert peer.kinds().count("InfoReceived") == 1

    def test_of_another_type(self) -> None:
        peer = Peer()
        peer.up()
        refusal = response(peer.request("INFO", body=b"{}", content_type="application/json"))
        assert (refusal.status, refusal.headers.get("accept")) == (415, "application/dtmf-relay, application/dtmf")

    def test_without_body(self) -> None:
        peer = Peer()
        peer.up()
        assert peer.statuses(peer.request("INFO")) == [200]


def test_over_tcp_nothing_repeats_but_the_200() -> None:
    """Section 17: retransmission is TCP's business; section 13.3.1.4: the 2xx is repeated over every transport."""
    peer = Peer(Transport.TCP, connection="c1")
    peer.answered()
    assert all(each.connection == "c1" and each.transport is Transport.TCP for each in peer.outgoing)
    assert [at for at, _ in peer.wait(2)] == [0.5, 1.5]
    peer.request("ACK", branch="z9hG4bK-x")
    peer.request("BYE")
    assert peer.wait(60) == []
    refused = Peer(Transport.TCP, connection="c1")
    refused.user_agent.reject(refused.offered().call, 486, refused.now)
    refused.heard()
    assert refused.wait(60) == []
