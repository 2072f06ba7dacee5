"""The field names of Google Cloud's operations suite: severity, time, trace, labels, and what error reporting reads.

Source: "Structured logging" and "Format errors in logs" of Google Cloud's documentation.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from structlog.types import EventDict, WrappedLogger

TRACE = "logging.googleapis.com/trace"
SPAN = "logging.googleapis.com/spanId"
LABELS = "logging.googleapis.com/labels"
LABELLED = ("event", "instance", "tenant", "call_id")
"""Keys that become labels, by which lines are found; the others stand in the line's payload."""
REPORTED = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"


class GoogleNames:
    """The last step before JSON. ``project``: of the trace; empty: lines name no trace."""

    def __init__(self, project: str) -> None:
        self._project = project
        try:
            self._version = metadata.version("callbus")
        except metadata.PackageNotFoundError:
            self._version = "0.0.0"

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        named: dict[str, Any] = {
            "severity": str(event.pop("level", "default")).upper(),
            "time": event.pop("timestamp", ""),
            "message": event.pop("message", ""),
            "serviceContext": {"service": event.pop("service", ""), "version": self._version},
        }
        trace, span = event.pop("correlation_id", ""), event.pop("span_id", "")
        if trace and self._project:
            named[TRACE] = f"projects/{self._project}/traces/{trace}"
            if span:
                named[SPAN] = span
        labels = {key: str(value) for key in LABELLED if (value := event.pop(key, ""))}
        if labels:
            named[LABELS] = labels
        if exception := event.pop("exception", ""):
            named |= {"@type": REPORTED, "stack_trace": f"{named['message']}\n{exception}"}
        return {**named, **event}
