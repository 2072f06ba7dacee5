"""Logs of a process: JSON lines or, on a terminal, lines for people. What any library logs goes this way too.

One line is one thing that happened: ``log.info("call_taken", message="took over a call", call_id=...)``. ``event`` is a
token that never changes, ``message`` a sentence. No transcript, digit, number or audio ever stands in a line: nothing
writes one, and ``bus.redaction`` looks at each line all the same.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TextIO

import structlog
from opentelemetry import trace
from structlog.types import EventDict, Processor, WrappedLogger

from bus import redaction
from bus.log_google import GoogleNames
from config.settings import LogSection

JSON_KEYS = (
    "timestamp", "level", "service", "instance", "tenant", "call_id", "correlation_id", "event", "message",
)  # fmt: skip
"""First keys of a line, in this order. ``correlation_id`` is the trace id: of a call its id (ADR 0007)."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_QUIET = ("asyncio", "urllib3", "opentelemetry")
_IDS = frozenset({*JSON_KEYS, "span_id"} - {"message"})
"""Ours by their making; everything else is looked through."""
_IDENTITY: dict[str, str] = {"service": "", "instance": ""}
_CALL_ID = re.compile(r"[0-9a-f]{32}")
_CALL: ContextVar[tuple[str, str]] = ContextVar("callbus_call", default=("", ""))
_SUBJECT: ContextVar[str] = ContextVar("callbus_subject", default="")


class _Process:
    level = "info"
    callers_heard = False


def get_logger(name: str) -> Any:
    """A logger. It may be made before :func:`configure`; ``name`` is the module's."""
    return structlog.stdlib.get_logger(name)


def configure(section: LogSection, service: str, instance: str, stream: TextIO | None = None) -> None:
    """Set up logging of the whole process; calling it again changes it. Writes to standard error or ``stream``."""
    _IDENTITY.update(service=service, instance=instance)
    _Process.callers_heard = False
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
    handler.addFilter(_worth_writing)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _tell_exception,
                _redact,
                *_renderers(section, output),
            ],
        )
    )
    logging.getLogger().handlers = [handler]
    set_level(section.level)


def set_level(level: str) -> None:
    """Write what is at least as severe as ``level`` from now on; raises ``KeyError`` where that is none."""
    root = logging.getLogger()
    root.setLevel(LEVELS[level])
    _Process.level = level
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))


def level() -> str:
    """Of the process now."""
    return _Process.level


def callers_are_heard() -> None:
    """From now on the text of an exception may quote somebody, and is withheld (``bus.redaction``)."""
    _Process.callers_heard = True


def describe(error: BaseException) -> str:
    """An exception in a sentence of the log: its type and, as far as it can quote nobody, its text."""
    return redaction.describe(error, plainly=not _Process.callers_heard)


@contextlib.contextmanager
def about_call(call_id: str, tenant: str) -> Iterator[None]:
    """Every line that is written inside, and by tasks and timers begun inside, names the call."""
    token = _CALL.set((call_id, tenant))
    try:
        yield
    finally:
        _CALL.reset(token)


class about_subject:  # noqa: N801  (read as a word of the sentence: with about_subject(...))
    """As :func:`about_call`, for the call that ``subject`` names, if any; it is read only where a line is written.

    A class, because it stands around every message: a generator takes three times as long.
    """

    __slots__ = ("_subject", "_token")

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        self._token = _SUBJECT.set(self._subject)

    def __exit__(self, *_: object) -> None:
        _SUBJECT.reset(self._token)


def take_over_standard_error() -> None:
    """What Python itself would write to standard error (crashes, warnings, threads that fail) becomes log lines."""
    log = get_logger("python")
    logging.captureWarnings(True)
    logging.raiseExceptions = False

    def crashed(kind: type[BaseException], error: BaseException, _: Any) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            log.error("crashed", message=f"unhandled {describe(error)}", exc_info=error)

    def thread_failed(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
            log.error(
                "thread_failed", message=f"a thread failed: {describe(failed.exc_value)}", exc_info=failed.exc_value
            )

    def not_raised(failed: Any) -> None:
        log.error("error_not_raised", message="an error in a destructor or callback", exc_info=failed.exc_value)

    sys.excepthook = crashed
    threading.excepthook = thread_failed
    sys.unraisablehook = not_raised


def _renderers(section: LogSection, output: TextIO) -> list[Processor]:
    if section.format == "human" or (section.format == "auto" and output.isatty()):
        return [_for_people, structlog.dev.ConsoleRenderer(colors=output.isatty(), pad_event_to=24)]
    names: list[Processor] = [GoogleNames(section.google_project)] if section.format == "google" else []
    return [*names, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _worth_writing(record: logging.LogRecord) -> bool:
    """Libraries only from warnings on: what they tell of their work at lower levels holds requests, so content."""
    return isinstance(record.msg, dict) or record.levelno >= logging.WARNING


def _foreign(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A record of standard library logging: its text is the message, its logger says which library spoke."""
    record = event.get("_record")
    event["message"] = event.get("event", "")
    event["event"] = record.name if isinstance(record, logging.LogRecord) else "log"
    return event


def _complete(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Every key of :data:`JSON_KEYS` present and in front; the call that the line is about in every line about it."""
    call_id, tenant = _call_of(_SUBJECT.get()) or _CALL.get()
    if call_id and event.setdefault("call_id", call_id) == call_id:
        event.setdefault("tenant", tenant)
    span = trace.get_current_span().get_span_context()
    if _CALL_ID.fullmatch(str(event.get("call_id", ""))):
        event.setdefault("correlation_id", event["call_id"])
    elif span.is_valid:
        event.setdefault("correlation_id", f"{span.trace_id:032x}")
    if span.is_valid and event.get("correlation_id") == f"{span.trace_id:032x}":
        event.setdefault("span_id", f"{span.span_id:016x}")
    values = {**_IDENTITY, **event}
    values.setdefault("message", str(event.get("event", "")))
    front = {key: values.pop(key, "") for key in JSON_KEYS}
    return {**front, **values}


def _call_of(subject: str) -> tuple[str, str] | None:
    """``call.<tenant>.<call>.…`` and ``rt.…``."""
    parts = subject.split(".", 3)
    if len(parts) < 4 or parts[0] not in ("call", "rt") or not _CALL_ID.fullmatch(parts[2]):
        return None
    return parts[2], parts[1]


def _tell_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """``exc_info`` as text in ``exception``."""
    given = event.pop("exc_info", None)
    event.pop("stack_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = redaction.trace_of(error, plainly=not _Process.callers_heard)
    return event


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: value if key in _IDS else redaction.anything(value) for key, value in event.items()}


def _for_people(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The sentence in front, empty keys left out, the process named once."""
    token, message = event.pop("event", ""), event.pop("message", "")
    service = event.pop("instance", "") or event.get("service", "")
    event.pop("service", None)
    if event.get("correlation_id") == event.get("call_id"):
        event.pop("correlation_id", None)
    kept = {key: value for key, value in event.items() if value != ""}
    return {**kept, "event": f"{service}: {message or token}"}
