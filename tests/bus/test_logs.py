from __future__ import annotations

import asyncio
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


CALL = "0193e4f2aa0b7c1d8e2f3a4b5c6d7e8f"


def test_what_is_written_inside_a_call_names_it() -> None:
    output = configured()
    log = logs.get_logger("x")
    with logs.about_call(CALL, "acme"):
        log.info("inside")
        logging.getLogger("library").warning("odd")
        log.info("other", call_id="f" * 32, tenant="t2")
    with logs.about_subject(f"call.acme.{CALL}.turn.ended"):
        log.info("handled")
    with logs.about_subject("hb.asr.asr-1"):
        log.info("beat")
    log.info("outside")
    found = [(line["event"], line["call_id"], line["tenant"], line["correlation_id"]) for line in lines(output)]
    assert found == [
        ("inside", CALL, "acme", CALL),
        ("library", CALL, "acme", CALL),
        ("other", "f" * 32, "t2", "f" * 32),
        ("handled", CALL, "acme", CALL),
        ("beat", "", "", ""),
        ("outside", "", "", ""),
    ]


async def test_tasks_begun_inside_a_call_name_it() -> None:
    output = configured()
    with logs.about_call(CALL, "acme"):
        task = asyncio.create_task(_say_late())
    await task
    assert lines(output)[0]["call_id"] == CALL


async def _say_late() -> None:
    await asyncio.sleep(0)
    logs.get_logger("x").info("late")


def test_numbers_and_tokens_are_taken_out_in_every_format() -> None:
    for form in ("json", "human", "google"):
        output = configured(form=form)
        logs.get_logger("x").warning("odd", message="sip:+4930123456@h", header=["Bearer abcdefgh12"])
        logging.getLogger("library").error("can't dial %s", "+49 30 123456", exc_info=ValueError("for +4930123456"))
        text = output.getvalue()
        assert "30123456" not in text and "123456" not in text and "abcdefgh12" not in text, form
        assert "[user]" in text and "[number]" in text and "[secret]" in text, form


def test_texts_of_exceptions_are_withheld_once_callers_are_heard() -> None:
    output = configured()
    log = logs.get_logger("x")
    log.error("early", exc_info=ValueError("no model"))
    logs.callers_are_heard()
    log.error("late", message=logs.describe(ValueError("my name")), exc_info=ValueError("my name"))
    early, late = lines(output)
    assert early["exception"] == "ValueError: no model"
    assert "my name" not in str(late)
    assert "text withheld" in late["message"]


def test_libraries_are_heard_from_warnings_on_even_at_debug() -> None:
    output = configured("debug")
    logging.getLogger("openai").debug("request: %s", {"messages": "what she said"})
    logs.get_logger("x").debug("ours")
    assert [line["event"] for line in lines(output)] == ["ours"]


def test_google_names() -> None:
    output = io.StringIO()
    logs.configure(LogSection(format="google", google_project="bank"), "asr", "asr-1", output)
    context = SpanContext(int(CALL, 16), 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        logs.get_logger("x").error("broke", message="it broke", call_id=CALL, tenant="acme", exc_info=OSError("disk"))
    logs.get_logger("x").info("plain")
    first, second = lines(output)
    assert first["severity"] == "ERROR"
    assert first["time"].endswith("Z")
    assert first["message"] == "it broke"
    assert first["logging.googleapis.com/trace"] == f"projects/bank/traces/{CALL}"
    assert first["logging.googleapis.com/spanId"] == "0000000000000def"
    assert first["logging.googleapis.com/labels"] == {
        "event": "broke", "instance": "asr-1", "tenant": "acme", "call_id": CALL,
    }  # fmt: skip
    assert first["serviceContext"]["service"] == "asr"
    assert first["stack_trace"] == "it broke\nOSError: disk"
    assert first["@type"].endswith("ReportedErrorEvent")
    assert (second["severity"], second["logging.googleapis.com/labels"]) == (
        "INFO", {"event": "plain", "instance": "asr-1"},
    )  # fmt: skip
    assert "logging.googleapis.com/trace" not in second
    without = io.StringIO()
    logs.configure(LogSection(format="google"), "asr", "asr-1", without)
    logs.get_logger("x").info("x", call_id=CALL)
    assert "googleapis.com/trace" not in without.getvalue()


def test_levels_change_at_run_time() -> None:
    output = configured("error")
    log = logs.get_logger("x")
    log.info("not this")
    logs.set_level("debug")
    log.debug("this")
    assert logs.level() == "debug"
    assert [line["event"] for line in lines(output)] == ["this"]
    with pytest.raises(KeyError):
        logs.set_level("loud")
