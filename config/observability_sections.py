"""What a process tells of itself: log lines, figures, traces."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from config.section import Milliseconds, Port, Section


class LogSection(Section, frozen=True, kw_only=True):
    """[log]: what a process writes to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least severe level that is written; `callbus log-level` changes it in running processes"),
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "human", "google"],
        Meta(
            description="auto: human on a terminal, JSON lines elsewhere; google: JSON with the field names of Google "
            "Cloud's operations suite"
        ),
    ] = "auto"
    google_project: Annotated[
        str, Meta(description="Project that format = google names in the trace of a line; empty: no trace in it")
    ] = ""


class MetricsSection(Section, frozen=True, kw_only=True):
    """[metrics]: figures of a process for Prometheus, and its health, over HTTP."""

    port: Annotated[
        Port,
        Meta(
            description="Port of a process's pages /metrics, /health and /ready; 0: none. `callbus up` gives it to its "
            "first process and counts up for the others"
        ),
    ] = 0
    host: Annotated[str, Meta(description="Address that the pages are served on")] = "127.0.0.1"


class TracingSection(Section, frozen=True, kw_only=True):
    """[tracing]: spans of calls, turns and stages over OTLP."""

    endpoint: Annotated[
        str,
        Meta(description="OTLP receiver, for example http://127.0.0.1:4317; https: with TLS; empty: no traces"),
    ] = ""
    protocol: Annotated[Literal["grpc", "http"], Meta(description="OTLP over gRPC (port 4317) or HTTP (4318)")] = "grpc"
    headers_file: Annotated[
        str, Meta(description="File with headers for the receiver, a line `name: value` each; empty: none")
    ] = ""
    sample_ratio: Annotated[
        float,
        Meta(
            ge=0.0, le=1.0, description="Share of calls that is traced; calls with an error or a slow turn always are"
        ),
    ] = 1.0
    slow_turn_ms: Annotated[Milliseconds, Meta(description="A turn whose answer came later than this is slow")] = 2000
    hops: Annotated[bool, Meta(description="A span for each message between two stages as well")] = True
    content: Annotated[
        bool, Meta(description="Put what was said into attributes (their names hold `pii`): for development only")
    ] = False
