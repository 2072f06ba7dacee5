"""Every scenario of ``tests/scenarios`` passes in virtual time, and each rule is tried from both sides."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import pytest

from ops.scenario.document import Scenario, load_scenarios
from ops.scenario.report import around
from ops.scenario.virtual import run_virtual

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).resolve().parents[2] / "scenarios"
ALL = load_scenarios(FOLDER)
VIRTUAL = [scenario for scenario in ALL if "virtual" in scenario.runs]
WANTED = 60
BUDGET_S = 20.0
ONE_SIDED = {"several turns", "heard context", "lost and repeated events", "stuck turn"}
"""Rules whose scenarios differ in what happens, not in what the agent does."""


def name_of(scenario: Scenario) -> str:
    return str(scenario.path.relative_to(FOLDER).with_suffix(""))


@pytest.mark.parametrize("scenario", VIRTUAL, ids=name_of)
def test_scenario(scenario: Scenario) -> None:
    result = run_virtual(scenario, {})
    if result.skipped:
        pytest.skip(result.skipped)
    told = [line for failure in result.failures for line in (failure, *around(result, failure))]
    assert not result.failures, "\n".join(told)


def test_there_are_enough_of_them() -> None:
    assert len(VIRTUAL) >= WANTED


def test_each_rule_is_tried_from_both_sides() -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for scenario in VIRTUAL:
        sides[scenario.rule].add(scenario.side)
    one_sided = {rule: found for rule, found in sides.items() if len(found) < 2 and rule not in ONE_SIDED}
    assert not one_sided


def test_no_two_have_the_same_title() -> None:
    titles = [scenario.title for scenario in VIRTUAL]
    assert len(titles) == len(set(titles))


def test_all_of_them_take_seconds() -> None:
    """Half an hour of conversation, with the machine's own time: what waits in virtual time waits for nothing."""
    began = time.process_time()
    conversation_ms = sum(run_virtual(scenario, {}).duration_ms for scenario in VIRTUAL)
    spent_s = time.process_time() - began
    assert conversation_ms > 600_000
    assert spent_s < BUDGET_S, f"{len(VIRTUAL)} scenarios took {spent_s:.1f} s"


def test_a_scenario_gives_the_same_events_each_time() -> None:
    for scenario in VIRTUAL[::10]:
        first, second = run_virtual(scenario, {}), run_virtual(scenario, {})
        assert first.events == second.events
