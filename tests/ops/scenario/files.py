"""Scenario files for tests: a small one that passes, and what is to be changed in it."""

from __future__ import annotations

from pathlib import Path

from ops.scenario.document import Scenario, load_scenario

HEAD = """
title = "A question is answered"
rule = "end of turn"
side = "must answer"
"""

CALLER = """
[[caller]]
name = "question"
when = "agent silent"
say = "where is my card"
"""

EXPECT = """
[[expect]]
event = "turn.ended"
after = "question end"
within_ms = 600
"""

QUESTION = HEAD + CALLER + EXPECT


def write(folder: Path, text: str, name: str = "one.toml") -> Path:
    """A file of this text."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def scenario_of(folder: Path, text: str) -> Scenario:
    """The scenario that this text is, loaded without any environment."""
    return load_scenario(write(folder, text), {})
