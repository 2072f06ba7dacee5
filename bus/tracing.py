"""W3C trace context across the bus, and one wrapper that times and guards every handler.

Names of spans are subjects with their identifiers taken out, never the identifiers. Live audio carries no headers and
gets no span.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bus.logs import get_logger
from bus.metrics.process import HANDLER_BUCKETS_S
from schemas.subjects import template_of

T = TypeVar("T")

log = get_logger(__name__)

TRACEPARENT = "traceparent"

_TRACE_ID = re.compile(r"^[0-9a-f]{32}$")
_ROOT_SPAN_MASK = (1 << 64) - 1
_BOUNDS_MS = tuple(bound * 1000 for bound in HANDLER_BUCKETS_S)

_PROPAGATOR = TraceContextTextMapPropagator()
_NO_PROVIDER = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)


def inject(subject: str, headers: dict[str, str]) -> None:
    """Add a trace context to ``headers``: the current one, else the root of the call that ``subject`` names.

    Under a producer span where spans are recorded. Nothing is added where there is neither.
    """
    context = None if trace.get_current_span().get_span_context().is_valid else call_context(subject)
    if isinstance(trace.get_tracer_provider(), _NO_PROVIDER):
        _PROPAGATOR.inject(headers, context)
        return
    tracer = trace.get_tracer("callbus.bus")
    span = tracer.start_span(f"send {template_of(subject)}", context=context, kind=trace.SpanKind.PRODUCER)
    _PROPAGATOR.inject(headers, trace.set_span_in_context(span))
    span.end()


def call_context(subject: str) -> Context | None:
    """The root of a call's trace, the same in every process: the call id is the trace id (ADR 0007).

    None where the subject names no call, or a call id that is no trace id (32 hexadecimal digits, not all zero).
    """
    parts = subject.split(".", 3)
    if len(parts) < 4 or not _TRACE_ID.match(parts[2]):
        return None
    trace_id = int(parts[2], 16)
    root = trace_id & _ROOT_SPAN_MASK
    if not trace_id or not root:
        return None
    span = trace.SpanContext(trace_id, root, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
    return trace.set_span_in_context(trace.NonRecordingSpan(span))


@contextmanager
def consumer_span(subject: str, headers: Mapping[str, str]) -> Iterator[None]:
    """The trace of the message continues here; nothing is done where there is neither trace nor recorder."""
    if TRACEPARENT not in headers and isinstance(trace.get_tracer_provider(), _NO_PROVIDER):
        yield
        return
    context = _PROPAGATOR.extract(headers)
    tracer = trace.get_tracer("callbus.bus")
    with tracer.start_as_current_span(f"process {template_of(subject)}", context=context, kind=trace.SpanKind.CONSUMER):
        yield


class HandlerFigures:
    """Counts and times of one handler, since the process started.

    ``buckets``: times by the bounds of ``bus.metrics.process.HANDLER_BUCKETS_S``, one more for what is above them.
    """

    __slots__ = ("buckets", "count", "errors", "last_error", "max_ms", "total_ms")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BOUNDS_MS) + 1)
        self.count = 0
        self.errors = 0
        self.last_error = ""
        self.total_ms = 0.0
        self.max_ms = 0.0

    @property
    def mean_ms(self) -> float:
        return self.total_ms / self.count if self.count else 0.0


_FIGURES: dict[str, HandlerFigures] = {}


def figures_of(name: str) -> HandlerFigures:
    """The figures of handler ``name`` (``<service> <subject template>``), made at first use."""
    figures = _FIGURES.get(name)
    if figures is None:
        figures = _FIGURES[name] = HandlerFigures()
    return figures


def all_figures() -> Mapping[str, HandlerFigures]:
    """The figures of every handler of this process."""
    return _FIGURES


class GuardedHandler(Generic[T]):
    """A handler that is timed, counted and traced, and whose errors end nothing."""

    def __init__(self, service: str, handler: Callable[[T], object]) -> None:
        self._service = service
        self._handler = handler
        self._names: dict[str, HandlerFigures] = {}

    def __call__(self, subject: str, headers: Mapping[str, str], value: T) -> None:
        """Hand ``value`` over; an exception is logged and counted."""
        template = template_of(subject)
        figures = self._names.get(template)
        if figures is None:
            figures = self._names[template] = figures_of(f"{self._service} {template}")
        begun = time.perf_counter()
        try:
            with consumer_span(subject, headers):
                self._handler(value)
        except Exception as error:
            figures.errors += 1
            figures.last_error = type(error).__name__
            log.exception(
                "handler_failed",
                message=f"the handler of {template} in {self._service} raised {type(error).__name__}; going on",
            )
        finally:
            took_ms = (time.perf_counter() - begun) * 1000
            figures.count += 1
            figures.total_ms += took_ms
            figures.buckets[bisect_left(_BOUNDS_MS, took_ms)] += 1
            figures.max_ms = max(figures.max_ms, took_ms)
