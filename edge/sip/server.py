"""The called side: INVITE, CANCEL, ACK, and what the application answers to them."""

from __future__ import annotations

from edge.sip.call import Call, CallState, Role, Unacknowledged
from edge.sip.core import ALLOW, Core, HeaderFields, checked_fields
from edge.sip.dialog import called_dialog
from edge.sip.errors import SdpDefect, WrongState
from edge.sip.events import (
    AckTimeout,
    CallAcknowledged,
    CallCancelled,
    CallFailed,
    CallHandle,
    IncomingCall,
)
from edge.sip.message import SDP_TYPE, Headers, Request, Response, response_to
from edge.sip.routing import Arrival
from edge.sip.sdp import SessionDescription, parse_sdp
from edge.sip.transaction import Transaction

ACCEPT_SDP = ("Accept", SDP_TYPE)


class ServerRole:
    """Answers calls. As a transaction user it hears of ACKs to its 2xx that carry the INVITE's branch."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # -- from the wire ---------------------------------------------------------------------------------------------

    def invite(self, request: Request, arrival: Arrival, now: float) -> None:
        """A new INVITE outside of any dialog."""
        core = self._core
        transaction = core.layer.open_server(request, arrival, self)
        refusal = refuse_body(request)
        if refusal is not None:
            status, text, headers = refusal
            core.respond(transaction, status, now, headers=headers)
            core.defect(status, text, arrival.source)
            return
        try:
            offer = parse_sdp(request.body) if request.body else None
        except SdpDefect as defect:
            core.respond(transaction, 400, now, reason="Bad Session Description")
            core.defect(400, str(defect), arrival.source)
            return
        core.respond(transaction, 100, now)
        call = core.new_call(Role.CALLED, CallState.OFFERED)
        call.dialog = called_dialog(request, core.configuration.tokens(), arrival)
        call.incoming = transaction
        core.dialogs[call.dialog.key] = call
        deadline = now + core.configuration.ring_timeout_s
        core.layer.deadlines.set(("unanswered", call.handle), deadline, lambda at: self._unanswered(call, at))
        core.events.append(_incoming(call, request, arrival, offer))

    def cancel(self, request: Request, arrival: Arrival, now: float) -> None:
        """CANCEL (9.2): answered itself, then the INVITE with 487 where it still waits."""
        core = self._core
        invite = core.layer.find_server(request, "INVITE")
        transaction = core.layer.open_server(request, arrival, self)
        if invite is None:
            core.respond(transaction, 481, now)
            return
        call = next((each for each in core.calls.values() if each.incoming is invite), None)
        # 9.2: the To tag of this 200 should be that of the INVITE's responses.
        tag = call.dialog.local_tag if call and call.dialog else ""
        core.respond(transaction, 200, now, to_tag="" if request.recipient.tag else tag)
        if call is None:
            return
        if call.state is CallState.OFFERED:
            self._refuse(call, 487, now)
            core.finish(call)
            core.events.append(CallCancelled(call=call.handle, reason=request.headers.get("reason") or ""))
        else:
            # A re-INVITE is cancelled: the session stays as it was (14.2).
            core.layer.deadlines.cancel(("reinvite", call.handle))
            call.incoming = None
            core.respond(invite, 487, now)

    def ack(self, ack: Request, arrival: Arrival, now: float) -> None:
        """An ACK to a 2xx; a stray one is nobody's business and never answered."""
        call = self._core.dialogs.get((ack.call_id, ack.recipient.tag, ack.sender.tag))
        pending = call.unacknowledged if call else None
        if call is None or pending is None or pending.transaction.request.cseq.number != ack.cseq.number:
            return
        core = self._core
        core.layer.deadlines.cancel(("2xx", call.handle))
        call.unacknowledged = None
        answer: SessionDescription | None = core.session_of(ack, arrival.source) if pending.holds_offer else None
        first = call.state is CallState.ANSWERED
        if first:
            call.state = CallState.UP
        if call.bye_reason is not None:
            core.say_bye(call, now)
        elif first or pending.holds_offer:
            core.events.append(CallAcknowledged(call=call.handle, answer=answer))

    # -- from the application --------------------------------------------------------------------------------------

    def ring(self, handle: CallHandle, status: int, sdp: bytes, now: float) -> None:
        """Send a provisional response other than 100."""
        call = self._core.call(handle, CallState.OFFERED)
        if not 101 <= status <= 199:
            raise WrongState(f"{status} is not a provisional response")
        self._respond_in_dialog(call, status, sdp, now)

    def answer(self, handle: CallHandle, sdp: bytes, now: float) -> None:
        """Send the 200."""
        call = self._core.call(handle, CallState.OFFERED)
        self._core.layer.deadlines.cancel(("unanswered", handle))
        call.state = CallState.ANSWERED
        self.accept(call, sdp, now)

    def reject(self, handle: CallHandle, status: int, reason: str, headers: HeaderFields, now: float) -> None:
        """Refuse the call."""
        call = self._core.call(handle, CallState.OFFERED)
        if not 300 <= status <= 699:
            raise WrongState(f"{status} does not refuse a call")
        checked_fields((("Reason", reason), *headers))
        self._refuse(call, status, now, reason, headers)
        self._core.finish(call)

    def accept(self, call: Call, sdp: bytes, now: float) -> None:
        """200 to an INVITE, the first one or a later one, repeated until its ACK comes (13.3.1.4)."""
        transaction = call.incoming
        assert transaction is not None
        call.incoming = None
        response = self._respond_in_dialog(call, 200, sdp, now, transaction)
        timers = self._core.configuration.timers
        holds_offer = not transaction.request.body
        give_up_at = now + timers.transaction
        call.unacknowledged = Unacknowledged(transaction, response, timers.t1, give_up_at, holds_offer)
        self._arm_2xx(call, now)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _respond_in_dialog(
        self, call: Call, status: int, sdp: bytes, now: float, transaction: Transaction | None = None
    ) -> Response:
        """101 to 299 to INVITE: they make the dialog, so they carry tag, Contact and the Record-Route (12.1.1)."""
        core, dialog = self._core, self._core.dialog_of(call)
        transaction = transaction or call.incoming
        assert transaction is not None
        assert dialog.arrival is not None
        request = transaction.request
        fields = [("Record-Route", value) for value in request.headers.all("record-route")]
        fields += [("Contact", core.contact(dialog.arrival.source, dialog.arrival.transport)), ALLOW]
        if status >= 200:
            fields += [("Supported", "timer"), *session_timer(request)]
        fields.append(("Server", core.configuration.user_agent))
        tag = "" if request.recipient.tag else dialog.local_tag
        response = response_to(request, status, to_tag=tag, headers=fields)
        core.set_body(response, SDP_TYPE, sdp)
        core.layer.respond(transaction, response, now)
        return response

    def _refuse(self, call: Call, status: int, now: float, reason: str = "", headers: HeaderFields = ()) -> None:
        assert call.incoming is not None
        tag = self._core.dialog_of(call).local_tag
        self._core.respond(call.incoming, status, now, reason=reason, to_tag=tag, headers=headers)
        call.incoming = None

    def _unanswered(self, call: Call, now: float) -> None:
        self._refuse(call, 480, now)
        self._core.finish(call)
        self._core.events.append(CallFailed(call=call.handle, why="unanswered"))

    def _arm_2xx(self, call: Call, now: float) -> None:
        pending = call.unacknowledged
        assert pending is not None
        # Over TCP too: the next hop may be a proxy with UDP behind it.
        when = min(now + pending.interval, pending.give_up_at)
        self._core.layer.deadlines.set(("2xx", call.handle), when, lambda at: self._repeat_2xx(call, at))

    def _repeat_2xx(self, call: Call, now: float) -> None:
        pending = call.unacknowledged
        assert pending is not None
        if now >= pending.give_up_at:
            self._give_up(call, now)
            return
        self._core.layer.respond(pending.transaction, pending.response, now)
        pending.interval = min(2 * pending.interval, self._core.configuration.timers.t2)
        self._arm_2xx(call, now)

    def _give_up(self, call: Call, now: float) -> None:
        """13.3.1.4: no ACK for 64*T1, the dialog is confirmed all the same, and ended by BYE."""
        hung_up_before = call.bye_reason is not None
        call.bye_reason = call.bye_reason or 'SIP;cause=408;text="ACK missing"'
        self._core.say_bye(call, now)
        if not hung_up_before:
            self._core.events.append(AckTimeout(call=call.handle))

    # -- TransactionUser -------------------------------------------------------------------------------------------

    def response_received(self, transaction: Transaction, response: Response, now: float) -> None:
        """Server transactions receive none."""

    def ack_received(self, transaction: Transaction, ack: Request, now: float) -> None:
        """RFC 2543 phones keep the INVITE's branch in the ACK to a 2xx."""
        hop = transaction.hop
        self.ack(ack, Arrival(hop.destination, hop.transport, hop.connection), now)

    def transaction_failed(self, transaction: Transaction, why: str, now: float) -> None:
        """A lost ACK to a refusal changes nothing for the application."""


def refuse_body(request: Request) -> tuple[int, str, HeaderFields] | None:
    """Why a session cannot be made from this request, where that shows in its headers (8.2.3; 21.4.7)."""
    headers: Headers = request.headers
    encodings = [each for each in headers.tokens("content-encoding") if each != "identity"]
    if request.body and encodings:
        return 415, "Content-Encoding other than identity", (("Accept-Encoding", "identity"),)
    if request.body and request.content_type != SDP_TYPE:
        return 415, "body that is not application/sdp", (ACCEPT_SDP,)
    accepted = [each.partition(";")[0].strip() for each in headers.tokens("accept")]
    if headers.count("accept") and not {SDP_TYPE, "application/*", "*/*"} & set(accepted):
        return 406, "Accept without application/sdp", ()
    return None


def session_timer(request: Request) -> list[tuple[str, str]]:
    """RFC 4028 section 9, for a caller that insists: it refreshes, we answer. Others' wishes may be ignored."""
    interval = (request.headers.get("session-expires") or "").partition(";")[0].strip()
    if "timer" not in request.headers.tokens("require") or not (interval.isascii() and interval.isdigit()):
        return []
    return [("Require", "timer"), ("Session-Expires", f"{interval[:9]};refresher=uac")]


def _incoming(call: Call, request: Request, arrival: Arrival, offer: SessionDescription | None) -> IncomingCall:
    sender, recipient = request.sender, request.recipient
    return IncomingCall(
        call=call.handle,
        sip_call_id=request.call_id,
        from_uri=sender.uri.text,
        from_user=sender.uri.user_name,
        from_display=sender.display,
        to_uri=recipient.uri.text,
        to_user=recipient.uri.user_name,
        request_uri=request.uri,
        request_user=request.target.user_name,
        source=arrival.source,
        transport=arrival.transport,
        offer=offer,
        headers=tuple(request.headers),
    )
