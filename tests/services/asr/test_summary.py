"""The one line of the log that stands for a turn."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from schemas.turn import TurnMeasured
from services.asr.measuring import TurnFacts
from services.asr.summary import LATENCY_KEYS, tell_turn

pytestmark = pytest.mark.unit

CALL = "0193e4f2aa0b7c1d8e2f3a4b5c6d7e8f"


def line_of(facts: TurnFacts, **latencies: float) -> dict[str, object]:
    measured = TurnMeasured(call_id=CALL, tenant="acme", at_us=1, turn=3, **latencies)  # type: ignore[arg-type]
    with capture_logs() as lines:
        tell_turn(measured, facts)
    (line,) = lines
    return dict(line)


def test_what_is_known_stands_in_it_and_nothing_else() -> None:
    facts = TurnFacts("dtmf", True, {"asr": "", "llm": "scripted", "tts": "piper"})
    assert line_of(facts, e2e_latency_ms=569.96, barge_in_ms=180.0) == {
        "event": "turn_summary",
        "log_level": "info",
        "message": "turn 3 answered after 570 ms",
        "tenant": "acme",
        "call_id": CALL,
        "turn": 3,
        "why": "dtmf",
        "interrupted_agent": True,
        "preemptive": "",
        "e2e_latency_ms": 570.0,
        "barge_in_ms": 180.0,
        "llm_engine": "scripted",
        "tts_engine": "piper",
    }
    assert line_of(TurnFacts())["message"] == "turn 3 without an answer"


def test_every_latency_that_is_measured_has_its_key() -> None:
    assert set(LATENCY_KEYS) == {
        name for name, kind in TurnMeasured.__annotations__.items() if name.endswith("_ms") and "float | None" in kind
    }
