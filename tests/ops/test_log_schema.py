"""docs/log-schema.json: current, and strict enough to refuse lines that are not ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from bus.logs import JSON_KEYS
from ops import log_schema
from ops.main import cli

pytestmark = pytest.mark.contract

PAGE = Path(__file__).resolve().parents[2] / "docs" / "log-schema.json"
CALL = "0193e4f2aa0b7c1d8e2f3a4b5c6d7e8f"
LINE = {
    "timestamp": "2026-11-20T20:09:09.123456Z", "level": "info", "service": "asr", "instance": "asr-1f3a90c2",
    "tenant": "default", "call_id": CALL, "correlation_id": CALL, "event": "call_taken", "message": "took over a call",
}  # fmt: skip


def valid(**changes: Any) -> bool:
    line = {key: value for key, value in (LINE | changes).items() if value is not None}
    return jsonschema.Draft202012Validator(log_schema.document()).is_valid(line)


def test_the_committed_schema_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == CliRunner().invoke(cli, ["schema", "--logs"]).output, "make documents"
    assert list(json.loads(PAGE.read_text(encoding="utf-8"))["required"]) == list(JSON_KEYS)


def test_lines_that_are_ours_and_lines_that_are_not() -> None:
    assert valid()
    assert valid(epoch=2, span_id="8e2f3a4b5c6d7e8f", exception="Traceback")
    assert valid(call_id="", tenant="", correlation_id="")
    for key in JSON_KEYS:
        assert not valid(**{key: None}), key
    for wrong in (
        {"call_id": "c1"}, {"correlation_id": ""}, {"tenant": ""}, {"level": "loud"}, {"message": ""}, {"event": "a b"},
        {"timestamp": "yesterday"}, {"span_id": "1"},
    ):  # fmt: skip
        assert not valid(**wrong), wrong


def test_canonical_lines_need_their_keys() -> None:
    turn = {"event": "turn_summary", "turn": 1, "why": "silence", "interrupted_agent": False, "preemptive": ""}
    assert valid(**turn)
    assert not valid(**turn | {"turn": 0})
    assert not valid(event="turn_summary")
    refused = {
        "event": "call_summary",
        "service": "edge",
        "result": "rejected",
        "reason": "draining",
        "ended_by": "edge",
    }
    assert valid(**refused, call_id="", tenant="", correlation_id="")
    assert not valid(**refused), "a call that was taken says how long it lasted"
    assert not valid(**refused | {"reason": "She hung up!"}, call_id="")
