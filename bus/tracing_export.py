"""Finished spans on their way out: a bounded queue, one thread, OTLP over gRPC or HTTP.

The SDK's own batch processor keeps no count of what it drops and may hold an exit for half a minute. Here a receiver
that is away costs one warning and the spans of that time; an exit waits :data:`CLOSE_S` at most.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, set_value
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from bus.logs import get_logger
from bus.metrics.traces import count_dropped_spans
from bus.spans import Span
from config.settings import TracingSection

log = get_logger(__name__)

QUEUE_LIMIT = 8192
BATCH_SPANS = 128
"""Encoding holds the interpreter: so many spans are some 5 ms, in slices between which the event loop runs."""
INTERVAL_S = 4.0
"""Longest that a finished span waits; a worker that is killed takes what waits with it. An export costs more than the
spans in it."""
HURRY_S = 0.5
"""The same for a span that others name as their parent."""
SEND_TIMEOUT_S = 2.0
CLOSE_S = 2.0
RETRY_S = 5.0
"""After a failure nothing is tried for so long; what does not fit into the queue meanwhile is dropped."""
ATTEMPTS = 3
"""A batch that was refused so often is dropped."""
PATH = "/v1/traces"
NO_INSTRUMENTATION = "suppress_instrumentation"
PROJECT = "callbus"
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
OK = Status(StatusCode.UNSET)

MakeSpan = Callable[[int, Span], ReadableSpan]


class SpanQueue(SpanProcessor):
    """Takes finished spans from the event loop and hands them to ``exporter`` in a thread of its own."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._waiting: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._hurried = False
        self._away = False
        self._refused = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._begun = False

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return len(self._waiting)

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Nothing is to be done before it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span. Returns at once."""
        if self._closing or len(self._waiting) >= QUEUE_LIMIT:
            count_dropped_spans(1)
            return
        self._waiting.append(span)
        if not self._begun:
            # Not before: a process that raises its priority at its start is held up by a thread of a lower one that has
            # the interpreter.
            self._begun = True
            self._thread.start()
        if len(self._waiting) == BATCH_SPANS and not self._away:
            self._wake.set()

    def hurry(self) -> None:
        """What was taken last is waited for by others: send it within :data:`HURRY_S`."""
        if not self._hurried and not self._away:
            self._hurried = True
            self._wake.set()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits now; whether all of it was taken in time."""
        deadline = time.monotonic() + timeout_millis / 1000
        self._wake.set()
        while self._waiting and time.monotonic() < deadline:
            time.sleep(0.005)
        return not self._waiting

    def shutdown(self) -> None:
        """Send what waits, for :data:`CLOSE_S` at most; the rest is dropped and counted."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        if self._begun and not self._away:
            self._thread.join(CLOSE_S)
        # Ends a send that is under way, and its retries.
        self._exporter.shutdown()
        if self._waiting:
            count_dropped_spans(len(self._waiting))

    def _run(self) -> None:
        # What the exporter itself calls, over HTTP, is no part of any call.
        token = attach(set_value(NO_INSTRUMENTATION, True))
        try:
            while not self._closing:
                self._wake.wait(RETRY_S if self._away else INTERVAL_S)
                self._wake.clear()
                if self._hurried and not self._closing:
                    self._wake.wait(HURRY_S)
                self._hurried = False
                self._send_waiting()
            if not self._away:
                self._send_waiting()
        finally:
            detach(token)

    def _send_waiting(self) -> None:
        while self._waiting:
            count = min(BATCH_SPANS, len(self._waiting))
            batch = [self._waiting[index] for index in range(count)]
            if self._send(batch):
                self._refused = 0
            else:
                self._refused += 1
                if self._refused < ATTEMPTS:
                    return
                self._refused = 0
                count_dropped_spans(count)
            for _ in range(count):
                self._waiting.popleft()

    def _send(self, batch: Sequence[ReadableSpan]) -> bool:
        try:
            sent = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:
            log.debug("spans_not_sent", message=f"{type(error).__name__}: {error}")
            sent = False
        if sent == self._away:
            self._away = not sent
            if sent:
                log.info("spans_sent_again", message=f"the receiver of spans at {self._endpoint} is there again")
            elif not self._closing:
                log.warning(
                    "spans_not_sent",
                    message=f"no spans can be sent to {self._endpoint}: up to {QUEUE_LIMIT} wait, the rest is dropped "
                    "and counted in callbus_spans_dropped_total; calls go on",
                )
        return sent


def open_exporter(section: TracingSection, headers: Mapping[str, str]) -> SpanExporter:
    """The exporter of the settings; its packages are loaded here and nowhere else."""
    for name in ("opentelemetry.exporter", "opentelemetry.sdk", "grpc"):
        # A receiver that is away is told once, by the queue.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if section.protocol == "http":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        endpoint = section.endpoint.rstrip("/")
        if not endpoint.endswith(PATH):
            endpoint += PATH
        return HttpExporter(endpoint=endpoint, headers=dict(headers), timeout=SEND_TIMEOUT_S)
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    return GrpcExporter(
        endpoint=section.endpoint,
        headers=tuple((name.lower(), value) for name, value in headers.items()),
        timeout=SEND_TIMEOUT_S,
    )


def open_queue(
    section: TracingSection, headers: Mapping[str, str], service: str, worker: str, version: str
) -> tuple[SpanQueue, MakeSpan]:
    """The queue of a process, and what makes spans for it. Sets the process's tracer provider."""
    resource = Resource(
        {
            "service.name": f"{PROJECT}-{service}",
            "service.namespace": PROJECT,
            "service.instance.id": worker,
            "service.version": version,
            "telemetry.sdk.language": "python",
        }
    )
    queue = SpanQueue(open_exporter(section, headers), section.endpoint)
    # What an engine's own client records within a call joins the call's trace; it begins no trace of its own.
    provider = TracerProvider(resource=resource, sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(queue)
    trace.set_tracer_provider(provider)
    return queue, readable(resource, InstrumentationScope(PROJECT, version))


def readable(resource: Resource, scope: InstrumentationScope) -> MakeSpan:
    """What makes a span of the SDK of one of ours, for a process with this resource."""

    def make(trace_id: int, span: Span) -> ReadableSpan:
        parent = SpanContext(trace_id, span.parent_id, False, SAMPLED) if span.parent_id else None
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, span.span_id, False, SAMPLED),
            parent=parent,
            resource=resource,
            attributes=span.attributes,
            events=[Event(each.name, each.attributes, each.at_us * 1000) for each in span.moments],
            kind=SpanKind.CONSUMER if span.consumer else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else OK,
            start_time=span.start_us * 1000,
            end_time=span.end_us * 1000,
            instrumentation_scope=scope,
        )

    return make
