"""What a call came to: SIP, RTP both ways, and when the other side was heard."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from ops.caller.recording import CallRecording


class Outcome(StrEnum):
    """How the call ended."""

    COMPLETED = "completed"
    """Answered, and ended by either side."""
    REJECTED = "rejected"
    """Refused with a SIP status."""
    UNANSWERED = "unanswered"
    """It rang for too long, and was cancelled."""
    TIMED_OUT = "timed_out"
    """Answered, but longer than the limit; hung up in the middle of the script."""
    FAILED = "failed"
    """Nobody there, or no audio could be agreed on."""


class SipResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response to the INVITE, and when it came after it."""

    status: int
    at_ms: float


class RtpSent(msgspec.Struct, frozen=True, kw_only=True):
    """What this side sent. ``octets``: of payload."""

    packets: int = 0
    octets: int = 0


class RtpReceived(msgspec.Struct, frozen=True, kw_only=True):
    """What came in, RFC 3550 senses."""

    frames: int = 0
    octets: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    reordered: int = 0
    rejected: int = 0
    ssrc_changes: int = 0
    telephone_events: int = 0
    jitter_ms: float = 0.0


class StepReport(msgspec.Struct, frozen=True, kw_only=True):
    """One step; times are milliseconds since the answer.

    Attributes:
        last_voiced_ms: the last sample that can be heard of what was said; of keys the last one going down, because a
            menu may act on that.
        first_audio_ms: the first sound of the other side after that (after its silence, where both spoke at once).
        answer_latency_ms: from the one to the other; None where nothing was heard before the next words of this side.
        note: what is worth knowing, and why it is not ``ok``.
    """

    kind: str
    start_ms: int
    end_ms: int
    ok: bool = True
    note: str = ""
    last_voiced_ms: int | None = None
    first_audio_ms: int | None = None
    answer_latency_ms: int | None = None


class CallReport(msgspec.Struct, kw_only=True):
    """One call. SIP times are milliseconds since the INVITE; ``greeting_ms``: answer to the first sound.

    ``ended_by``: ``caller`` (this side), ``callee``, or empty where it never began.
    """

    target: str
    transport: str
    outcome: Outcome = Outcome.FAILED
    reason: str = ""
    sip_status: int = 0
    responses: list[SipResponse] = []
    ended_by: str = ""
    codec: str = ""
    duration_ms: int = 0
    greeting_ms: int | None = None
    sent: RtpSent = RtpSent()
    received: RtpReceived = RtpReceived()
    keys_received: str = ""
    steps: list[StepReport] = []
    recording: CallRecording | None = None

    @property
    def succeeded(self) -> bool:
        """The call was completed and every step could be carried out."""
        return self.outcome is Outcome.COMPLETED and all(step.ok for step in self.steps)

    def facts(self) -> dict[str, Any]:
        """Everything but the audio, for JSON."""
        facts: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(self, recording=None))
        del facts["recording"]
        return facts
