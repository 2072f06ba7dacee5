"""Prometheus: its configuration, rules and alerts are well, ask for what is told, and each alert has its page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bus.metrics.registry import SERVICES
from bus.metrics.turns import TURN_BUCKETS_S
from ops.dashboards import made
from tests.contract.documented import commands_of
from tests.ops.promql import Known, asked, rules
from tests.ops.test_dashboards import FILES, load, queries

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "ops" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULE_TESTS = ("firing", "quiet", "slow", "words")
COMMANDS = "compose.md#commands"
SEVERITIES = {"critical", "warning", "info"}
ALERTS = list(rules("alerts.yml"))
NAMES = {rule["alert"] for rule in ALERTS}
ORIGINS = {
    "websocket_message_processing", "stt_transcription", "tts_synthesis", "llm_generation", "active_connections",
    "queue_depth", "worker_utilization", "requests_total", "errors_total", "rate_limits_total",
}  # fmt: skip


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


def promtool(*words: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: apt-get install --no-install-recommends prometheus")
    done = subprocess.run([program, *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
class TestEveryAlert:
    def test_it_asks_for_what_is_told(self, rule: dict[str, Any], known: Known) -> None:
        assert known.problems(rule["expr"]) == []

    def test_it_says_what_it_is_and_where_to_look(self, rule: dict[str, Any]) -> None:
        assert re.fullmatch(r"Callbus[A-Z]\w+", rule["alert"])
        assert rule["labels"]["severity"] in SEVERITIES
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "dashboard", "runbook_url"}
        assert not notes["summary"].endswith(".")
        assert notes["description"].endswith(".")
        uid = notes["dashboard"].removeprefix("/d/")
        boards = {load(path)["uid"] for path in FILES}
        assert {re.sub(r"\{\{.*\}\}", service, uid) for service in SERVICES} <= boards

    def test_labels_in_its_words_are_there(self, rule: dict[str, Any], known: Known) -> None:
        for label in re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())):
            replaced = f'"{label}"' in rule["expr"] and "label_replace" in rule["expr"]
            assert replaced or known.problems(rule["expr"], f"{{{{{label}}}}}") == []

    def test_it_has_a_page(self, rule: dict[str, Any]) -> None:
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        text = (RUNBOOKS / f"{rule['alert']}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {rule['alert']}\n")
        assert f"Severity: {rule['labels']['severity']}." in text
        places = [text.index(part) for part in ("**Callers notice.**", "**It means.**", "## Look here", "## Mend")]
        assert places == sorted(places)

    def test_its_page_says_how_commands_are_run_in_compose(self, rule: dict[str, Any]) -> None:
        """By one link, to a table that has each command that the page names."""
        page = RUNBOOKS / f"{rule['alert']}.md"
        (severity,) = re.findall(r"^Severity: .*$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert severity.endswith(f" [commands in compose](../{COMMANDS}).")
        named = {each.words[1] for each in commands_of(page) if each.program == "callbus" and each.words[1:]}
        assert named <= commands_in_compose()


def commands_in_compose() -> set[str]:
    """The commands that have a row."""
    page, _, anchor = COMMANDS.partition("#")
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"\n## {anchor.capitalize()}\n")[2]
    rows = re.findall(r"^\| (`callbus .*?) \|", text.partition("\n## ")[0], re.MULTILINE)
    return {command for row in rows for command in re.findall(r"`callbus ([a-z-]+)", row)}


def test_every_page_has_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == NAMES


def test_the_page_about_observability_lists_them_all() -> None:
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(runbooks/(\w+)\.md\)", text)) == NAMES


def test_objectives_ask_for_what_is_told(known: Known) -> None:
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    section = text[text.index("## Objectives") : text.index("## Names that")]
    expressions = [found for found in re.findall(r"`([^`]+)`", section) if "increase(" in found]
    assert len(expressions) == 4
    for expression in expressions:
        assert known.problems(expression) == []


def test_every_alert_is_set_off_and_kept_quiet_in_a_test() -> None:
    """The quiet day has every series that an alert asks for: none is quiet for want of figures."""
    texts = {name: (PROMETHEUS / "tests" / f"{name}.yml").read_text(encoding="utf-8") for name in RULE_TESTS}
    assert set(re.findall(r'alertname="(\w+)"', texts["firing"] + texts["slow"])) == NAMES
    recorded = {rule["record"]: rule["expr"] for rule in rules("recording.yml")}
    wanted = {selector.name for rule in ALERTS for selector in asked(rule["expr"]).selectors}
    wanted |= {selector.name for name in wanted & set(recorded) for selector in asked(recorded[name]).selectors}
    there = {series.partition("{")[0] for series in re.findall(r"series: '([^']+)'", texts["quiet"])}
    assert wanted - set(recorded) <= there


def test_recording_rules_ask_for_what_is_told(known: Known) -> None:
    for rule in rules("recording.yml"):
        assert known.problems(rule["expr"]) == [], rule["record"]
    assert 1.5 in TURN_BUCKETS_S, "callbus:answers_in_time:ratio counts in a bucket that is not there"


def test_the_names_of_other_systems_are_there() -> None:
    assert {rule["record"] for rule in rules("recording.yml")} >= ORIGINS


def test_prometheus_scrapes_every_service() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert set(jobs) == {*SERVICES, "prometheus"}
    for service in SERVICES:
        (source,) = jobs[service]["dns_sd_configs"]
        assert (source["names"], source["type"], source["port"]) == ([service], "A", 9100)


class TestByPromtool:
    def test_configuration_and_rules(self) -> None:
        promtool("check", "config", "prometheus.yml")
        promtool("check", "rules", "rules/recording.yml", "rules/alerts.yml")

    @pytest.mark.parametrize("name", RULE_TESTS)
    def test_alerts(self, name: str) -> None:
        promtool("test", "rules", f"tests/{name}.yml")

    def test_every_expression_of_a_panel_is_one(self, tmp_path: Path) -> None:
        """As rules, because not every promtool can look at a single expression."""
        every = [
            {"record": f"panel:{board.stem}:{number}", "expr": expression}
            for board in FILES
            for number, (_, expression, _) in enumerate(queries(load(board)))
        ]
        file = tmp_path / "panels.yml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": every}]}), encoding="utf-8")
        promtool("check", "rules", str(file))
        broken = [{**every[0], "expr": every[0]["expr"] + ")"}]
        file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": broken}]}), encoding="utf-8")
        with pytest.raises(AssertionError, match="could not parse expression"):
            promtool("check", "rules", str(file))


def test_the_rules_file_says_who_makes_it() -> None:
    assert (ROOT / made.RECORDING).read_text(encoding="utf-8").startswith("# Made by `python -m ops.dashboards`")
