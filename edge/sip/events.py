"""What a `UserAgent` takes and gives: datagrams out, events up.

Every call that was announced (`IncomingCall`) or begun (`UserAgent.invite`) ends with exactly one `EndOfCall` event,
unless this side ended it: after `reject` or `hang_up` nothing more is said about the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, NewType

from edge.sip.dtmf_info import InfoDigit
from edge.sip.sdp import SessionDescription

CallHandle = NewType("CallHandle", int)
"""Names one call inside one `UserAgent`; never reused while the process lives."""

Address = tuple[str, int]
"""Host (IP address or, for an outgoing message, a name still to be resolved) and port."""


class Transport(StrEnum):
    """What carries a message (RFC 3261 section 18)."""

    UDP = "udp"
    TCP = "tcp"

    @property
    def reliable(self) -> bool:
        """Whether retransmission is the transport's business (RFC 3261 section 17)."""
        return self is Transport.TCP


class Outgoing(NamedTuple):
    """One message to send now.

    TCP: write to `connection`, as it was given to `UserAgent.receive`, while it is open; where it is None or closed,
    to one that leads to `destination`, opened if need be. Where none can be had, call `UserAgent.unreachable`.
    """

    data: bytes
    destination: Address
    transport: Transport
    connection: object | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """Something happened to one call."""

    call: CallHandle
    """The call that it happened to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOfCall(CallEvent):
    """The call is over; its handle is unknown from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall(CallEvent):
    """A new INVITE passed all checks; 100 Trying is on its way. Answer, ring or reject."""

    sip_call_id: str
    """The Call-ID header as it came."""
    from_uri: str
    """URI of the From header, without its parameters."""
    from_user: str
    """User part of From, %-escapes resolved; empty where there is none."""
    from_display: str
    """Display name of From, unquoted; empty where there is none."""
    to_uri: str
    """URI of the To header, without its parameters."""
    to_user: str
    """User part of To, %-escapes resolved; empty where there is none."""
    request_uri: str
    """The Request-URI: who is really being called after any redirection."""
    request_user: str
    """User part of the Request-URI, %-escapes resolved; empty where there is none."""
    source: Address
    """Where the packet came from, as the socket saw it."""
    transport: Transport
    """What carried it."""
    offer: SessionDescription | None
    """The caller's session description; None for a late offer: `answer` then takes our offer."""
    headers: tuple[tuple[str, str], ...]
    """All header fields in order, names as written, values unfolded; bytes that are not UTF-8 are surrogates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCancelled(EndOfCall):
    """The caller gave up before the answer (487 was sent), or our own `cancel` has taken effect."""

    reason: str = ""
    """Value of the CANCEL's Reason header (RFC 3326); empty where there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAcknowledged(CallEvent):
    """The ACK to our 200 arrived: the call is up."""

    answer: SessionDescription | None = None
    """The caller's answer where the INVITE had no offer; None otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AckTimeout(EndOfCall):
    """No ACK within 64*T1 of our 200; a BYE has been sent (RFC 3261 section 13.3.1.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHungUp(EndOfCall):
    """The peer sent BYE; it has been answered."""

    reason: str = ""
    """Value of the BYE's Reason header (RFC 3326); empty where there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinviteReceived(CallEvent):
    """The peer wants to change the session (re-INVITE, or UPDATE with an offer); `answer_reinvite` or refuse."""

    offer: SessionDescription | None
    """The new offer; None: the peer asks for ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoReceived(CallEvent):
    """INFO inside the call (RFC 6086); it has been answered 200."""

    content_type: str
    """Media type in lower case without parameters; empty where there was no body."""
    body: bytes
    """The body as it came."""
    digit: InfoDigit | None
    """The key pressed, where the body is application/dtmf-relay or application/dtmf; None otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingingReceived(CallEvent):
    """A provisional response above 100 to our INVITE."""

    status: int
    """180, 183..."""
    early_answer: SessionDescription | None = None
    """Session description of early media, where the response brought one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswered(CallEvent):
    """Our INVITE was answered 200; the ACK is sent, unless `invite` was given no offer: then `acknowledge`."""

    answer: SessionDescription | None
    """The peer's answer, or its offer where ours was left out; None where the 200 had no readable SDP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRejected(EndOfCall):
    """Our INVITE was refused by a final response."""

    status: int
    """300 to 699."""
    reason: str
    """The reason phrase."""
    retry_after_s: int | None = None
    """Seconds of the Retry-After header; None where there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed(EndOfCall):
    """The call ended by a fault: nobody answered, the peer forgot the dialog, a limit in time was reached."""

    why: str
    """One token: timeout, transport, dialog_lost, unanswered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinviteAnswered(CallEvent):
    """Our re-INVITE was accepted; the ACK is sent."""

    answer: SessionDescription | None
    """The peer's answer; None where the 200 had no readable SDP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinviteRejected(CallEvent):
    """Our re-INVITE was refused: the session stays as it was."""

    status: int
    """Final status; 491 means the peer was faster: wait `retry_after_s`, then try again."""
    retry_after_s: float = 0.0
    """After 491: seconds to wait (RFC 3261 section 14.1); 0 otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered(CallEvent):
    """Final status of our INFO, REFER or OPTIONS; out of a dialog the handle is the one that `options` returned."""

    method: str
    """The method that we sent."""
    status: int
    """Final status; 408 where nobody answered, 503 where the message could not be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferProgress(CallEvent):
    """What the peer reports of the call that our REFER asked it to make (RFC 3515 section 2.4.4)."""

    status: int
    """Of the new party's response: below 200 it goes on; 2xx: they are connected; else it came to nothing."""


@dataclass(frozen=True, slots=True)
class Defect:
    """A message was malformed, unwanted or untrusted: worth one log line."""

    status: int
    """Status it was answered with; 0: dropped without an answer."""
    text: str
    """What is wrong, naming the element at fault; holds no caller content."""
    source: Address
    """Where the packet came from."""


Event = CallEvent | Defect
