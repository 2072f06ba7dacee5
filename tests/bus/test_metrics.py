"""The figures of a process as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus import metrics
from schemas.turn import TurnMeasured

pytestmark = pytest.mark.unit

MEASURED = TurnMeasured(
    call_id="01a1f8bd25a07df39d872e4c6f6cda91",
    tenant="acme",
    at_us=1,
    turn=7,
    end_of_turn_delay_ms=320.0,
    e2e_latency_ms=560.0,
    filler_latency_ms=1700.0,
    barge_in_ms=240.0,
    bus_hop_ms={"call.*.*.turn.ended": 1.5, "call.acme.01a1.turn.ended": 1.0},
    queue_wait_ms={"llm": 0.5, "acme": 1.0},
    preemptive="hit",
)


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_measured_turn_is_in_the_histograms_in_seconds() -> None:
    before = {name: value(f"callbus_turn_{name}_seconds_sum") for name in metrics.TURN_FIELDS}
    hits = value("callbus_preemptive_total", result="hit")
    metrics.observe_measured(MEASURED)
    grown = {name: value(f"callbus_turn_{name}_seconds_sum") - before[name] for name in metrics.TURN_FIELDS}
    assert {name: round(each, 6) for name, each in grown.items() if each} == {
        "end_of_turn_delay": 0.32, "e2e_latency": 0.56, "filler_latency": 1.7, "barge_in": 0.24,
    }  # fmt: skip
    assert value("callbus_preemptive_total", result="hit") - hits == 1
    assert value("callbus_bus_hop_seconds_count", subject="call.*.*.turn.ended") >= 1
    assert value("callbus_queue_wait_seconds_count", stage="llm") >= 1


def test_every_latency_of_the_event_has_its_histogram() -> None:
    fields = {name.removesuffix("_ms") for name in TurnMeasured.__struct_fields__ if name.endswith("_ms")}
    assert set(metrics.TURN_FIELDS) == fields - {"bus_hop", "queue_wait"}


def test_what_is_counted() -> None:
    names = {
        "callbus_interruptions_total": {"why": "speech"},
        "callbus_false_interruptions_total": {"why": "backchannel"},
        "callbus_backchannels_total": {},
        "callbus_turns_stuck_total": {"stage": "tts"},
        "callbus_away_total": {},
    }
    before = {name: value(name, **labels) for name, labels in names.items()}
    metrics.count_interruption("speech")
    metrics.count_false_interruption("backchannel")
    metrics.count_false_interruption("noise")
    metrics.count_backchannel()
    metrics.count_stuck("tts")
    metrics.count_away()
    grown = {name: value(name, **labels) - before[name] for name, labels in names.items()}
    assert list(grown.values()) == [1, 1, 2, 1, 1]


def test_a_reason_of_a_newer_release_makes_no_series_of_its_own() -> None:
    before = value("callbus_interruptions_total", why="other")
    metrics.count_interruption("01a1f8bd25a07df39d872e4c6f6cda91")
    assert value("callbus_interruptions_total", why="other") - before == 1


def test_what_callers_got_of_a_stage_that_was_down_is_counted() -> None:
    def count(stage: str, what: str) -> float:
        return metrics.REGISTRY.get_sample_value("callbus_degraded_total", {"stage": stage, "what": what}) or 0.0

    before = count("llm", "offer"), count("other", "other")
    metrics.count_degraded("llm", "offer")
    metrics.count_degraded("secret", "their words")
    assert (count("llm", "offer"), count("other", "other")) == (before[0] + 1, before[1] + 1)


def test_every_metric_stands_on_the_page_of_the_documents() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for family in metrics.REGISTRY.collect():
        if family.name.startswith("callbus"):
            name = family.name + ("_total" if family.type == "counter" else "")
            assert f"`{name}`" in page, name


def test_engines_are_counted_by_stage_and_reason() -> None:
    figures = metrics.EngineFigures("tts")
    figures.state("piper", 2)
    for why in ("cut", "her own words"):
        figures.error("piper", why)
    figures.failover("piper")
    figures.hedge("hedge")
    assert value("callbus_engine_breaker_state", stage="tts", engine="piper") == 2
    assert value("callbus_engine_errors_total", stage="tts", engine="piper", why="cut") == 1
    assert value("callbus_engine_errors_total", stage="tts", engine="piper", why="other") == 1
    assert value("callbus_engine_failovers_total", stage="tts", engine="piper") == 1
    assert value("callbus_engine_hedges_total", stage="tts", result="hedge") == 1
