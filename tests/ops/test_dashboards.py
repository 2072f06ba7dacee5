"""The dashboards: made by the generator, loadable, laid out side by side, and asking for nothing that nobody tells."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from bus.metrics import DECLARED
from ops.dashboards import made
from tests.ops.promql import Known, asked, declaration_of, plain, rules

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / made.DASHBOARDS).glob("*.json"))
COLUMNS = 24
NOT_DRAWN: dict[str, str] = {}
"""Declared figures that no panel shows, and why."""
NAMES = {"overview", "edge", "asr", "llm", "tts", "call", "capacity"}


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


def load(path: Path) -> dict[str, Any]:
    board: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return board


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Panels without the headings of rows."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of every PromQL query, that of a variable too."""
    for panel in panels(board):
        for target in panel.get("targets", ()):
            if "expr" in target:
                yield panel["title"], plain(target["expr"]), target.get("legendFormat", "")
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            (inside,) = re.findall(r"^label_values\((.*), \w+\)$", variable["query"]["query"])
            yield variable["name"], inside, ""


def load_again(board: dict[str, Any]) -> dict[str, Any]:
    """A dashboard through the types of Grafana's own schema: what they do not know is gone."""
    register_default_plugins()
    again: dict[str, Any] = json.loads(json.dumps(Dashboard.from_json(copy.deepcopy(board)), cls=JSONEncoder))
    return again


def overlaps(board: dict[str, Any]) -> list[str]:
    """Panels that share a cell, stand outside of the grid, or leave a hole above them."""
    found = []
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > COLUMNS or min(place["w"], place["h"]) < 1:
            found.append(f"{panel['title']} is outside of the grid")
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            if cell in taken:
                found.append(f"{panel['title']} lies on {taken[cell]}")
            taken[cell] = panel["title"]
    rows = {y for _, y in taken}
    return sorted({*found, *(f"row {y} is empty" for y in set(range(max(rows) + 1)) - rows)})


def test_files_are_what_the_generator_makes() -> None:
    for path, text in made.files().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: run `python -m ops.dashboards`"
    assert {path.stem for path in FILES} == NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestEveryDashboard:
    def test_grafana_knows_every_key(self, path: Path) -> None:
        assert load_again(load(path)) == load(path)

    def test_panels_stand_side_by_side(self, path: Path) -> None:
        board = load(path)
        assert overlaps(board) == []
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])

    def test_panels_say_what_they_are(self, path: Path) -> None:
        board = load(path)
        titles = [panel["title"] for panel in panels(board)]
        assert len(set(titles)) == len(titles)
        for panel in panels(board):
            assert panel["description"].endswith("."), panel["title"]
            if panel["type"] in ("timeseries", "stat"):
                assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert board["description"]
        assert not board["editable"]

    def test_sources_are_provisioned(self, path: Path) -> None:
        file = ROOT / "ops/grafana/provisioning/datasources/callbus.yml"
        there = {
            (each["type"], each["uid"]) for each in yaml.safe_load(file.read_text(encoding="utf-8"))["datasources"]
        }
        for panel in panels(load(path)):
            for asked_of in [panel.get("datasource"), *(target["datasource"] for target in panel.get("targets", ()))]:
                assert asked_of is None or (asked_of["type"], asked_of["uid"]) in there, panel["title"]

    def test_links_lead_to_dashboards(self, path: Path) -> None:
        for uid in re.findall(r"/d/([\w-]+)", path.read_text(encoding="utf-8")):
            assert uid in {load(each)["uid"] for each in FILES}

    def test_nothing_is_asked_for_that_nobody_tells(self, path: Path, known: Known) -> None:
        for title, expression, legend in queries(load(path)):
            assert known.problems(expression, legend) == [], f"{title}: {expression}"


def test_every_figure_is_drawn() -> None:
    recorded = {rule["record"]: rule["expr"] for rule in rules("recording.yml")}
    drawn = {
        selector.name for path in FILES for _, text, _ in queries(load(path)) for selector in asked(text).selectors
    }
    drawn |= {selector.name for name in drawn & set(recorded) for selector in asked(recorded[name]).selectors}
    shown = {found[0].name for found in map(declaration_of, drawn) if found}
    assert set(DECLARED) - shown == set(NOT_DRAWN)


class TestTheTests:
    """What is planted is found."""

    @pytest.mark.parametrize(
        ("expression", "legend", "problem"),
        [
            ("sum(callbus_calls_waiting)", "", "no process exports callbus_calls_waiting"),
            ("rate(callbus_turn_e2e_latency_seconds[5m])", "", "no process exports callbus_turn_e2e_latency_seconds"),
            ("callbus:turn_e2e_latency_seconds:p90", "", "no process exports callbus:turn_e2e_latency_seconds:p90"),
            ('callbus_calls_active{call_id="x"}', "", "callbus_calls_active has no label call_id"),
            ("sum by (engine) (callbus_worker_calls)", "", "nothing in it has the label engine"),
            ("sum by (stage) (callbus_worker_calls)", "{{job}}", "the legend shows job, which is not there"),
            ("sum(callbus_worker_calls)", "{{stage}}", "the legend shows stage, which is not there"),
            ('callbus_calls_ended_total{result="lost"}', "", "callbus_calls_ended_total: result is never lost, only "),
            ('callbus_calls_active{job="asr"}', "", "callbus_calls_active: job is never asr, only edge"),
            ('histogram_quantile(0.9, sum by (le, x) (rate(callbus_call_mos_bucket[5m])))', "", "nothing in it has"),
        ],
    )  # fmt: skip
    def test_a_question_that_has_no_answer(self, known: Known, expression: str, legend: str, problem: str) -> None:
        (found,) = known.problems(expression, legend)
        assert found.startswith(problem)

    @pytest.mark.parametrize(
        "expression",
        [
            "max_over_time(callbus:calls_active:sum[1d]) offset 6h > bool 3e8",
            'sum by (job) (rate(process_cpu_seconds_total{job=~"edge|asr"}[5m])) / on (job) callbus:ready:sum',
            "callbus_degraded_total unless callbus_degraded_total offset 10m",
        ],
    )
    def test_a_question_that_has_one(self, known: Known, expression: str) -> None:
        assert known.problems(expression) == []

    def test_a_panel_that_asks_for_nothing_that_is(self, known: Known) -> None:
        board = load(FILES[0])
        target = next(target for panel in panels(board) for target in panel.get("targets", ()) if "expr" in target)
        target["expr"] = target["expr"].replace("callbus_", "callbuz_")
        assert any(known.problems(expression, legend) for _, expression, legend in queries(board))

    def test_a_key_that_grafana_does_not_know(self) -> None:
        board = load(FILES[0])
        next(panels(board))["fieldConfig"]["defaults"]["unitt"] = "s"
        assert load_again(board) != board

    def test_panels_one_on_the_other(self) -> None:
        board = load(FILES[0])
        board["panels"][2]["gridPos"] = board["panels"][1]["gridPos"]
        assert overlaps(board)
