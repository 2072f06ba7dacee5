"""What became of traces."""

from __future__ import annotations

from bus.metrics.registry import Label, counter

KEPT_WHY = ("error", "slow", "sampled")

TRACES_KEPT = counter(
    "callbus_traces_kept_total", "Traces or turns of them that are exported, and why", Label("why", KEPT_WHY)
)
SPANS_DROPPED = counter("callbus_spans_dropped_total", "Spans that could not be exported: no room, or nobody took them")
