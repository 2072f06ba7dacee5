"""The life of a call, told by the edge."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.base import Event, NonNegative

EDGE_LOST = "edge_lost"
"""Reason of the ``call.ended`` of a call whose edge died, or was cut off for so long that the stages let go of it."""


class CallResult(StrEnum):
    """How a call ended, for counting. The reason token beside it says why."""

    COMPLETED = "completed"
    """Answered and ended by either side's BYE or by the agent."""
    CANCELLED = "cancelled"
    """The caller gave up before the answer (CANCEL)."""
    REJECTED = "rejected"
    """Refused before the answer: busy, no codec in common, over the limit."""
    FAILED = "failed"
    """Ended by a fault: media timeout, lost ACK, a dead edge."""


class EndedBy(StrEnum):
    """Which side ended the call."""

    CALLER = "caller"
    AGENT = "agent"
    EDGE = "edge"


class SetupTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from the INVITE's arrival to each later point; None where it was not reached."""

    trying_ms: float | None = None
    ringing_ms: float | None = None
    answered_ms: float | None = None
    acknowledged_ms: float | None = None


class MediaCounts(msgspec.Struct, frozen=True, kw_only=True):
    """RTP of one call, both directions (RFC 3550 senses)."""

    packets_received: NonNegative = 0
    packets_sent: NonNegative = 0
    lost: NonNegative = 0
    late: NonNegative = 0
    duplicate: NonNegative = 0
    reordered: NonNegative = 0
    rejected: NonNegative = 0
    """Packets refused: a stranger's address, an unknown payload type, not RTP at all."""
    ssrc_changes: NonNegative = 0
    jitter_ms: float = 0.0
    pacer_late_max_ms: float = 0.0
    frames_from_agent: NonNegative = 0
    frames_dropped_stale: NonNegative = 0
    """Agent frames dropped because their utterance was flushed or already played."""
    loss_share: float = 0.0
    """Of the caller's packets: lost or too late, 0 to 1."""
    mos_in: float | None = None
    """Estimated mean opinion score, 1 to 4.5, of the caller's voice (E-model, ITU-T G.107); None: too little came."""
    mos_out: float | None = None
    """The same of the agent's voice, by what the caller's telephone reports; None: it reports nothing."""
    out_loss_share: float | None = None
    """Of our packets, as the telephone reports."""
    out_jitter_ms: float | None = None
    round_trip_ms: float | None = None
    """Of the network, by RTCP."""


class CallOffered(Event, frozen=True, kw_only=True, tag="call.offered.v1"):
    """An INVITE was accepted for answering; stages may claim the call now."""

    edge: str
    sip_call_id: Annotated[str, msgspec.Meta(max_length=255)] = ""
    caller: Annotated[str, msgspec.Meta(max_length=64)] = ""
    called: Annotated[str, msgspec.Meta(max_length=64)] = ""
    transport: str = "udp"
    codecs: tuple[str, ...] = ()


class CallAnswered(Event, frozen=True, kw_only=True, tag="call.answered.v1"):
    """The 200 OK left. Media time 0 of both directions is ``media_epoch_us`` on the wall clock."""

    edge: str
    codec: str
    media_epoch_us: NonNegative
    clock_rate_hz: int = 8000
    frame_ms: int = 20


class CallHeld(Event, frozen=True, kw_only=True, tag="call.held.v1"):
    """The caller put the call on hold, or took it back (``held`` false). ``change`` counts the changes."""

    identity = ("change",)

    change: NonNegative
    held: bool
    direction: str = "sendrecv"


class TransferResult(StrEnum):
    """What became of handing the caller over."""

    CONNECTED = "connected"
    """The caller's telephone reached the target; this side hung up."""
    LEFT = "left"
    """The telephone agreed and hung up without saying how it ended."""
    REFUSED = "refused"
    """The telephone does not do it."""
    FAILED = "failed"
    """The target was busy or could not be reached."""
    TIMEOUT = "timeout"
    """The telephone agreed and never said how it ended."""


class CallTransferred(Event, frozen=True, kw_only=True, tag="call.transferred.v1"):
    """The caller was to be handed to somebody else (REFER).

    ``target_kind``: scheme of the target: sip, sips, tel. ``accepted``: the caller is gone to them, as far as is known;
    else the call goes on. ``number`` counts the transfers of the call from 1.
    """

    identity = ("number",)

    target_kind: str
    accepted: bool
    result: TransferResult = TransferResult.CONNECTED
    number: NonNegative = 1


class CallEnded(Event, frozen=True, kw_only=True, tag="call.ended.v1"):
    """The last event of the edge for a call; every stage lets go of it.

    Attributes:
        reason: one token, for example ``caller_hung_up``, ``agent_hung_up``, ``media_timeout``, ``no_ack``.
        duration_ms: from the answer to the end; 0 where it was never answered.
    """

    edge: str
    result: CallResult
    reason: str
    ended_by: EndedBy
    duration_ms: NonNegative = 0
    setup: SetupTimes = SetupTimes()
    media: MediaCounts = MediaCounts()


class EdgeLost(Event, frozen=True, kw_only=True, tag="edge.lost.v1"):
    """A stage lets go of a call because its edge is gone. Said to edges: one that lives records the call's end, and the
    one that is meant, where it was only cut off, hangs up. No stage may end the record of a call itself.

    Attributes:
        silent_ms: since when the edge was not heard.
    """

    edge: str
    silent_ms: NonNegative = 0
    duration_ms: NonNegative = 0


def ended_with_its_edge(*, call_id: str, tenant: str, at_us: int, edge: str, duration_ms: int) -> CallEnded:
    """The end of a call that its edge can't say any more, by whoever says it."""
    return CallEnded(
        call_id=call_id,
        tenant=tenant,
        at_us=at_us,
        edge=edge,
        result=CallResult.FAILED,
        reason=EDGE_LOST,
        ended_by=EndedBy.EDGE,
        duration_ms=duration_ms,
    )


class DtmfIn(Event, frozen=True, kw_only=True, tag="dtmf.in.v1"):
    """The caller pressed a key (RFC 4733 event or SIP INFO). ``press`` counts the presses of the call."""

    identity = ("press",)

    press: NonNegative
    digit: Annotated[str, msgspec.Meta(pattern=r"^[0-9*#A-D]$")]
    duration_ms: NonNegative = 0
    media_time_ms: NonNegative = 0
    source: str = "rtp"
