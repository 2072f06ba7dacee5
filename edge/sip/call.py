"""What the user agent remembers of one call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge.sip.dialog import Dialog
from edge.sip.events import CallHandle
from edge.sip.message import Response
from edge.sip.transaction import Transaction


class Role(StrEnum):
    """Who sent the first INVITE."""

    CALLED = "called"
    CALLING = "calling"


class CallState(StrEnum):
    """The life of a call, in order."""

    OFFERED = "offered"
    """INVITE received, no final response sent."""
    CALLING = "calling"
    """INVITE sent, no final response received."""
    CANCELLING = "cancelling"
    """We gave up: CANCEL is sent, or will be as soon as the peer has said anything."""
    ANSWERED = "answered"
    """200 sent (its ACK is missing) or received (our ACK waits for `acknowledge`)."""
    UP = "up"
    """200 and ACK have passed."""
    ENDING = "ending"
    """Our BYE is under way; the application has forgotten the call."""
    OVER = "over"


@dataclass(slots=True)
class Unacknowledged:
    """A 2xx of ours that is repeated until its ACK comes (section 13.3.1.4)."""

    transaction: Transaction
    response: Response
    interval: float
    give_up_at: float
    holds_offer: bool
    """Whether the ACK must bring an answer."""


@dataclass(slots=True)
class Call:
    """One call, either role."""

    handle: CallHandle
    role: Role
    state: CallState
    dialog: Dialog | None = None
    """None only while our INVITE is unanswered."""
    incoming: Transaction | None = None
    """The peer's INVITE (or UPDATE with an offer) that waits for our final response."""
    outgoing: Transaction | None = None
    """Our INVITE that waits for the peer's final response, or for our answer in its ACK."""
    unacknowledged: Unacknowledged | None = None
    bye_reason: str | None = None
    """Set: hang up as soon as the protocol allows; the value of the Reason header or empty."""
    cancel_sent: bool = False
    cancel_why: str = ""
    """Empty: the application gave up; else the `why` of the CallFailed that ends the call."""
    cancel_reason: str = ""
    """Value of the Reason header of the CANCEL; empty for none."""
    referring: bool = False
    """Our REFER is under way, or taken, and the peer has not said how it ended."""
