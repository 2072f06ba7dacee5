"""The workflows parse, call targets that there are, pin what they use, and may do no more than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z_-]+):", MAKEFILE, re.MULTILINE))
PINNED = re.compile(r"^actions/[a-z-]+@[0-9a-f]{40}$")
MAY_WRITE = {("release.yml", "packages"): {"contents": "write"}}
"""Jobs that may change something, and what."""
HOST = re.compile(r"\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:io|com|org|net|dev|cloud)\b")


def loaded(path: Path) -> dict[str, Any]:
    """The document; YAML 1.1 reads the key ``on`` as true."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return {("on" if key is True else key): value for key, value in document.items()}


def steps_of(document: dict[str, Any]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [(name, job, step) for name, job in document["jobs"].items() for step in job["steps"]]


def test_there_are_those_that_are_wanted() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "images.yml", "release.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
class TestEveryWorkflow:
    def test_it_is_bounded_and_may_only_read(self, path: Path) -> None:
        document = loaded(path)
        assert document["permissions"] == {"contents": "read"}
        assert "group" in document["concurrency"]
        for name, job in document["jobs"].items():
            assert 5 <= job["timeout-minutes"] <= 60, name
            assert job.get("permissions", {}) == MAY_WRITE.get((path.name, name), {}), name
            assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"]), "an exact image, not the latest"

    def test_actions_are_pinned_to_commits_and_get_no_credentials(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for _, _, step in steps_of(loaded(path)):
            if "uses" in step:
                assert PINNED.match(step["uses"]), step["uses"]
                assert re.search(rf"{re.escape(step['uses'])}  # v\d+\.\d+\.\d+$", text, re.MULTILINE), (
                    "say the version"
                )
                if step["uses"].startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False

    def test_one_action_has_one_commit(self, path: Path) -> None:
        everywhere = {step["uses"] for each in WORKFLOWS for _, _, step in steps_of(loaded(each)) if "uses" in step}
        names = [use.split("@")[0] for use in everywhere]
        assert len(names) == len(set(names)), f"{path.name}: {sorted(everywhere)}"

    def test_make_has_the_targets(self, path: Path) -> None:
        called = set()
        for _, job, step in steps_of(loaded(path)):
            for target in re.findall(
                r"\bmake (?:--\w+ )*(\S+|\$\{\{[^}]*\}\})", step.get("run", "").replace("${{ ", "${{")
            ):
                wanted = job["strategy"]["matrix"]["target"] if "matrix.target" in target else [target]
                called |= set(wanted)
        assert called
        assert called <= TARGETS, f"no such target: {sorted(called - TARGETS)}"

    def test_no_host_is_named(self, path: Path) -> None:
        """What is fetched from where is said by tools and their settings; a registry is a variable."""
        assert not HOST.findall(path.read_text(encoding="utf-8"))

    def test_nothing_of_a_stranger_stands_in_a_shell(self, path: Path) -> None:
        """A title or a branch of a pull request would be run as it stands: only what we chose may be put in."""
        for _, _, step in steps_of(loaded(path)):
            for put_in in re.findall(r"\$\{\{\s*([^}]*?)\s*\}\}", step.get("run", "")):
                assert put_in == "matrix.target", put_in


def test_ci_runs_all_of_make_test() -> None:
    """``make test`` is ``check`` and ``unit``; ci.yml runs the parts side by side."""
    (needed,) = re.findall(r"^test: ([a-z ]+?) *##", MAKEFILE, re.MULTILINE)
    (checks,) = re.findall(r"^check: ([a-z ]+?) *##", MAKEFILE, re.MULTILINE)
    document = loaded(ROOT / ".github" / "workflows" / "ci.yml")
    assert document["jobs"]["check"]["strategy"]["matrix"]["target"] == checks.split()
    runs = [step.get("run", "") for step in document["jobs"]["test"]["steps"]]
    assert [f"make {target}" for target in needed.split() if target != "check"] == [
        run for run in runs if run in ("make unit", "make test")
    ]


def test_only_a_tag_releases() -> None:
    assert loaded(ROOT / ".github" / "workflows" / "release.yml")["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    for name in ("ci.yml", "images.yml"):
        text = (ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8")
        assert "make push" not in text and "secrets." not in text
