"""Calls, as edges count them: how many came, how they ended, how long it took to answer them.

The end of a call whose edge has died is counted by the edge that records it, or by the one started in its place:
over all edges each call that is over is counted once, and one edge may count more ends than offers.
"""

from __future__ import annotations

from collections.abc import Iterable

from bus.metrics.registry import EDGE, WORKERS, Label, counter, histogram, reading
from schemas.call import EDGE_LOST, CallResult, TransferResult

REFUSALS = (
    "draining", "over_limit", "bus_disconnected", "no_rtp_port", "caller_limit", "no_codec", "no_audio",
    "setup_failed", *(f"no_worker_{stage}" for stage in WORKERS),
)  # fmt: skip
"""Why a call is not answered: the reasons of ``edge.admission``."""
END_REASONS = (
    "caller_hung_up", "agent_hung_up", "agent_transferred", "caller_away", "turn_stuck", "caller_cancelled", "no_ack",
    "dialog_ended", "dialog_lost", "unanswered", "no_answer_in_ack", "media_timeout", "edge_stopping", EDGE_LOST,
)  # fmt: skip
"""Why a call ended that was not refused. A reason that an agent of one's own gives is ``other``."""
DTMF_SOURCES = ("rtp", "info")
SETUP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
DURATION_BUCKETS_S = (5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)

ACTIVE = reading("callbus_calls_active", "Calls that are up, ringing ones too", by=(EDGE,))
HELD = reading("callbus_calls_held", "Calls that their caller has put on hold", by=(EDGE,))
OFFERED = counter("callbus_calls_offered_total", "INVITEs for a new call, refused ones too", by=(EDGE,))
ENDED = counter(
    "callbus_calls_ended_total",
    "Calls that are over, refused ones too, and those of an edge that died (edge_lost)",
    Label("result", tuple(result.value for result in CallResult)),
    Label("reason", (*END_REASONS, *REFUSALS)),
    by=(EDGE,),
)
REFUSED = counter(
    "callbus_calls_refused_total", "Calls that were not answered, and why", Label("reason", REFUSALS), by=(EDGE,)
)
DURATION = histogram(
    "callbus_call_duration_seconds", "Answer to end, of answered calls", buckets=DURATION_BUCKETS_S, by=(EDGE,)
)
SETUP = histogram(
    "callbus_call_setup_seconds",
    "INVITE received to 200 OK sent, ringing included",
    buckets=SETUP_BUCKETS_S,
    by=(EDGE,),
)
TRANSFERS = counter(
    "callbus_transfers_total",
    "Callers that were to be handed to somebody else, and what became of it",
    Label("result", tuple(result.value for result in TransferResult)),
    by=(EDGE,),
)
DTMF = counter(
    "callbus_dtmf_total", "Keys that callers pressed, by how they came", Label("source", DTMF_SOURCES), by=(EDGE,)
)
SIP_DEFECTS = counter("callbus_sip_defects_total", "SIP messages that were not as the standard wants them", by=(EDGE,))


def count_refused(reason: str) -> None:
    """A call is not answered; it is over with that."""
    REFUSED.inc(reason=reason)
    count_ended(CallResult.REJECTED, reason)


def expect_lost(durations_ms: Iterable[int] = ()) -> None:
    """An edge begins: it may have to count the calls of one that dies. ``durations_ms``: of those that one has left
    behind whose place it takes. The series is there from the start, or the first would be no growth."""
    ENDED.child({"result": CallResult.FAILED.value, "reason": EDGE_LOST})
    for duration_ms in durations_ms:
        count_ended(CallResult.FAILED, EDGE_LOST, duration_ms)


def count_ended(result: CallResult, reason: str, duration_ms: float = 0) -> None:
    """A call is over. ``duration_ms``: from its answer; 0 where there was none."""
    ENDED.inc(result=result.value, reason=reason)
    if duration_ms:
        DURATION.observe(duration_ms / 1000)
