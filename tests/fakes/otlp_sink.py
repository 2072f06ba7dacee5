"""An OTLP receiver for traces: HTTP (gzip, too) and gRPC, in this process, with what came as plain values."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterable
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

# The tests start processes while the receiver runs; gRPC would say of each that it can't follow.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2


@dataclass
class SinkSpan:
    """A span as it came. Times: microseconds since 1970. ``parent_id`` empty: the root."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_us: float
    end_us: float
    attributes: dict[str, Any]
    events: list[tuple[str, float, dict[str, Any]]]
    error: str
    resource: dict[str, Any]
    children: list[SinkSpan] = field(default_factory=list)

    @property
    def service(self) -> str:
        return str(self.resource.get("service.name", ""))


class OtlpSink:
    """Receives until closed. ``headers``: of every request. ``raw``: the bytes of every request, unpacked."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.raw: list[bytes] = []
        self.requests: list[Any] = []
        self._lock = Lock()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path != "/v1/traces":
                    self.send_error(404)
                    return
                sink._take(
                    trace_service_pb2.ExportTraceServiceRequest.FromString(body),
                    {name.lower(): value for name, value in self.headers.items()},
                )
                answer = trace_service_pb2.ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Nothing on standard error."""

        class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
                sink._take(request, {key: str(value) for key, value in context.invocation_metadata()})
                return trace_service_pb2.ExportTraceServiceResponse()

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._grpc = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), self._grpc)
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def grpc_url(self) -> str:
        return f"http://127.0.0.1:{self._grpc_port}"

    def spans(self) -> list[SinkSpan]:
        """Every span that came, in the order of coming."""
        with self._lock:
            requests = list(self.requests)
        return [span for request in requests for span in _spans_of(request)]

    def wait_for(self, enough: Callable[[list[SinkSpan]], bool], timeout_s: float = 10.0) -> list[SinkSpan]:
        """The spans once ``enough`` of them, or the last that came in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            spans = self.spans()
            if enough(spans) or time.monotonic() > deadline:
                return spans
            time.sleep(0.05)

    def close(self) -> None:
        """Refuse connections from now on."""
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(0).wait()

    def _take(self, request: Any, headers: dict[str, str]) -> None:
        with self._lock:
            self.requests.append(request)
            self.headers.append(headers)
            self.raw.append(request.SerializeToString())


def _spans_of(request: Any) -> list[SinkSpan]:
    return [
        _span_of(span, _values(resource_spans.resource.attributes))
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _span_of(span: Any, resource: dict[str, Any]) -> SinkSpan:
    return SinkSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        start_us=span.start_time_unix_nano / 1000,
        end_us=span.end_time_unix_nano / 1000,
        attributes=_values(span.attributes),
        events=[(each.name, each.time_unix_nano / 1000, _values(each.attributes)) for each in span.events],
        error=span.status.message if span.status.code == 2 else "",
        resource=resource,
    )


def _values(attributes: Iterable[common_pb2.KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: common_pb2.AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
