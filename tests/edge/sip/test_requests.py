"""Requests that are no call: OPTIONS, what is refused before any call is made, and what is out of order."""

from __future__ import annotations

import pytest

from edge.sip.events import Defect
from edge.sip.message import Request, Response
from tests.fakes.sip_peer import OFFER, Peer

pytestmark = pytest.mark.unit


def response(messages: list[Request | Response]) -> Response:
    (message,) = messages
    assert isinstance(message, Response)
    return message


def test_options_outside_of_a_dialog() -> None:
    peer = Peer()
    ok = response(peer.request("OPTIONS"))
    assert ok.status == 200
    assert ok.headers.get("allow") == "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY"
    assert ok.headers.get("accept") == "application/sdp"
    assert ok.headers.get("supported") == "timer"
    assert ok.recipient.tag
    again = response(peer.request("OPTIONS", cseq=1))
    assert again.serialise() == ok.serialise()
    assert peer.events == []


def test_options_inside_a_dialog() -> None:
    peer = Peer()
    peer.up()
    assert peer.statuses(peer.request("OPTIONS")) == [200]
    assert peer.statuses(peer.request("OPTIONS", to_tag="unheard")) == [481]


@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "REFER", "MESSAGE", "PUBLISH", "PRACK"])
def test_methods_with_an_rfc_that_are_not_taken(method: str) -> None:
    peer = Peer()
    refusal = response(peer.request(method))
    assert (refusal.status, "INVITE" in (refusal.headers.get("allow") or "")) == (405, True)


def test_methods_unheard_of() -> None:
    assert response(Peer().request("DANCE")).status == 501


def test_methods_not_taken_inside_a_dialog() -> None:
    peer = Peer()
    peer.up()
    assert peer.statuses(peer.request("REFER", extra="Refer-To: <sip:x@y>\r\n")) == [405]
    assert peer.statuses(peer.request("BYE")) == [200]


@pytest.mark.parametrize("method", ["BYE", "INFO", "UPDATE", "NOTIFY"])
def test_dialog_methods_without_a_dialog(method: str) -> None:
    assert Peer().statuses(Peer().request(method)) == [481]
    assert Peer().statuses(Peer().request(method, to_tag="unheard")) == [481]


def test_stray_ack_is_never_answered() -> None:
    peer = Peer()
    assert peer.request("ACK", cseq=1) == []
    assert peer.request("ACK", cseq=1, to_tag="unheard") == []
    assert peer.feed(peer.text("ACK", cseq=1, extra="Contact: <<<\r\n")) == []


def test_require_unknown_is_420() -> None:
    peer = Peer()
    refusal = response(peer.request("INVITE", body=OFFER, extra="Require: 100rel, timer\r\nRequire: Foo\r\n"))
    assert (refusal.status, refusal.headers.get("unsupported")) == (420, "100rel, Foo")
    assert isinstance(peer.events[-1], Defect)


def test_proxy_require_is_not_for_us() -> None:
    peer = Peer()
    peer.offered(extra="Proxy-Require: foo\r\n")


def test_session_timer_wished_for_is_ignored_and_demanded_is_taken() -> None:
    """RFC 4028 section 9."""
    wished = Peer()
    incoming = wished.offered(extra="Supported: timer\r\nSession-Expires: 1800\r\n")
    wished.user_agent.answer(incoming.call, OFFER, wished.now)
    ok = response(wished.heard())
    assert ok.headers.get("require") is None
    assert ok.headers.get("session-expires") is None
    demanded = Peer()
    incoming = demanded.offered(extra="Require: timer\r\nx: 1800;refresher=uac\r\n")
    demanded.user_agent.answer(incoming.call, OFFER, demanded.now)
    ok = response(demanded.heard())
    assert (ok.headers.get("require"), ok.headers.get("session-expires")) == ("timer", "1800;refresher=uac")


@pytest.mark.parametrize("uri", ["sips:agent@192.0.2.2", "tel:+15551234", "http://192.0.2.2/"])
def test_schemes_other_than_sip_are_416(uri: str) -> None:
    assert response(Peer().request("INVITE", body=OFFER, uri=uri)).status == 416


def test_merged_request_is_482() -> None:
    """Section 8.2.2.2: the same INVITE by another way."""
    peer = Peer()
    peer.offered()
    assert response(peer.request("INVITE", body=OFFER, cseq=1, branch="z9hG4bK-other-way")).status == 482
    assert peer.kinds().count("IncomingCall") == 1


def test_same_branch_from_another_sender_is_another_transaction() -> None:
    peer = Peer()
    peer.offered()
    other = "Via: SIP/2.0/UDP 192.0.2.77:5062;branch=z9hG4bK-INVITE-1\r\n"
    peer.request("INVITE", body=OFFER, cseq=1, via=other, call_id="call-2")
    assert peer.kinds().count("IncomingCall") == 2


def test_rfc2543_branches_are_told_apart_by_the_headers() -> None:
    peer = Peer()
    for call_id, expected in (("a", 1), ("a", 1), ("b", 2)):
        via = "Via: SIP/2.0/UDP 192.0.2.1:5062;branch=1\r\n"
        peer.request("INVITE", body=OFFER, cseq=1, via=via, call_id=call_id)
        assert peer.kinds().count("IncomingCall") == expected
    # The ACK to a refusal has another To tag, and ends the repetitions all the same.
    peer.user_agent.reject(1, 486, peer.now)  # type: ignore[arg-type]
    tag = response(peer.heard()).recipient.tag
    peer.request("ACK", cseq=1, via="Via: SIP/2.0/UDP 192.0.2.1:5062;branch=1\r\n", call_id="a", to_tag=tag)
    assert peer.wait(60) == []


@pytest.mark.parametrize(
    ("body", "content_type", "extra", "status"),
    [
        (b"x", "text/plain", "", 415),
        (OFFER, "application/sdp", "Content-Encoding: gzip\r\n", 415),
        (b"v=1\r\n", "application/sdp", "", 400),
        (OFFER, "application/sdp", "Accept: text/plain\r\n", 406),
    ],
)
def test_bodies_that_make_no_session(body: bytes, content_type: str, extra: str, status: int) -> None:
    peer = Peer()
    assert response(peer.request("INVITE", body=body, content_type=content_type, extra=extra)).status == status
    assert peer.kinds() == ["Defect"]


@pytest.mark.parametrize("accept", ["application/sdp;q=1", "text/plain, application/*", "*/*"])
def test_accept_that_allows_sdp(accept: str) -> None:
    Peer().offered(extra=f"Accept: {accept}\r\n")


def test_cseq_out_of_order_is_500() -> None:
    """Section 12.2.2."""
    peer = Peer()
    peer.up()
    peer.request("INFO", cseq=9)
    refusal = response(peer.request("INFO", cseq=5, branch="z9hG4bK-old"))
    assert refusal.status == 500
    assert response(peer.request("INFO", cseq=9, branch="z9hG4bK-same")).status == 500
    # A gap is nothing unusual.
    assert response(peer.request("INFO", cseq=200)).status == 200


def test_max_forwards_zero_is_taken_by_an_endpoint() -> None:
    peer = Peer()
    data = peer.text("OPTIONS").replace(b"Max-Forwards: 70", b"Max-Forwards: 0")
    assert response(peer.send(data)).status == 200


def test_malformed_requests_get_the_same_answer_again() -> None:
    """Section 8.2.7: a stateless answer is a function of the request."""
    peer = Peer()
    data = peer.text("INVITE", body=OFFER, extra="Date: yesterday\r\n")
    first, second = response(peer.send(data)), response(peer.send(data))
    assert first.status == 400
    assert "Date" in first.reason
    assert first.recipient.tag
    assert first.serialise() == second.serialise()
    assert peer.user_agent.next_deadline() is None


def test_keepalives_of_udp_phones_are_silence() -> None:
    peer = Peer()
    for data in (b"\r\n\r\n", b"\x00\x00\x00\x00", b""):
        assert peer.feed(data) == []
    assert peer.events == []


def test_responses_to_nothing_are_reported() -> None:
    peer = Peer()
    options = peer.text("OPTIONS").replace(b"OPTIONS sip:agent@192.0.2.2 SIP/2.0", b"SIP/2.0 200 OK")
    assert peer.feed(options) == []
    (defect,) = peer.events
    assert isinstance(defect, Defect)
    assert defect.source == ("192.0.2.1", 5062)


def test_oversize_message_is_513() -> None:
    peer = Peer(max_message_bytes=2000)
    assert response(peer.request("INVITE", body=OFFER, extra="X: " + "y" * 2000 + "\r\n")).status == 513


def test_headers_reach_the_application_as_they_came() -> None:
    peer = Peer()
    extra = "X-Account: 7\r\nDiversion: <sip:a@b>;reason=unconditional\r\nP-Asserted-Identity: <tel:+1555>\r\n"
    headers = peer.offered(extra=extra).headers
    assert ("X-Account", "7") in headers
    assert ("Diversion", "<sip:a@b>;reason=unconditional") in headers
    assert ("P-Asserted-Identity", "<tel:+1555>") in headers


def test_trace_sees_every_message_without_numbers_or_bodies() -> None:
    lines: list[str] = []
    peer = Peer(trace=lambda direction, text, now: lines.append(f"{direction} {text}"))
    peer.up()
    assert lines[0] == "< INVITE 1 INVITE call-1"
    assert "> 200 1 INVITE call-1" in lines
    assert "= INVITE server call-1 accepted" in lines
    assert not any("agent" in line or "m=audio" in line for line in lines)


def test_a_flood_is_refused_without_being_remembered() -> None:
    peer = Peer(max_transactions=2)
    for number in range(3):
        peer.request("OPTIONS", call_id=f"c{number}")
    (refusal,) = peer.request("INVITE", body=OFFER, call_id="flood")
    assert isinstance(refusal, Response)
    assert refusal.status == 503
    assert isinstance(peer.events[-1], Defect)
    peer.wait(33)
    peer.offered(call_id="later")


def test_a_large_datagram_is_taken() -> None:
    """Over 1300 bytes, as a chain of proxies makes it (section 18.1.1 binds the sender, not us)."""
    incoming = Peer().offered(extra="".join(f"X-Header-{number}: {'y' * 100}\r\n" for number in range(100)))
    assert len(incoming.headers) > 100


@pytest.mark.parametrize("contact", ["Contact: <tel:+1555>\r\n", "Contact: <mailto:a@b>\r\n"])
def test_a_caller_that_cannot_be_reached_is_refused(contact: str) -> None:
    peer = Peer()
    (refusal,) = peer.request("INVITE", body=OFFER, contact=contact)
    assert isinstance(refusal, Response)
    assert refusal.status == 400
