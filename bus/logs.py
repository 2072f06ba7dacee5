"""Logs of a process: JSON lines or, on a terminal, lines for people. What any library logs goes this way too.

One line is one thing that happened: ``log.info("call_taken", message="took over a call", call_id=...)``. ``event`` is a
token that never changes, ``message`` a sentence. No transcript, digit, number or audio ever stands in a line.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog
from opentelemetry import trace
from structlog.types import EventDict, Processor, WrappedLogger

from config.settings import LogSection

JSON_KEYS = (
    "timestamp", "level", "service", "instance", "tenant", "call_id", "correlation_id", "event", "message",
)  # fmt: skip
"""First keys of a line, in this order; ``correlation_id`` is the trace id where a span is open."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_QUIET = ("asyncio", "urllib3", "opentelemetry")
_IDENTITY: dict[str, str] = {"service": "", "instance": ""}


def get_logger(name: str) -> Any:
    """A logger. It may be made before :func:`configure`; ``name`` is the module's."""
    return structlog.stdlib.get_logger(name)


def configure(section: LogSection, service: str, instance: str, stream: TextIO | None = None) -> None:
    """Set up logging of the whole process; calling it again changes it. Writes to standard error or ``stream``."""
    _IDENTITY.update(service=service, instance=instance)
    output = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(allow=()),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _complete,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(section, output)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(_LEVELS[section.level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(_LEVELS[section.level], logging.WARNING))


def _renderers(section: LogSection, output: TextIO) -> list[Processor]:
    human = section.format == "human" or (section.format == "auto" and output.isatty())
    if human:
        return [_for_people, structlog.dev.ConsoleRenderer(colors=output.isatty(), pad_event_to=24)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _foreign(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A record of standard library logging: its text is the message, its logger says which library spoke."""
    record = event.get("_record")
    event["message"] = event.get("event", "")
    event["event"] = record.name if isinstance(record, logging.LogRecord) else "log"
    return event


def _complete(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Every key of :data:`JSON_KEYS` present and in front."""
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event.setdefault("correlation_id", f"{span.trace_id:032x}")
    values = {**_IDENTITY, **event}
    values.setdefault("message", str(event.get("event", "")))
    front = {key: values.pop(key, "") for key in JSON_KEYS}
    return {**front, **values}


def _for_people(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The sentence in front, empty keys left out, the process named once."""
    token, message = event.pop("event", ""), event.pop("message", "")
    service = event.pop("instance", "") or event.get("service", "")
    event.pop("service", None)
    kept = {key: value for key, value in event.items() if value != ""}
    return {**kept, "event": f"{service}: {message or token}"}
