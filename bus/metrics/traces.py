"""What became of traces."""

from __future__ import annotations

from bus.metrics.registry import Label, counter

KEPT_WHY = ("failure", "failed_call", "slow_turn")

TRACES_KEPT = counter(
    "callbus_traces_kept_total",
    "Calls whose trace is exported although it was not drawn, and why",
    Label("why", KEPT_WHY),
)
SPANS_DROPPED = counter("callbus_spans_dropped_total", "Spans that could not be exported: no room, or nobody took them")


def count_kept_trace(why: str) -> None:
    """A trace, or the rest of one, is exported, and why; one of :data:`KEPT_WHY`."""
    TRACES_KEPT.inc(why=why)


def count_dropped_spans(count: int) -> None:
    """So many spans will never be exported."""
    SPANS_DROPPED.inc(count)
