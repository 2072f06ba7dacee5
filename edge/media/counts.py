"""What happened to the packets of one call, for its last log line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Rejection(StrEnum):
    """Why a datagram on the RTP port was refused."""

    STRANGER = "stranger"
    """From an address that is not the caller's."""
    EARLY = "early"
    """Before the call was answered."""
    NOT_RTP = "not_rtp"
    """Neither RTP nor RTCP: STUN, keep-alives, noise; also the 1 to 11 bytes that hold no header."""
    MALFORMED = "malformed"
    """An RTP header whose lengths do not add up."""
    OVERSIZE = "oversize"
    PAYLOAD_TYPE = "payload_type"
    """A payload type that was not agreed on."""
    UNSETTLED = "unsettled"
    """A single packet of another SSRC or far off in sequence, without a second one behind it."""


@dataclass(slots=True)
class ReceiveCounts:
    """Packets of the received stream, RFC 3550 senses.

    Attributes:
        frames: frames given out.
        late: came after they were given up, dropped.
        reordered: came early and waited, or came late.
        comfort_noise: payload type 13 (RFC 3389), ignored.
        events: telephone-event packets.
        ssrc_changes, restarts: the sender's SSRC changed; its sequence numbers jumped.
        resyncs: times its clock jumped, for either of these reasons or by itself.
        rtcp: RTCP packets on the RTP port (RFC 5761).
        rejected: packets by reason.
    """

    frames: int = 0
    late: int = 0
    duplicate: int = 0
    reordered: int = 0
    comfort_noise: int = 0
    events: int = 0
    ssrc_changes: int = 0
    restarts: int = 0
    resyncs: int = 0
    rtcp: int = 0
    rejected: dict[Rejection, int] = field(default_factory=lambda: dict.fromkeys(Rejection, 0))

    @property
    def packets(self) -> int:
        """RTP packets of the caller's, however useful."""
        return self.frames + self.events + self.comfort_noise + self.late + self.duplicate

    @property
    def rejected_total(self) -> int:
        return sum(self.rejected.values())
