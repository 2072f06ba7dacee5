"""What a process has measured, for Prometheus.

No identifier is ever a label. Each room declares the figures of one matter; ``registry`` says what a declaration is,
and ``page`` makes the page of a process of those that it tells; ``bus.pages`` serves it over HTTP.
"""

from bus.metrics import calls, engines, media, process, traces, turns, workers
from bus.metrics.engines import EngineFigures, count_degraded
from bus.metrics.page import begin, render
from bus.metrics.registry import DECLARED, REGISTRY, SERVICES
from bus.metrics.traces import count_dropped_spans, count_kept_trace
from bus.metrics.turns import (
    TURN_FIELDS,
    count_away,
    count_backchannel,
    count_false_interruption,
    count_interruption,
    count_stuck,
    observe_measured,
)

__all__ = [
    "DECLARED",
    "REGISTRY",
    "SERVICES",
    "TURN_FIELDS",
    "EngineFigures",
    "begin",
    "calls",
    "count_away",
    "count_backchannel",
    "count_degraded",
    "count_dropped_spans",
    "count_false_interruption",
    "count_interruption",
    "count_kept_trace",
    "count_stuck",
    "engines",
    "media",
    "observe_measured",
    "process",
    "render",
    "traces",
    "turns",
    "workers",
]
