"""What runs of scenarios gave, for people and for machines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.scenario.document import Scenario, Way
from ops.scenario.expectations import SeenEvent, StepTimes


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run. ``skipped``: why it could not be run here. ``failures``: empty where it passed.

    ``duration_ms``: length of the call in media time; ``wall_s``: how long the run took. ``recording``: path of a WAV
    of the call, where one was kept.
    """

    scenario: Scenario
    way: Way
    failures: tuple[str, ...] = ()
    skipped: str = ""
    events: tuple[SeenEvent, ...] = ()
    steps: Mapping[str, StepTimes] = field(default_factory=dict)
    duration_ms: int = 0
    wall_s: float = 0.0
    recording: str = ""

    @property
    def passed(self) -> bool:
        return not self.failures and not self.skipped


QUIET = ("tts.done", "tts.started", "playout.mark", "llm.done", "turn.measured")
"""Events that a timeline leaves out: they say nothing that the others don't."""
SHOWN = ("turn", "utterance_id", "why", "text", "digits", "digit", "held", "number", "code", "detail", "reason")
"""Fields that a timeline shows, where they say something."""
BEFORE_MS = 1500
AFTER_MS = 1500

_MOMENT = re.compile(r"at (\d+) ms")


def timeline(result: Result, since_ms: int = 0, until_ms: int | None = None) -> list[str]:
    """What happened, a line each, the caller's steps among it."""
    lines = [
        (event.at_ms, f"{event.name}  {_fields(event)}".rstrip()) for event in result.events if event.name not in QUIET
    ]
    for name, times in result.steps.items():
        lines += [(times.begin_ms, f"> caller: {name!r} begins"), (times.end_ms, f"> caller: {name!r} ends")]
    lines.sort(key=lambda line: line[0])
    return [
        f"{at_ms:>7}  {text}" for at_ms, text in lines if since_ms <= at_ms and (until_ms is None or at_ms <= until_ms)
    ]


def around(result: Result, failure: str) -> list[str]:
    """The timeline around the moments that a failure speaks of; all of it where it speaks of none."""
    moments = [int(moment) for moment in _MOMENT.findall(failure)]
    if not moments:
        return timeline(result)
    return timeline(result, min(moments) - BEFORE_MS, max(moments) + AFTER_MS)


def by_rule(results: Iterable[Result]) -> list[tuple[str, int, int, int]]:
    """Rule, passed, failed and skipped of each, in the order of their names."""
    counted: dict[str, list[int]] = {}
    for result in results:
        row = counted.setdefault(result.scenario.rule, [0, 0, 0])
        row[2 if result.skipped else 1 if result.failures else 0] += 1
    return [(rule, passed, failed, skipped) for rule, (passed, failed, skipped) in sorted(counted.items())]


def facts(result: Result, *, events: bool) -> dict[str, Any]:
    """A result for machines."""
    scenario = result.scenario
    told: dict[str, Any] = {
        "path": str(scenario.path),
        "title": scenario.title,
        "rule": scenario.rule,
        "side": scenario.side,
        "way": result.way,
        "passed": result.passed,
        "failures": list(result.failures),
        "skipped": result.skipped,
        "duration_ms": result.duration_ms,
        "wall_s": round(result.wall_s, 3),
        "recording": result.recording,
    }
    if events:
        told["steps"] = {name: times._asdict() for name, times in result.steps.items()}
        told["events"] = [event._asdict() for event in result.events]
    return told


def _fields(event: SeenEvent) -> str:
    shown = ((name, event.fields.get(name)) for name in SHOWN)
    return "  ".join(f"{name}={value!r}" for name, value in shown if value not in (None, ""))
