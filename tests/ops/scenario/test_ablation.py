"""Each mechanism is worth something, and the table in the documents says what it is worth today."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.scenario import ablation
from ops.scenario.document import load_scenarios

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "turn-taking.md").read_text(encoding="utf-8")
TABLE = PAGE[PAGE.index(ablation.HEAD_LINES[0]) :].splitlines()[2 : 2 + len(ablation.MECHANISMS)]
CHECKED = 2
"""Rows computed anew here, beside the first: all of them take a minute."""


def test_the_table_of_the_page_has_a_row_for_each_mechanism_and_none_is_without_effect() -> None:
    names = [line.split(" | ")[0].removeprefix("| ") for line in TABLE]
    assert names == [mechanism.name for mechanism in ablation.MECHANISMS]
    failing = {line.split(" | ")[0].removeprefix("| "): int(line.split(" | ")[1]) for line in TABLE}
    assert failing.pop("nothing off") == 0
    assert all(failing.values()), "a mechanism that no scenario needs: write one, or take it out"


@pytest.mark.timeout(120)
def test_rows_of_the_page_are_current() -> None:
    scenarios = load_scenarios(ROOT / "tests" / "scenarios", {})
    mechanisms = (ablation.MECHANISMS[0], *ablation.MECHANISMS[9 : 9 + CHECKED])
    for row in ablation.ablate(scenarios, mechanisms):
        assert ablation.line(row) in TABLE, "stale: run `callbus scenario ablate tests/scenarios`"
