"""docs/scenarios.md: its example is run, and every key that a file may have stands on it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from ops.scenario import document
from ops.scenario.report import Result
from ops.scenario.virtual import run_virtual
from tests.ops.scenario.files import scenario_of

pytestmark = pytest.mark.contract

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "scenarios.md").read_text(encoding="utf-8")
TABLES = {
    "The head": (document.Document,),
    "[agent]": (document.Agent,),
    "[background]": (document.Background,),
    "[[caller]]": (document.Step,),
    "[[expect]], [[never]]": (document.Expect, document.Never),
    "[outcome]": (document.Outcome,),
    "[faults]": (document.Faults,),
}


def run_example(folder: Path, *, change: tuple[str, str] = ("", "")) -> Result:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return run_virtual(scenario_of(folder, found[1].replace(*change) if change[0] else found[1]), {})


def test_the_example_passes(tmp_path: Path) -> None:
    assert run_example(tmp_path).failures == ()


def test_the_failure_on_the_page_is_what_a_run_says(tmp_path: Path) -> None:
    (failure,) = run_example(tmp_path, change=("within_ms = 900", "within_ms = 300")).failures
    assert failure in PAGE


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_stands_on_the_page(heading: str) -> None:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    there = re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)
    keys = {field.name for table in TABLES[heading] for field in msgspec.structs.fields(table)}
    if heading == "The head":
        keys -= {"settings", "agent", "background", "caller", "expect", "never", "outcome", "faults"}
    assert sorted(there) == sorted(keys)
