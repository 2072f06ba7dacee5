"""What the spans of one call take by account: its events through the folds of all four processes, made and encoded."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bus.tracing_calls import SPEAKER, CallTraces, Rules
from bus.tracing_setup import STAGES, fold_of
from config.load import load
from schemas.base import Event
from schemas.call import CallOffered

REPEATS = 40
BATCH = 128


def account(events: Sequence[Event]) -> tuple[float, int]:
    """Milliseconds of processor time, and spans. Every process hears everything, which is more than it does."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from bus.tracing_export import readable

    make = readable(Resource({"service.name": "callbus"}), InstrumentationScope("callbus", "0"))
    settings = load({})
    made: list[ReadableSpan] = []
    begun = time.process_time()
    for _ in range(REPEATS):
        made.clear()
        for stage in STAGES:
            traces = CallTraces(
                stage,
                f"{stage}-1",
                Rules(),
                fold=fold_of(stage, settings),
                emit=lambda trace_id, span: made.append(make(trace_id, span)),
                passes=lambda: True,
                ask=lambda _: None,
                now=time.monotonic,
            )
            _replay(traces, stage, events)
        for first in range(0, len(made), BATCH):
            encode_spans(made[first : first + BATCH]).SerializeToString()
    return (time.process_time() - begun) * 1000 / REPEATS, len(made)


def _replay(traces: CallTraces, stage: str, events: Sequence[Event]) -> None:
    for event in events:
        if isinstance(event, CallOffered) and stage != "edge":
            traces.claimed(event, 1, False, event.at_us + 1000)
        elif SPEAKER[type(event)] == stage:
            traces.said(event)
        else:
            traces.heard(event, event.at_us + 1000, True)
