"""docs/metrics.md: made from the declarations, and whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bus.metrics.registry import DECLARED
from ops import metrics_page
from ops.commands.schema import schema

pytestmark = pytest.mark.contract

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_the_page_is_current() -> None:
    """`callbus schema --metrics > docs/metrics.md` where it is not."""
    assert PAGE.read_text(encoding="utf-8") == metrics_page.document()


def test_every_metric_stands_on_it_once() -> None:
    rows = [line.split("`")[1] for line in metrics_page.document().splitlines() if line.startswith("| `callbus_")]
    assert sorted(rows) == sorted(DECLARED)


def test_the_command_prints_it() -> None:
    done = CliRunner().invoke(schema, ["--metrics"])
    assert done.exit_code == 0
    assert done.output == metrics_page.document()
