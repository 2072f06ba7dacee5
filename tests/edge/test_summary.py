"""The one line of the log that stands for a call."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from edge.summary import tell_call
from schemas.call import CallResult, EndedBy, MediaCounts

pytestmark = pytest.mark.unit


def test_what_is_not_known_is_left_out() -> None:
    with capture_logs() as lines:
        tell_call(CallResult.REJECTED, "over_limit", EndedBy.EDGE, status=503, codec=None)
        tell_call(
            CallResult.COMPLETED, "caller_hung_up", EndedBy.CALLER, call_id="c", tenant="t",
            counts=MediaCounts(packets_received=7), duration_ms=140,
        )  # fmt: skip
    refused, completed = lines
    assert refused == {
        "event": "call_summary", "log_level": "info", "message": "call rejected: over_limit", "tenant": "",
        "call_id": "", "result": "rejected", "reason": "over_limit", "ended_by": "edge", "status": 503,
    }  # fmt: skip
    assert (completed["packets_received"], completed["duration_ms"], completed["lost"]) == (7, 140, 0)
    assert None not in completed.values()
