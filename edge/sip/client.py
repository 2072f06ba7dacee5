"""The calling side: INVITE and what comes back, CANCEL, re-INVITE, OPTIONS."""

from __future__ import annotations

from typing import NamedTuple

from edge.sip.call import Call, CallState, Role
from edge.sip.core import ALLOW, Core, HeaderFields, checked_fields
from edge.sip.dialog import calling_dialog, checked_uri
from edge.sip.errors import WrongState
from edge.sip.events import (
    Address,
    CallAnswered,
    CallCancelled,
    CallFailed,
    CallHandle,
    CallRejected,
    Outgoing,
    ReinviteAnswered,
    ReinviteRejected,
    RequestAnswered,
    RingingReceived,
    Transport,
)
from edge.sip.headers import host_port
from edge.sip.message import DEFAULT_MAX_FORWARDS, SDP_TYPE, Headers, Request, Response
from edge.sip.routing import Hop, request_hop
from edge.sip.sent_request import DIALOG_GONE, dialog_lost
from edge.sip.transaction import Transaction
from edge.sip.transaction_table import State

OPTIONS_ACCEPT = ("Accept", SDP_TYPE)


class Target(NamedTuple):
    """Whom a request out of a dialog is for, and by what way it goes."""

    uri: str
    destination: Address | None
    """None: the URI's own host."""
    transport: Transport

    def hop(self) -> Hop:
        """Where it is sent.

        Raises:
            SipDefect: the URI is not a SIP URI.
        """
        hop = request_hop(checked_uri(self.uri, "the target"))
        transport = Transport.TCP if Transport.TCP in (self.transport, hop.transport) else Transport.UDP
        return Hop(self.destination or hop.destination, transport)


class ClientRole:
    """Makes calls."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def invite(self, target: Target, sdp: bytes, from_uri: str, headers: HeaderFields, now: float) -> CallHandle:
        """Send the INVITE (13.2.1)."""
        core, hop = self._core, target.hop()
        request = self._request("INVITE", target, hop, from_uri)
        for name, value in (("Contact", core.contact(hop.destination, hop.transport)), ALLOW, *checked_fields(headers)):
            request.headers.add(name, value)
        core.set_body(request, SDP_TYPE, sdp)
        call = core.new_call(Role.CALLING, CallState.CALLING)
        user = SentInvite(core, call, offerless=not sdp, first=True)
        call.outgoing = core.layer.open_client(core.stamp(request, hop), hop, user, now)
        deadline = now + core.configuration.invite_timeout_s
        core.layer.deadlines.set(("unanswered", call.handle), deadline, lambda at: self._unanswered(call, at))
        return call.handle

    def acknowledge(self, handle: CallHandle, sdp: bytes, now: float) -> None:
        """Send the ACK that a late answer has held up."""
        call = self._core.call(handle, CallState.ANSWERED, CallState.UP)
        user = call.outgoing.user if call.outgoing else None
        if not isinstance(user, SentInvite) or not user.answer_due:
            raise WrongState(f"call {handle} has no offer of the peer's to answer")
        user.acknowledge(sdp, now)

    def cancel(self, handle: CallHandle, reason: str, now: float) -> None:
        """Give up (9.1)."""
        call = self._core.call(handle, CallState.CALLING)
        checked_fields((("Reason", reason),))
        self.give_up(call, reason, now)

    def give_up(self, call: Call, reason: str, now: float) -> None:
        """CANCEL at once where the peer has answered anything, else as soon as it does."""
        call.state = CallState.CANCELLING
        call.cancel_reason = reason
        self._core.layer.deadlines.cancel(("unanswered", call.handle))
        if call.outgoing is not None and call.outgoing.state is State.PROCEEDING:
            send_cancel(self._core, call, now)

    def reinvite(self, handle: CallHandle, sdp: bytes, now: float) -> None:
        """Offer a new session (14.1)."""
        core = self._core
        call = core.call(handle, CallState.UP)
        if call.outgoing is not None or call.incoming is not None or call.unacknowledged is not None:
            raise WrongState(f"call {handle} has another re-INVITE under way")
        dialog = core.dialog_of(call)
        request = dialog.request("INVITE")
        hop = dialog.hop()
        for name, value in (("Contact", core.contact(hop.destination, hop.transport)), ALLOW):
            request.headers.add(name, value)
        core.set_body(request, SDP_TYPE, sdp)
        user = SentInvite(core, call, offerless=not sdp, first=False)
        call.outgoing = core.send_in_dialog(call, request, user, now)

    def options(self, target: Target, now: float) -> CallHandle:
        """Ask a peer for its abilities (11.1)."""
        core, hop = self._core, target.hop()
        request = self._request("OPTIONS", target, hop, "")
        request.headers.add(*OPTIONS_ACCEPT)
        handle = core.new_handle()
        core.layer.open_client(core.stamp(request, hop), hop, SentOptions(core, handle), now)
        return handle

    def _request(self, method: str, target: Target, hop: Hop, from_uri: str) -> Request:
        """A request outside of any dialog (8.1.1), without its Via."""
        core = self._core
        local = host_port(*core.configuration.local_address(hop.destination, hop.transport))
        from_uri = from_uri or f"sip:{core.configuration.contact_user}@{local}"
        checked_uri(from_uri, "the caller's address")
        fields = [
            ("Max-Forwards", str(DEFAULT_MAX_FORWARDS)),
            ("From", f"<{from_uri}>;tag={core.configuration.tokens()}"),
            ("To", f"<{target.uri}>"),
            ("Call-ID", core.configuration.tokens()),
            ("CSeq", f"1 {method}"),
        ]
        return Request(method, target.uri, Headers(fields))

    def _unanswered(self, call: Call, now: float) -> None:
        call.cancel_why = "unanswered"
        self.give_up(call, "", now)


class SentInvite:
    """Transaction user of one INVITE of ours: the first of a call, or a later one."""

    def __init__(self, core: Core, call: Call, *, offerless: bool, first: bool) -> None:
        self._core = core
        self._call = call
        self._offerless = offerless
        self._first = first
        self._acks: dict[str, Outgoing] = {}
        """By the peer's tag: repeated whenever the 2xx is (13.2.2.4)."""
        self.answer_due = False
        """Whether a 2xx came with an offer that the application must answer."""

    def response_received(self, transaction: Transaction, response: Response, now: float) -> None:
        """Any response, also 2xx that come again or from another fork."""
        if response.status < 200:
            self._provisional(response, now)
        elif response.status < 300:
            self._success(transaction, response, now)
        else:
            self._refused(response, now)

    def ack_received(self, transaction: Transaction, ack: Request, now: float) -> None:
        """Never happens to a client."""

    def transaction_failed(self, transaction: Transaction, why: str, now: float) -> None:
        """Nobody answered at all."""
        core, call = self._core, self._call
        call.outgoing = None
        if not self._first:
            if call.handle in core.calls:
                dialog_lost(core, call, 408, now)
        elif call.state is CallState.CANCELLING:
            end_cancelled(core, call)
        else:
            self._end(CallFailed(call=call.handle, why=why))

    def acknowledge(self, sdp: bytes, now: float) -> None:
        """The answer to the offer in the 2xx."""
        call = self._call
        assert call.outgoing is not None
        sequence = call.outgoing.request.cseq.number
        call.outgoing = None
        self.answer_due = False
        call.state = CallState.UP
        self._send_ack(call, sequence, sdp, now)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _provisional(self, response: Response, now: float) -> None:
        core, call = self._core, self._call
        if call.state is CallState.CANCELLING and not call.cancel_sent:
            send_cancel(core, call, now)
        elif self._first and response.status > 100 and call.state is CallState.CALLING:
            early = core.session_of(response, call.outgoing.hop.destination) if call.outgoing else None
            core.events.append(RingingReceived(call=call.handle, status=response.status, early_answer=early))

    def _success(self, transaction: Transaction, response: Response, now: float) -> None:
        tag = response.recipient.tag
        if tag in self._acks:
            self._core.layer.outbox.append(self._acks[tag])
            return
        call = self._call
        if not self._first:
            self._changed(transaction, response, now)
        elif call.dialog is None:
            self._answered(transaction, response, now)
        elif call.dialog.remote_tag != tag:
            self._hang_up_fork(transaction, response, now)

    def _answered(self, transaction: Transaction, response: Response, now: float) -> None:
        core, call = self._core, self._call
        core.layer.deadlines.cancel(("unanswered", call.handle))
        call.dialog = dialog = calling_dialog(transaction.request, response, transaction.arrival)
        core.dialogs[dialog.key] = call
        cancelled = call.state is CallState.CANCELLING
        session = core.session_of(response, transaction.hop.destination)
        if self._offerless and not cancelled:
            call.state = CallState.ANSWERED
            self.answer_due = True
        else:
            call.outgoing = None
            call.state = CallState.UP
            self._send_ack(call, transaction.request.cseq.number, b"", now)
        if cancelled:
            # The 200 crossed our CANCEL (9.1, 15): the call exists, and is ended.
            known = call.handle in core.calls
            core.say_bye(call, now)
            if known:
                core.events.append(_cancelled_event(call))
            return
        core.events.append(CallAnswered(call=call.handle, answer=session))

    def _changed(self, transaction: Transaction, response: Response, now: float) -> None:
        """2xx to a re-INVITE. Acknowledged even where the call has ended meanwhile."""
        core, call = self._core, self._call
        core.dialog_of(call).refresh_target(response, transaction.arrival)
        known = call.handle in core.calls
        if self._offerless and known:
            self.answer_due = True
        else:
            call.outgoing = None
            self._send_ack(call, transaction.request.cseq.number, b"", now)
        if known:
            session = core.session_of(response, transaction.hop.destination)
            core.events.append(ReinviteAnswered(call=call.handle, answer=session))

    def _hang_up_fork(self, transaction: Transaction, response: Response, now: float) -> None:
        """A second phone picked up (13.2.2.4): acknowledged, and hung up."""
        core = self._core
        dialog = calling_dialog(transaction.request, response, transaction.arrival)
        fork = Call(core.new_handle(), Role.CALLING, CallState.UP, dialog)
        core.dialogs[dialog.key] = fork
        self._send_ack(fork, transaction.request.cseq.number, b"", now)
        core.say_bye(fork, now)

    def _send_ack(self, call: Call, sequence: int, sdp: bytes, now: float) -> None:
        """ACK to a 2xx: no transaction, a branch of its own, the dialog's route (13.2.2.4)."""
        core, dialog = self._core, self._core.dialog_of(call)
        hop = dialog.hop()
        request = core.stamp(dialog.request("ACK", sequence=sequence), hop)
        core.set_body(request, SDP_TYPE, sdp)
        core.layer.send(request.serialise(), hop, request, now)
        self._acks[dialog.remote_tag] = core.layer.outbox[-1]

    def _refused(self, response: Response, now: float) -> None:
        core, call = self._core, self._call
        call.outgoing = None
        if not self._first:
            if call.handle in core.calls:
                self._change_refused(response.status, now)
        elif call.state is CallState.CANCELLING and (response.status == 487 or call.cancel_why):
            end_cancelled(core, call)
        else:
            refusal = CallRejected(
                call=call.handle, status=response.status, reason=response.reason, retry_after_s=response.retry_after_s
            )
            self._end(refusal)

    def _change_refused(self, status: int, now: float) -> None:
        core, call = self._core, self._call
        if status in DIALOG_GONE:
            dialog_lost(core, call, status, now)
            return
        wait = 0.0
        if status == 491:
            # 14.1: the side that owns the Call-ID waits 2.1 to 4 s, the other 0 to 2 s, in units of 10 ms.
            low, high = (2.1, 4.0) if call.role is Role.CALLING else (0.0, 2.0)
            wait = round(low + core.chance() * (high - low), 2)
        core.events.append(ReinviteRejected(call=call.handle, status=status, retry_after_s=wait))

    def _end(self, event: CallFailed | CallRejected) -> None:
        known = self._call.handle in self._core.calls
        self._core.finish(self._call)
        if known:
            self._core.events.append(event)


class SentOptions:
    """Transaction user of an OPTIONS outside of any dialog."""

    def __init__(self, core: Core, handle: CallHandle) -> None:
        self._core = core
        self._handle = handle

    def response_received(self, transaction: Transaction, response: Response, now: float) -> None:
        """Report the final one."""
        if response.status >= 200:
            self._report(response.status)

    def ack_received(self, transaction: Transaction, ack: Request, now: float) -> None:
        """Never happens to a client."""

    def transaction_failed(self, transaction: Transaction, why: str, now: float) -> None:
        """8.1.3.1: a timeout is taken as 408, a transport error as 503."""
        self._report(408 if why == "timeout" else 503)

    def _report(self, status: int) -> None:
        self._core.events.append(RequestAnswered(call=self._handle, method="OPTIONS", status=status))


class SentCancel:
    """Transaction user of a CANCEL: only the INVITE's own final response counts (9.1)."""

    def response_received(self, transaction: Transaction, response: Response, now: float) -> None:
        """The peer has heard it."""

    def ack_received(self, transaction: Transaction, ack: Request, now: float) -> None:
        """Never happens to a client."""

    def transaction_failed(self, transaction: Transaction, why: str, now: float) -> None:
        """The deadline that was set with the CANCEL ends the call."""


def send_cancel(core: Core, call: Call, now: float) -> None:
    """CANCEL with the branch, route and CSeq number of the INVITE (9.1)."""
    invite = call.outgoing
    assert invite is not None
    call.cancel_sent = True
    headers = invite.request.headers
    fields = [("Via", headers.get("via") or "")]
    fields += [("Route", value) for value in headers.all("route")]
    fields += [(name, headers.get(name.lower()) or "") for name in ("Max-Forwards", "From", "To", "Call-ID")]
    fields.append(("CSeq", f"{invite.request.cseq.number} CANCEL"))
    if call.cancel_reason:
        fields.append(("Reason", call.cancel_reason))
    core.layer.open_client(Request("CANCEL", invite.request.uri, Headers(fields)), invite.hop, SentCancel(), now)

    def give_up(at: float) -> None:
        # 9.1: no final response within 64*T1 of the CANCEL means that there will be none.
        if call.outgoing is invite:
            core.layer.abandon(invite, at)
            end_cancelled(core, call)

    core.layer.deadlines.set(("cancel", call.handle), now + core.configuration.timers.transaction, give_up)


def end_cancelled(core: Core, call: Call) -> None:
    """The call that we gave up is over."""
    known = call.handle in core.calls
    call.outgoing = None
    core.finish(call)
    if known:
        core.events.append(_cancelled_event(call))


def _cancelled_event(call: Call) -> CallCancelled | CallFailed:
    if call.cancel_why:
        return CallFailed(call=call.handle, why=call.cancel_why)
    return CallCancelled(call=call.handle)


def hang_up_unacknowledged(core: Core, call: Call, now: float) -> None:
    """BYE where the peer's offer in its 2xx was never answered: an ACK without a body first."""
    user = call.outgoing.user if call.outgoing else None
    if isinstance(user, SentInvite) and user.answer_due:
        user.acknowledge(b"", now)
    core.say_bye(call, now)
