"""Dialogs (RFC 3261 section 12): who speaks with whom, the route between them, and the order of requests."""

from __future__ import annotations

from dataclasses import dataclass

from edge.sip.headers import NameAddress, Uri, bad, parse_uri
from edge.sip.message import DEFAULT_MAX_FORWARDS, Headers, Message, Request, Response
from edge.sip.routing import Arrival, Hop, request_hop

DialogKey = tuple[str, str, str]
"""Call-ID, local tag, remote tag (section 12)."""


@dataclass(slots=True)
class Dialog:
    """One leg of a call as both sides must remember it."""

    call_id: str
    local_tag: str
    remote_tag: str
    local: str
    """Our From (To, where we were called) with the tag."""
    remote: str
    """The peer's, with its tag."""
    remote_target: Uri
    """The peer's Contact: the Request-URI of what we send."""
    routes: tuple[NameAddress, ...]
    """The route set in the order in which our requests pass it."""
    local_sequence: int
    remote_sequence: int | None
    """None: nothing came from the peer yet."""
    arrival: Arrival | None
    """Where the peer's last INVITE or response came from; None before anything came."""

    @property
    def key(self) -> DialogKey:
        """What finds this dialog again."""
        return (self.call_id, self.local_tag, self.remote_tag)

    def request(self, method: str, *, sequence: int | None = None) -> Request:
        """A request inside the dialog without its Via (12.2.1.1); `sequence` is given for an ACK only."""
        if sequence is None:
            self.local_sequence += 1
            sequence = self.local_sequence
        uri, routes = self._route()
        fields = [("Route", route) for route in routes]
        fields += [
            ("Max-Forwards", str(DEFAULT_MAX_FORWARDS)),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{sequence} {method}"),
        ]
        return Request(method, uri, Headers(fields))

    def hop(self) -> Hop:
        """Where a request inside the dialog is sent: the first route, else the peer's Contact.

        The peer's own TCP connection is used where it leads to the same host: a Contact with the ephemeral port of a
        client behind a NAT could not be reached otherwise (RFC 5923 section 3 describes the practice).
        """
        hop = request_hop(self.routes[0].uri if self.routes else self.remote_target)
        arrival = self.arrival
        if arrival is None or not arrival.transport.reliable or arrival.connection is None:
            return hop
        if not self.routes or hop.destination[0] == arrival.source[0]:
            return Hop(hop.destination, arrival.transport, arrival.connection)
        return hop

    def in_order(self, request: Request) -> bool:
        """Check and remember the peer's CSeq (12.2.2); a number seen before is out of order."""
        number = request.cseq.number
        if self.remote_sequence is not None and number <= self.remote_sequence:
            return False
        self.remote_sequence = number
        return True

    def refresh_target(self, message: Message, arrival: Arrival | None) -> None:
        """Take the Contact of a re-INVITE, an UPDATE or their 2xx (12.2.1.2, 12.2.2). The route set never changes."""
        if message.contacts and message.contacts[0].uri.is_sip:
            self.remote_target = message.contacts[0].uri
        if arrival is not None:
            self.arrival = arrival

    def _route(self) -> tuple[str, list[str]]:
        """Request-URI and Route values (12.2.1.1)."""
        if not self.routes:
            return self.remote_target.text, []
        first = self.routes[0].uri
        if first.parameter("lr") is not None:
            return self.remote_target.text, [route.text for route in self.routes]
        # A strict router (RFC 2543) wants itself in the Request-URI, and the target at the end of the route.
        return first.text, [*(route.text for route in self.routes[1:]), f"<{self.remote_target.text}>"]


def called_dialog(request: Request, local_tag: str, arrival: Arrival) -> Dialog:
    """The dialog of an INVITE that we answer (12.1.1): the route set is the Record-Route in the order it came."""
    to = request.headers.get("to") or ""
    # RFC 2543 callers may leave the Contact out (RFC 4475 section 3.4.1): their From is all there is.
    contact = request.contacts[0].uri if request.contacts else request.sender.uri
    return Dialog(
        call_id=request.call_id,
        local_tag=local_tag,
        remote_tag=request.sender.tag,
        local=f"{to};tag={local_tag}",
        remote=request.headers.get("from") or "",
        remote_target=contact,
        routes=tuple(request.record_routes),
        local_sequence=0,
        remote_sequence=request.cseq.number,
        arrival=arrival,
    )


def calling_dialog(request: Request, response: Response, arrival: Arrival | None) -> Dialog:
    """The dialog that a response to our INVITE makes (12.1.2): the route set is the Record-Route reversed."""
    usable = [contact.uri for contact in response.contacts if contact.uri.is_sip]
    contact = usable[0] if usable else request.target
    return Dialog(
        call_id=request.call_id,
        local_tag=request.sender.tag,
        remote_tag=response.recipient.tag,
        local=request.headers.get("from") or "",
        remote=response.headers.get("to") or "",
        remote_target=contact,
        routes=tuple(reversed(response.record_routes)),
        local_sequence=request.cseq.number,
        remote_sequence=None,
        arrival=arrival,
    )


def checked_uri(text: str, what: str) -> Uri:
    """A SIP URI from our own side's configuration or command line.

    Raises:
        SipDefect: it is not one.
    """
    uri = parse_uri(text, what)
    if not uri.is_sip:
        raise bad(f"{what} is not a sip: URI")
    return uri
