"""Every scenario of ``tests/scenarios`` passes in virtual time, and each rule is tried from both sides."""

from __future__ import annotations

import time
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from ops.scenario.document import Scenario, load_scenario, scenario_files
from ops.scenario.report import around
from ops.scenario.virtual import run_virtual

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).resolve().parents[2] / "scenarios"
WANTED = 60
BUDGET_S = 20.0
ONE_SIDED = {"several turns", "heard context", "lost and repeated events", "stuck turn", "voice"}
"""Rules whose scenarios differ in what happens, not in what the agent does."""


def is_virtual(path: Path) -> bool:
    return "virtual" in tomllib.loads(path.read_text(encoding="utf-8")).get("runs", ["virtual"])


VIRTUAL = [path for path in scenario_files(FOLDER) if is_virtual(path)]


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER).with_suffix(""))


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return [load_scenario(path) for path in VIRTUAL]


@pytest.mark.parametrize("path", VIRTUAL, ids=name_of)
def test_scenario(path: Path) -> None:
    result = run_virtual(load_scenario(path), {})
    if result.skipped:
        pytest.skip(result.skipped)
    told = [line for failure in result.failures for line in (failure, *around(result, failure))]
    assert not result.failures, "\n".join(told)


def test_there_are_enough_of_them() -> None:
    assert len(VIRTUAL) >= WANTED


def test_each_rule_is_tried_from_both_sides(scenarios: list[Scenario]) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for scenario in scenarios:
        sides[scenario.rule].add(scenario.side)
    one_sided = {rule: found for rule, found in sides.items() if len(found) < 2 and rule not in ONE_SIDED}
    assert not one_sided


def test_no_two_have_the_same_title(scenarios: list[Scenario]) -> None:
    titles = [scenario.title for scenario in scenarios]
    assert len(titles) == len(set(titles))


def test_all_of_them_take_seconds(scenarios: list[Scenario]) -> None:
    """Half an hour of conversation, with the machine's own time: what waits in virtual time waits for nothing."""
    began = time.process_time()
    conversation_ms = sum(run_virtual(scenario, {}).duration_ms for scenario in scenarios)
    spent_s = time.process_time() - began
    assert conversation_ms > 600_000
    assert spent_s < BUDGET_S, f"{len(scenarios)} scenarios took {spent_s:.1f} s"


def test_a_scenario_gives_the_same_events_each_time(scenarios: list[Scenario]) -> None:
    for scenario in scenarios[::10]:
        first, second = run_virtual(scenario, {}), run_virtual(scenario, {})
        assert first.events == second.events


SENSITIVE = {
    "TURN__INTERRUPTION=off": "interruption by words",
    "TURN__INTERRUPTION=confirm": "policy",
    "TURN__INTERRUPTION_MIN_MS=250": "false interruption",
    "TURN__INTERRUPTION_MIN_MS=5000": "interruption by duration",
    "TURN__INTERRUPTION_MIN_WORDS=1": "interruption by words",
    "TURN__FALSE_INTERRUPTION_MS=60000": "false interruption",
    "TURN__BACKCHANNEL_BOUNDARY_MS=0": "backchannel",
    "TURN__ECHO_DBFS=-96": "echo guard",
    "TURN__ECHO_TAIL_MS=0": "echo guard",
    "TURN__ENDPOINTING=fixed": "semantic endpointing",
    "TURN__ENDPOINTING_MAX_MS=700": "semantic endpointing",
    "TURN__ENDPOINTING_MIN_MS=1500": "semantic endpointing",
    "TURN__PREFLIGHT_MS=0": "preflight",
    "TURN__AWAY_MS=0": "away",
    "TURN__STUCK_LLM_MS=80000": "stuck turn",
    "TURN__STUCK_TTS_MS=80000": "stuck turn",
    "TURN__DTMF_TIMEOUT_MS=60000": "keys",
    "LLM__FILLER_MS=0": "filler",
}
"""A mechanism that is off, or too eager, and a rule whose scenarios must notice."""


@pytest.mark.parametrize("change", SENSITIVE)
def test_a_mechanism_that_is_off_is_noticed(change: str, scenarios: list[Scenario]) -> None:
    name, value = change.split("=")
    concerned = [scenario for scenario in scenarios if scenario.rule == SENSITIVE[change]]
    assert any(run_virtual(scenario, {f"CALLBUS_{name}": value}).failures for scenario in concerned)
