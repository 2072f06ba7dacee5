"""Requests inside a dialog, either role: BYE, re-INVITE, UPDATE, INFO, REFER, OPTIONS, received or sent."""

from __future__ import annotations

from edge.sip.call import Call, CallState
from edge.sip.core import Core, HeaderFields, checked_fields
from edge.sip.dtmf_info import DTMF, DTMF_RELAY, parse_info_digit
from edge.sip.errors import SdpDefect, WrongState
from edge.sip.events import CallHandle, CallHungUp, InfoReceived, ReinviteReceived
from edge.sip.message import Request
from edge.sip.refer import Referrals
from edge.sip.routing import Arrival
from edge.sip.sdp import SessionDescription, parse_sdp
from edge.sip.sent_request import SentRequest
from edge.sip.server import ServerRole, refuse_body, session_timer
from edge.sip.transaction import Transaction

INFO_TYPES = (DTMF_RELAY, DTMF)
ACCEPT_INFO = ("Accept", ", ".join(INFO_TYPES))


class DialogRequests:
    """What happens in a call that is up, or nearly."""

    def __init__(self, core: Core, server: ServerRole) -> None:
        self._core = core
        self._server = server
        self._referrals = Referrals(core)

    # -- received --------------------------------------------------------------------------------------------------

    def receive(self, request: Request, arrival: Arrival, now: float) -> None:
        """A request with a To tag (12.2.2)."""
        core = self._core
        call = core.dialogs.get((request.call_id, request.recipient.tag, request.sender.tag))
        transaction = core.layer.open_server(request, arrival, self._server)
        if call is None or (call.state is CallState.ENDING and request.method != "BYE"):
            core.respond(transaction, 481, now)
            return
        dialog = core.dialog_of(call)
        if not dialog.in_order(request):
            core.respond(transaction, 500, now, reason="CSeq Out Of Order")
            core.defect(500, "CSeq out of order inside a dialog", arrival.source)
            return
        dialog.arrival = arrival
        match request.method:
            case "BYE":
                self._bye(call, transaction, now)
            case "INVITE" | "UPDATE":
                self._change(call, transaction, arrival, now)
            case "INFO":
                self._info(call, transaction, arrival, now)
            case "NOTIFY":
                self._referrals.notify(call, transaction, arrival, now)
            case _:
                core.answer_options(transaction, now)

    def _bye(self, call: Call, transaction: Transaction, now: float) -> None:
        core = self._core
        core.respond(transaction, 200, now)
        if call.incoming is not None:
            # 15.1.2: what is still pending in the dialog is answered with 487.
            core.respond(call.incoming, 487, now, to_tag=self._tag_for(call, call.incoming))
            call.incoming = None
        told = call.state is CallState.ENDING or call.bye_reason is not None
        core.finish(call)
        if not told:
            core.events.append(CallHungUp(call=call.handle, reason=transaction.request.headers.get("reason") or ""))

    def _change(self, call: Call, transaction: Transaction, arrival: Arrival, now: float) -> None:
        """re-INVITE (14.2) or UPDATE (RFC 3311 section 5.2)."""
        core, request = self._core, transaction.request
        if request.method == "UPDATE" and not request.body:
            core.dialog_of(call).refresh_target(request, arrival)
            headers = (self._contact(arrival), *session_timer(request))
            core.respond(transaction, 200, now, headers=headers)
            return
        if call.incoming is not None:
            # Two at once from the same side. Retry-After between 0 and 10 s.
            core.respond(transaction, 500, now, headers=(("Retry-After", str(int(10 * core.chance()))),))
            return
        if call.outgoing is not None or call.unacknowledged is not None:
            core.respond(transaction, 491, now)
            return
        refusal = refuse_body(request)
        if refusal is not None:
            core.respond(transaction, refusal[0], now, headers=refusal[2])
            core.defect(refusal[0], refusal[1], arrival.source)
            return
        try:
            offer = parse_sdp(request.body) if request.body else None
        except SdpDefect as defect:
            core.respond(transaction, 400, now, reason="Bad Session Description")
            core.defect(400, str(defect), arrival.source)
            return
        self._ask(call, transaction, offer, now)

    def _ask(self, call: Call, transaction: Transaction, offer: SessionDescription | None, now: float) -> None:
        core = self._core
        if transaction.request.method == "INVITE":
            core.respond(transaction, 100, now)
        call.incoming = transaction
        deadline = now + core.configuration.reinvite_timeout_s
        core.layer.deadlines.set(("reinvite", call.handle), deadline, lambda at: self._unanswered(call, at))
        core.events.append(ReinviteReceived(call=call.handle, offer=offer))

    def _info(self, call: Call, transaction: Transaction, arrival: Arrival, now: float) -> None:
        core, request = self._core, transaction.request
        if request.body and request.content_type not in INFO_TYPES:
            core.respond(transaction, 415, now, headers=(ACCEPT_INFO,))
            core.defect(415, "INFO with a body that is not DTMF", arrival.source)
            return
        core.respond(transaction, 200, now)
        digit = parse_info_digit(request.content_type, request.body)
        core.events.append(
            InfoReceived(call=call.handle, content_type=request.content_type, body=request.body, digit=digit)
        )

    def _unanswered(self, call: Call, now: float) -> None:
        if call.incoming is not None:
            self._core.respond(call.incoming, 500, now, reason="No Answer From Application")
            call.incoming = None

    def _contact(self, arrival: Arrival) -> tuple[str, str]:
        return ("Contact", self._core.contact(arrival.source, arrival.transport))

    def _tag_for(self, call: Call, transaction: Transaction) -> str:
        return "" if transaction.request.recipient.tag else self._core.dialog_of(call).local_tag

    # -- the application answers -----------------------------------------------------------------------------------

    def answer(self, handle: CallHandle, sdp: bytes, now: float) -> None:
        """200 to the re-INVITE or UPDATE that waits."""
        core, call = self._core, self._waiting(handle)
        transaction = call.incoming
        assert transaction is not None
        dialog = core.dialog_of(call)
        dialog.refresh_target(transaction.request, None)
        if transaction.request.method == "INVITE":
            self._server.accept(call, sdp, now)
            return
        call.incoming = None
        assert dialog.arrival is not None
        headers = (self._contact(dialog.arrival), *session_timer(transaction.request))
        core.respond_with_body(transaction, sdp, headers, now)

    def reject(self, handle: CallHandle, status: int, headers: HeaderFields, now: float) -> None:
        """Refuse it."""
        if not 300 <= status <= 699:
            raise WrongState(f"{status} does not refuse a session")
        checked_fields(headers)
        call = self._waiting(handle)
        assert call.incoming is not None
        self._core.respond(call.incoming, status, now, headers=headers)
        call.incoming = None

    def _waiting(self, handle: CallHandle) -> Call:
        call = self._core.call(handle, CallState.UP)
        if call.incoming is None:
            raise WrongState(f"call {handle} has no re-INVITE to answer")
        self._core.layer.deadlines.cancel(("reinvite", handle))
        return call

    # -- sent ------------------------------------------------------------------------------------------------------

    def info(self, handle: CallHandle, content_type: str, body: bytes, now: float) -> None:
        """Send INFO."""
        core = self._core
        call = core.call(handle, CallState.UP)
        request = core.dialog_of(call).request("INFO")
        checked_fields((("Content-Type", content_type),))
        core.set_body(request, content_type, body)
        core.send_in_dialog(call, request, SentRequest(core, call), now)

    def refer(self, handle: CallHandle, target: str, now: float) -> None:
        """Ask the peer to call somebody else."""
        core = self._core
        request = self._referrals.refer(handle, target, now)
        call = core.call(handle, CallState.UP)
        core.send_in_dialog(call, request, SentRequest(core, call), now)
