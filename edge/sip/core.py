"""What both roles share: calls, dialogs, the building of our messages, and the end of a call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from edge.sip.call import Call, CallState, Role
from edge.sip.configuration import UserAgentConfiguration
from edge.sip.dialog import Dialog, DialogKey
from edge.sip.errors import BadField, SdpDefect, SipDefect, UnknownCall, WrongState
from edge.sip.events import Address, CallHandle, Defect, Event, Transport
from edge.sip.grammar import FIELD_NAME, MAGIC_COOKIE
from edge.sip.headers import host_port
from edge.sip.message import SDP_TYPE, Headers, Message, Request, Response, response_to
from edge.sip.routing import Arrival, Hop, response_hop
from edge.sip.sdp import SessionDescription, parse_sdp
from edge.sip.transaction import Transaction, TransactionLayer, TransactionUser

METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "UPDATE", "NOTIFY")
"""What we take, as Allow says it."""
KNOWN_METHODS = frozenset(METHODS) | {"REGISTER", "REFER", "SUBSCRIBE", "MESSAGE", "PUBLISH", "PRACK"}
"""Methods with an RFC: not allowed here (405), where any other one is not implemented (501; section 21.5.2)."""
SUPPORTED = ("timer",)
"""Option tags that a Require may name. `timer`: the peer refreshes, we answer (RFC 4028 section 9)."""

HeaderFields = tuple[tuple[str, str], ...]
ALLOW = ("Allow", ", ".join(METHODS))


def checked_fields(fields: HeaderFields) -> HeaderFields:
    """Header fields of the application, safe to be written.

    Raises:
        BadField: a name or value holds a line break.
    """
    for name, value in fields:
        if "\r" in value or "\n" in value or not FIELD_NAME.match(name):
            raise BadField("a header name or value of ours is not one line")
    return fields


class Core:
    """The state behind a `UserAgent`."""

    def __init__(self, configuration: UserAgentConfiguration) -> None:
        self.configuration = configuration
        self.layer = TransactionLayer(configuration)
        self.calls: dict[CallHandle, Call] = {}
        self.dialogs: dict[DialogKey, Call] = {}
        self.events: list[Event] = []
        self._handles = 0

    # -- calls -----------------------------------------------------------------------------------------------------

    def new_handle(self) -> CallHandle:
        """A handle that no call of this user agent ever had."""
        self._handles += 1
        return CallHandle(self._handles)

    def new_call(self, role: Role, state: CallState) -> Call:
        """Begin to remember a call."""
        call = Call(self.new_handle(), role, state)
        self.calls[call.handle] = call
        return call

    def call(self, handle: CallHandle, *states: CallState) -> Call:
        """The call of a handle, in one of `states` where any are given.

        Raises:
            UnknownCall: it is over.
            WrongState: it is at another point.
        """
        call = self.calls.get(handle)
        if call is None:
            raise UnknownCall(f"call {handle} is over, or never was")
        if states and call.state not in states:
            raise WrongState(f"call {handle} is {call.state.value}, not {' or '.join(states)}")
        return call

    def dialog_of(self, call: Call) -> Dialog:
        """The dialog of a call that has one by its state."""
        if call.dialog is None:
            raise WrongState(f"call {call.handle} has no dialog yet")
        return call.dialog

    def forget(self, call: Call) -> None:
        """The application is done with the call; its dialog may live on until our BYE is answered."""
        self.calls.pop(call.handle, None)
        for name in ("unanswered", "2xx", "reinvite", "cancel"):
            self.layer.deadlines.cancel((name, call.handle))
        call.unacknowledged = None

    def finish(self, call: Call) -> None:
        """Nothing is left of the call."""
        self.forget(call)
        call.state = CallState.OVER
        if call.dialog is not None and self.dialogs.get(call.dialog.key) is call:
            del self.dialogs[call.dialog.key]

    def forget_connection(self, connection: object) -> None:
        """Nothing more is sent on a connection that is closed."""
        self.layer.forget_connection(connection)
        for call in self.dialogs.values():
            dialog = call.dialog
            if dialog is not None and dialog.arrival is not None and dialog.arrival.connection == connection:
                dialog.arrival = dialog.arrival._replace(connection=None)

    def defect(self, status: int, text: str, source: Address) -> None:
        """Report what one log line should say."""
        self.events.append(Defect(status, text, source))

    # -- our messages ----------------------------------------------------------------------------------------------

    def contact(self, peer: Address, transport: Transport) -> str:
        """Our Contact towards a peer."""
        address = host_port(*self.configuration.local_address(peer, transport))
        suffix = ";transport=tcp" if transport is Transport.TCP else ""
        return f"<sip:{self.configuration.contact_user}@{address}{suffix}>"

    def stamp(self, request: Request, hop: Hop) -> Request:
        """Put our Via on top of a request, and our name into it."""
        host, port = self.configuration.local_address(hop.destination, hop.transport)
        branch = MAGIC_COOKIE + self.configuration.tokens()
        via = f"SIP/2.0/{hop.transport.value.upper()} {host_port(host, port)};branch={branch};rport"
        fields = [("Via", via), *request.headers, ("User-Agent", self.configuration.user_agent)]
        return Request(request.method, request.uri, Headers(fields), request.body)

    def set_body(self, message: Message, content_type: str, body: bytes) -> None:
        """Give a message a body; an empty one changes nothing."""
        if body:
            message.headers.add("Content-Type", content_type)
            message.body = body

    def respond(
        self,
        transaction: Transaction,
        status: int,
        now: float,
        *,
        reason: str = "",
        to_tag: str = "",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """Answer a request without a body."""
        fields = [*headers, ("Server", self.configuration.user_agent)]
        request = transaction.request
        if not request.recipient.tag and not to_tag and status > 100:
            to_tag = self.configuration.tokens()
        response = response_to(request, status, reason=reason, to_tag=to_tag, headers=fields)
        self.layer.respond(transaction, response, now)
        return response

    def respond_stateless(self, request: Request, status: int, reason: str, arrival: Arrival, now: float) -> None:
        """Answer a request that could not be read: no transaction can be found for it (section 8.2.7)."""
        to = request.headers.get("to")
        # The same request must get the same tag again.
        seen = f"{request.headers.get('via')}{request.headers.get('call-id')}{request.headers.get('cseq')}"
        tag = hashlib.blake2s(seen.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        tagged = to is None or "tag=" in to.lower() or request.headers.count("to") > 1
        fields = [("Server", self.configuration.user_agent)]
        response = response_to(request, status, reason=reason, to_tag="" if tagged else tag, headers=fields)
        try:
            hop = response_hop(request.vias[0], arrival)
        except SipDefect:
            hop = Hop(arrival.source, arrival.transport, arrival.connection)
        self.layer.send(response.serialise(), hop, response, now)

    def respond_with_body(self, transaction: Transaction, sdp: bytes, headers: HeaderFields, now: float) -> None:
        """200 with a session description, to a request inside a dialog that is not INVITE."""
        fields = [*headers, ("Server", self.configuration.user_agent)]
        response = response_to(transaction.request, 200, headers=fields)
        self.set_body(response, SDP_TYPE, sdp)
        self.layer.respond(transaction, response, now)

    def answer_options(self, transaction: Transaction, now: float) -> None:
        """200 that says what we can do (section 11.2)."""
        headers = (ALLOW, ("Accept", SDP_TYPE), ("Accept-Encoding", "identity"), ("Supported", ", ".join(SUPPORTED)))
        self.respond(transaction, 200, now, headers=headers)

    def send_in_dialog(self, call: Call, request: Request, user: TransactionUser, now: float) -> Transaction:
        """Send a request of the dialog in a transaction of its own."""
        hop = self.dialog_of(call).hop()
        return self.layer.open_client(self.stamp(request, hop), hop, user, now)

    def say_bye(self, call: Call, now: float) -> None:
        """End a call that both sides know. The dialog lives on until the BYE is answered, to answer a crossing one."""
        if call.incoming is not None:
            self.respond(call.incoming, 487, now)
            call.incoming = None
        request = self.dialog_of(call).request("BYE")
        if call.bye_reason:
            request.headers.add("Reason", call.bye_reason)
        self.forget(call)
        call.state = CallState.ENDING
        self.send_in_dialog(call, request, ByeSent(self, call), now)

    def chance(self) -> float:
        """A number from 0 up to 1, out of a fresh token."""
        digest = hashlib.blake2s(self.configuration.tokens().encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") / 2**32

    def session_of(self, message: Message, source: Address) -> SessionDescription | None:
        """The SDP of a message; None where there is none or it cannot be read (a defect is then reported)."""
        if not message.body or message.content_type != SDP_TYPE:
            return None
        try:
            return parse_sdp(message.body)
        except SdpDefect as defect:
            self.defect(0, str(defect), source)
            return None


class ByeSent:
    """Transaction user of our BYE: whatever becomes of it, the dialog is over then."""

    def __init__(self, core: Core, call: Call) -> None:
        self._core = core
        self._call = call

    def response_received(self, transaction: Transaction, response: Response, now: float) -> None:
        """Any final response ends the dialog (15.1.1)."""
        if response.status >= 200:
            self._core.finish(self._call)

    def ack_received(self, transaction: Transaction, ack: Request, now: float) -> None:
        """Never happens to a client."""

    def transaction_failed(self, transaction: Transaction, why: str, now: float) -> None:
        """The peer is gone: so is the dialog."""
        self._core.finish(self._call)
