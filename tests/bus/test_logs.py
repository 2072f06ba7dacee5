from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from bus import logs
from config.settings import LogSection

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Logging belongs to the process; a test gives it back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def configured(level: Any = "info", form: Any = "json") -> io.StringIO:
    output = io.StringIO()
    logs.configure(LogSection(level=level, format=form), "asr", "asr-1", output)
    return output


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_line_has_every_key_in_front_and_in_order() -> None:
    output = configured()
    logs.get_logger("x").info("call_taken", message="took over a call", call_id="c1", tenant="t1", epoch=2)
    (line,) = lines(output)
    assert tuple(line)[: len(logs.JSON_KEYS)] == logs.JSON_KEYS
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["service"], line["instance"]) == ("info", "asr", "asr-1")
    assert (line["event"], line["message"], line["call_id"], line["tenant"]) == (
        "call_taken",
        "took over a call",
        "c1",
        "t1",
    )
    assert line["correlation_id"] == ""
    assert line["epoch"] == 2


def test_event_stands_in_for_a_missing_message() -> None:
    output = configured()
    logs.get_logger("x").warning("slow")
    assert lines(output)[0]["message"] == "slow"


def test_correlation_is_the_trace() -> None:
    output = configured()
    with trace.use_span(NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1)))):
        logs.get_logger("x").info("inside")
    assert lines(output)[0]["correlation_id"] == f"{0xABC:032x}"


def test_libraries_log_the_same_way() -> None:
    output = configured()
    logging.getLogger("nats.aio.client").error("lost %s", "it", extra={"server": "n1"})
    (line,) = lines(output)
    assert (line["event"], line["message"], line["level"], line["service"]) == (
        "nats.aio.client",
        "lost it",
        "error",
        "asr",
    )


def test_level_holds_for_all_and_noisy_libraries_are_quiet() -> None:
    output = configured("warning")
    logs.get_logger("x").info("not this")
    logging.getLogger("y").info("nor this")
    output_debug = configured("debug")
    logging.getLogger("asyncio").info("Using selector")
    logs.get_logger("x").debug("this")
    assert output.getvalue() == ""
    assert [line["event"] for line in lines(output_debug)] == ["this"]


def test_exception_is_one_line_with_its_traceback() -> None:
    output = configured()
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logs.get_logger("x").exception("failed", message="it failed")
    (line,) = lines(output)
    assert "RuntimeError: broken" in line["exception"]


def test_people_read_sentences() -> None:
    output = configured(form="human")
    logs.get_logger("x").info("call_taken", message="took over a call", call_id="c1")
    text = output.getvalue()
    assert "asr-1: took over a call" in text
    assert "call_id=c1" in text
    assert "tenant" not in text


def test_auto_is_json_where_nobody_looks() -> None:
    output = configured(form="auto")
    logs.get_logger("x").info("call_taken")
    assert lines(output)[0]["event"] == "call_taken"


def test_nothing_is_escaped_that_people_can_read() -> None:
    output = configured()
    logs.get_logger("x").info("umlaut", message="grün")
    assert "grün" in output.getvalue()
