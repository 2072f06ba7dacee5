"""A peer made of text: writes requests by hand, reads what the user agent under test sends."""

from __future__ import annotations

from edge.sip.endpoint import UserAgent
from edge.sip.events import Address, Event, IncomingCall, Outgoing, Transport
from edge.sip.message import Request, Response
from edge.sip.parser import parse_message
from tests.fakes.sip_wire import configuration

SOURCE: Address = ("192.0.2.1", 5062)
OFFER = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 6000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n"
)
ANSWER = OFFER.replace(b"0 8 101", b"0")


class Peer:
    """Talks to one `UserAgent` at virtual time `now`."""

    def __init__(
        self, transport: Transport = Transport.UDP, connection: object | None = None, **changes: object
    ) -> None:
        self.user_agent = UserAgent(configuration("ua", ("192.0.2.2", 5060), **changes))
        self.now = 100.0
        self.transport = transport
        self.connection = connection
        self.events: list[Event] = []
        self.outgoing: list[Outgoing] = []
        self.sequence = 0
        self.to_tag = ""

    # -- sending ---------------------------------------------------------------------------------------------------

    def text(
        self,
        method: str,
        *,
        branch: str = "",
        cseq: int | None = None,
        body: bytes = b"",
        extra: str = "",
        to_tag: str | None = None,
        call_id: str = "call-1",
        from_tag: str = "peer",
        uri: str = "sip:agent@192.0.2.2",
        via: str = "",
        contact: str = "Contact: <sip:peer@192.0.2.1:5062>\r\n",
        content_type: str = "application/sdp",
    ) -> bytes:
        """A request; branch and CSeq count up unless they are given."""
        if cseq is None:
            if method not in ("ACK", "CANCEL"):
                self.sequence += 1
            cseq = self.sequence
        branch = branch or f"z9hG4bK-{method}-{cseq}"
        via = via or f"Via: SIP/2.0/{self.transport.value.upper()} 192.0.2.1:5062;branch={branch};rport\r\n"
        tag = self.to_tag if to_tag is None else to_tag
        head = (
            f"{method} {uri} SIP/2.0\r\n{via}Max-Forwards: 70\r\n"
            f"From: <sip:peer@192.0.2.1>;tag={from_tag}\r\nTo: <sip:agent@192.0.2.2>{';tag=' + tag if tag else ''}\r\n"
            f"Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{contact}{extra}"
        )
        if body:
            head += f"Content-Type: {content_type}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def send(self, data: bytes, source: Address = SOURCE) -> list[Response | Request]:
        """Feed bytes; what the user agent says at once."""
        self.events += self.user_agent.receive(data, source, self.transport, self.now, self.connection)
        return self.heard()

    def feed(self, data: bytes) -> list[bytes]:
        """Feed bytes that may be rubbish; what the user agent says, unread."""
        self.events += self.user_agent.receive(data, SOURCE, self.transport, self.now, self.connection)
        return [each.data for each in self.user_agent.messages_to_send(self.now)]

    def request(self, method: str, **parts: object) -> list[Response | Request]:
        """Write and send a request."""
        return self.send(self.text(method, **parts))  # type: ignore[arg-type]

    def reply(self, request: Request, status: int, extra: str = "", body: bytes = b"", to_tag: str = "") -> bytes:
        """Bytes of a response to a request of the user agent's."""
        vias = "".join(f"Via: {value}\r\n" for value in request.headers.all("via"))
        to = request.headers.get("to") or ""
        tag = f";tag={to_tag}" if to_tag else ""
        typed = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"SIP/2.0 {status} Whatever\r\n{vias}From: {request.headers.get('from')}\r\nTo: {to}{tag}\r\n"
            f"Call-ID: {request.call_id}\r\nCSeq: {request.headers.get('cseq')}\r\n{extra}{typed}"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    # -- hearing ---------------------------------------------------------------------------------------------------

    def heard(self) -> list[Response | Request]:
        """What the user agent has to send now, parsed."""
        self.outgoing = self.user_agent.messages_to_send(self.now)
        return [parse_message(message.data) for message in self.outgoing]

    def wait(self, seconds: float) -> list[tuple[float, Response | Request]]:
        """Let time pass; (seconds since the start of the wait, message) of all that is sent meanwhile."""
        start, until, heard = self.now, self.now + seconds, []
        while (deadline := self.user_agent.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.events += self.user_agent.handle_deadline(self.now)
            heard += [(round(self.now - start, 3), message) for message in self.heard()]
        self.now = until
        return heard

    def statuses(self, messages: list[Response | Request]) -> list[int | str]:
        """Status codes and methods."""
        return [each.status if isinstance(each, Response) else each.method for each in messages]

    # -- short cuts ------------------------------------------------------------------------------------------------

    def offered(self, **parts: object) -> IncomingCall:
        """An INVITE that is waiting for the application."""
        self.request("INVITE", **{"body": OFFER, **parts})
        event = self.events[-1]
        assert isinstance(event, IncomingCall)
        return event

    def answered(self, **parts: object) -> IncomingCall:
        """An INVITE that was answered 200, not acknowledged."""
        incoming = self.offered(**parts)
        self.user_agent.answer(incoming.call, ANSWER, self.now)
        self.to_tag = self.heard()[0].recipient.tag
        return incoming

    def up(self, **parts: object) -> IncomingCall:
        """A call that is up."""
        incoming = self.answered(**parts)
        self.request("ACK", branch="z9hG4bK-ack-of-200")
        return incoming

    def kinds(self) -> list[str]:
        """Names of the events so far."""
        return [type(event).__name__ for event in self.events]
