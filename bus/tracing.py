"""W3C trace context across the bus, and one wrapper that times and guards every handler.

Every recorded message carries the span of its turn, or of its call, as its parent, whether or not traces are on: ids
come out of the call id (ADR 0007). Live audio carries no headers.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bus.clock import wall_us
from bus.logs import about_subject, get_logger
from bus.metrics.process import HANDLER_BUCKETS_S
from bus.spans import Attributes, root_id_of, trace_id_of, turn_id_of, turn_named
from schemas.base import Event
from schemas.call import CallOffered
from schemas.subjects import template_of

T = TypeVar("T")

log = get_logger(__name__)

TRACEPARENT = "traceparent"

_BOUNDS_MS = tuple(bound * 1000 for bound in HANDLER_BUCKETS_S)

_PROPAGATOR = TraceContextTextMapPropagator()


class Observer(Protocol):
    """What makes spans of the events that this process says and hears; there is one where traces are on."""

    def claimed(self, offered: CallOffered, epoch: int, takeover: bool, now_us: int) -> None: ...

    def said(self, event: Event) -> None: ...

    def heard(self, event: Event, received_us: int, live: bool) -> None: ...

    def left(self, call_id: str) -> None: ...

    def annotate(self, call_id: str, turn: int, attributes: Attributes) -> None: ...

    def sampled(self, call_id: str) -> bool: ...


observer: Observer | None = None
"""Of this process; None: no traces, and nothing of them costs anything."""


def observe(wanted: Observer | None) -> None:
    """Set or take away the observer of this process."""
    global observer
    observer = wanted


def claimed(offered: CallOffered, epoch: int, takeover: bool) -> None:
    """This process owns a call in its stage from now on."""
    if observer is not None:
        observer.claimed(offered, epoch, takeover, wall_us())


def said(event: Event) -> None:
    """This process records an event. A fault in making spans costs the span, not the event."""
    if observer is not None:
        try:
            observer.said(event)
        except Exception:
            log.exception("trace_failed", message="an event that was said is missing in the trace")


def heard(event: Event, received_us: int, live: bool) -> None:
    """An event has come and was handled; ``live``: as it was said."""
    if observer is not None:
        try:
            observer.heard(event, received_us, live)
        except Exception:
            log.exception("trace_failed", message="an event that was heard is missing in the trace")


def left(call_id: str) -> None:
    """This process has let go of a call in its stage."""
    if observer is not None:
        observer.left(call_id)


def annotate(call_id: str, turn: int, attributes: Attributes) -> None:
    """Attributes that no event holds, for the span that this stage has open for a turn."""
    if observer is not None:
        observer.annotate(call_id, turn, attributes)


def inject(subject: str, headers: dict[str, str], event: Event | None = None) -> None:
    """Add a trace context to ``headers``: that of the turn which ``event`` belongs to, else the root of the call that
    ``subject`` names; the current one where that is a span of an engine's own, or of another trace.

    Nothing is added where there is neither.
    """
    parts = subject.split(".", 3)
    call_id = parts[2] if len(parts) == 4 else ""
    trace_id = trace_id_of(call_id)
    current = trace.get_current_span()
    context = current.get_span_context()
    if context.is_valid and (current.is_recording() or context.trace_id != trace_id):
        _PROPAGATOR.inject(headers)
        return
    if trace_id:
        turn = None if event is None else turn_named(event)
        parent = root_id_of(call_id) if turn is None else turn_id_of(call_id, turn)
        flags = "01" if observer is None or observer.sampled(call_id) else "00"
        headers[TRACEPARENT] = f"00-{call_id}-{parent:016x}-{flags}"


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """The trace of the message is the current one: what an engine's own client records joins it."""
    if TRACEPARENT not in headers:
        yield
        return
    token = attach(_PROPAGATOR.extract(headers))
    try:
        yield
    finally:
        detach(token)


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
        with about_subject(subject):
            self._guard(template, figures, headers, value)
        took_ms = (time.perf_counter() - begun) * 1000
        figures.count += 1
        figures.total_ms += took_ms
        figures.buckets[bisect_left(_BOUNDS_MS, took_ms)] += 1
        figures.max_ms = max(figures.max_ms, took_ms)

    def _guard(self, template: str, figures: HandlerFigures, headers: Mapping[str, str], value: T) -> None:
        try:
            with continued(headers):
                self._handler(value)
        except Exception as error:
            figures.errors += 1
            figures.last_error = type(error).__name__
            log.exception(
                "handler_failed",
                message=f"the handler of {template} in {self._service} raised {type(error).__name__}; going on",
            )
