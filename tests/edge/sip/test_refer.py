"""REFER and its reports: RFC 3515, as the one who hands a caller over sees it."""

from __future__ import annotations

import pytest

from edge.sip.errors import BadField, SipDefect, WrongState
from edge.sip.events import CallHandle, ReferProgress, RequestAnswered
from edge.sip.message import Request
from edge.sip.refer import status_of_fragment
from tests.fakes.sip_peer import SOURCE, Peer

pytestmark = pytest.mark.unit

TARGET = "sip:helpdesk@example.org"


class Caller(Peer):
    """A peer in a call that is asked to call somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self.call: CallHandle = self.up().call

    def asked(self, target: str = TARGET) -> Request:
        """Our REFER as it arrived."""
        self.user_agent.refer(self.call, target, self.now)
        (request,) = self.heard()
        assert isinstance(request, Request)
        return request

    def says(self, request: Request, status: int, reason: str = "OK") -> None:
        """Answer our REFER."""
        fields = "".join(
            f"{name}: {request.headers.get(name.lower())}\r\n" for name in ("Via", "From", "To", "Call-ID", "CSeq")
        )
        self.send(f"SIP/2.0 {status} {reason}\r\n{fields}Content-Length: 0\r\n\r\n".encode())

    def reports(self, line: str, state: str = "active;expires=60", event: str = "refer") -> int:
        """Send a NOTIFY; the status that it was answered with."""
        extra = f"Event: {event}\r\nSubscription-State: {state}\r\n"
        body = line.encode()
        answers = self.request("NOTIFY", extra=extra, body=body, content_type="message/sipfrag;version=2.0")
        return self.statuses(answers)[0]

    @property
    def progress(self) -> list[int]:
        return [event.status for event in self.events if isinstance(event, ReferProgress)]


def test_the_request_names_the_target_and_who_asks() -> None:
    caller = Caller()
    request = caller.asked()
    assert request.method == "REFER"
    assert request.headers.get("refer-to") == f"<{TARGET}>"
    assert request.headers.get("referred-by") == "<sip:agent@192.0.2.2>"
    assert "192.0.2.2" in (request.headers.get("contact") or "")
    assert request.uri == "sip:peer@192.0.2.1:5062"


def test_taken_reported_and_connected() -> None:
    caller = Caller()
    caller.says(caller.asked(), 202, "Accepted")
    assert caller.events[-1] == RequestAnswered(call=caller.call, method="REFER", status=202)
    assert caller.reports("SIP/2.0 100 Trying\r\n") == 200
    assert caller.reports("SIP/2.0 180 Ringing\r\n") == 200
    assert caller.reports("SIP/2.0 200 OK\r\n", "terminated;reason=noresource") == 200
    assert caller.progress == [100, 180, 200]
    assert caller.reports("SIP/2.0 200 OK\r\n") == 481, "the subscription is over"


def test_a_report_may_come_before_the_answer() -> None:
    """Section 2.4.4: the NOTIFY may overtake the 202."""
    caller = Caller()
    request = caller.asked()
    assert caller.reports("SIP/2.0 100 Trying\r\n") == 200
    caller.says(request, 202)
    assert caller.reports("SIP/2.0 486 Busy Here\r\n", "terminated;reason=noresource") == 200
    assert caller.progress == [100, 486]


@pytest.mark.parametrize("status", [405, 501, 603])
def test_a_refusal_ends_it(status: int) -> None:
    caller = Caller()
    caller.says(caller.asked(), status, "No")
    assert caller.events[-1] == RequestAnswered(call=caller.call, method="REFER", status=status)
    assert caller.reports("SIP/2.0 100 Trying\r\n") == 481
    assert caller.asked().method == "REFER", "it may be tried again"


def test_nobody_answers() -> None:
    caller = Caller()
    caller.asked()
    caller.wait(40)
    assert RequestAnswered(call=caller.call, method="REFER", status=408) in caller.events


def test_terminated_without_a_final_status_is_nobody_reached() -> None:
    caller = Caller()
    caller.says(caller.asked(), 202)
    assert caller.reports("SIP/2.0 100 Trying\r\n", "terminated;reason=timeout") == 200
    assert caller.progress == [503]


def test_a_report_that_cannot_be_read_is_answered_and_says_nothing() -> None:
    caller = Caller()
    caller.says(caller.asked(), 202)
    assert caller.reports("hello\r\n") == 200
    assert caller.progress == []


def test_other_events_and_bodies_are_refused() -> None:
    caller = Caller()
    caller.says(caller.asked(), 202)
    assert caller.reports("SIP/2.0 200 OK\r\n", event="presence") == 489
    extra = "Event: refer\r\nSubscription-State: active\r\n"
    assert caller.statuses(caller.request("NOTIFY", extra=extra, body=b"x", content_type="text/plain")) == [415]
    assert caller.progress == []


def test_one_at_a_time() -> None:
    caller = Caller()
    caller.asked()
    with pytest.raises(WrongState, match="handed over already"):
        caller.user_agent.refer(caller.call, TARGET, caller.now)


@pytest.mark.parametrize("target", ["", "somebody", "http://example.org", "sip:a@b\r\nEvil: 1", "sip:"])
def test_a_target_that_is_no_address_is_an_error_and_nothing_is_sent(target: str) -> None:
    caller = Caller()
    with pytest.raises((SipDefect, BadField)):
        caller.user_agent.refer(caller.call, target, caller.now)
    assert caller.heard() == []
    assert caller.asked().method == "REFER"


def test_a_telephone_number_will_do() -> None:
    assert Caller().asked("tel:+15551230000").headers.get("refer-to") == "<tel:+15551230000>"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"SIP/2.0 200 OK\r\n", 200),
        (b"SIP/2.0 180 Ringing\r\nContact: <sip:a@b>\r\n", 180),
        (b"\r\nSIP/2.0 603 Decline", 603),
        (b"sip/2.0 486", 486),
        (b"SIP/2.0 700 Odd\r\n", 0),
        (b"SIP/3.0 200 OK\r\n", 0),
        (b"INVITE sip:a@b SIP/2.0\r\n", 0),
        (b"SIP/2.0 \xff\xff\xff", 0),
        (b"", 0),
    ],
)
def test_status_lines(body: bytes, status: int) -> None:
    assert status_of_fragment(body) == status


def test_source_is_the_peer_of_the_dialog() -> None:
    caller = Caller()
    caller.asked()
    assert caller.outgoing[-1].destination == SOURCE
