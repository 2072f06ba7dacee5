"""What each mechanism of turn taking is worth: the same scenarios in virtual time, with one mechanism off at a time.

Virtual time is exact, so the table is the same on every machine; a test holds the one in docs/turn-taking.md to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import msgspec

from ops.scenario.document import Scenario
from ops.scenario.expectations import SeenEvent
from ops.scenario.report import Result
from ops.scenario.virtual import run_virtual

NEVER_MS = 86_400_000
SIDES = ("must not interrupt", "must interrupt", "must wait", "must answer")


class Mechanism(NamedTuple):
    """A mechanism, and the settings that put it out of action. ``language``: one that has no lists of words."""

    name: str
    off: dict[str, dict[str, Any]]


MECHANISMS = (
    Mechanism("nothing off", {}),
    Mechanism("hold first (confirm first instead)", {"turn": {"interruption": "confirm"}}),
    Mechanism("taking back (every voice interrupts)", {"turn": {"interruption_min_ms": 0}}),
    Mechanism("interruption by duration", {"turn": {"interruption_min_ms": NEVER_MS}}),
    Mechanism("interruption by words", {"turn": {"interruption_min_words": 20}}),
    Mechanism("VAD start (first voiced window counts)", {"turn": {"vad_start_ms": 0}}),
    Mechanism("VAD stop (first quiet window counts)", {"turn": {"vad_stop_ms": 0}}),
    Mechanism("lists of words (backchannels, unfinished)", {"asr": {"language": "none"}}),
    Mechanism("backchannel boundary", {"turn": {"backchannel_boundary_ms": 0}}),
    Mechanism("echo guard", {"turn": {"echo_dbfs": -96.0}}),
    Mechanism("protected opening", {"turn": {"protected_opening_ms": 0}}),
    Mechanism("turn model (fixed 500 ms)", {"turn": {"endpointing": "fixed", "endpointing_fixed_ms": 500}}),
    Mechanism("turn model (fixed 1500 ms)", {"turn": {"endpointing": "fixed", "endpointing_fixed_ms": 1500}}),
    Mechanism("preemptive answers", {"turn": {"preflight_ms": 0}}),
    Mechanism("fillers", {"llm": {"filler_ms": 0}}),
    Mechanism("away prompts", {"turn": {"away_ms": 0}}),
    Mechanism("monologue limit", {"turn": {"monologue_limit_ms": 0}}),
    Mechanism(
        "watch on answers",
        {"turn": {"stuck_llm_ms": NEVER_MS, "stuck_tts_ms": NEVER_MS, "stuck_playout_ms": NEVER_MS}},
    ),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a corpus comes to. ``wrong``: scenarios that fail, by side; times are medians over all turns, ms."""

    name: str
    wrong: dict[str, int]
    rules: tuple[str, ...]
    agent_stops_ms: float
    answer_ms: float

    @property
    def failed(self) -> int:
        return sum(self.wrong.values())


def ablate(scenarios: Sequence[Scenario], mechanisms: Iterable[Mechanism] = MECHANISMS) -> Iterator[Row]:
    """A row per mechanism, the first with nothing off. Only scenarios that run in virtual time count."""
    virtual = [scenario for scenario in scenarios if "virtual" in scenario.runs]
    for mechanism in mechanisms:
        yield _row(mechanism, virtual)


HEAD = ["off", "fails", *SIDES, "agent stops after", "answer after", "which rules fail"]
HEAD_LINES = (f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD))


def line(row: Row) -> str:
    """A line of the table in the documents."""
    sides = [str(row.wrong[side]) for side in SIDES]
    times = [f"{row.agent_stops_ms:.0f} ms", f"{row.answer_ms:.0f} ms"]
    return f"| {' | '.join([row.name, str(row.failed), *sides, *times, ', '.join(row.rules) or '-'])} |"


def _row(mechanism: Mechanism, scenarios: Sequence[Scenario]) -> Row:
    results = [run_virtual(_without(mechanism, scenario), {}) for scenario in scenarios]
    ran = [result for result in results if not result.skipped]
    wrong = [result for result in ran if result.failures]
    return Row(
        name=mechanism.name,
        wrong={side: sum(result.scenario.side == side for result in wrong) for side in SIDES},
        rules=tuple(sorted({result.scenario.rule for result in wrong})),
        agent_stops_ms=median(_stops(ran) or [0]),
        answer_ms=median(_answers(ran) or [0]),
    )


def _without(mechanism: Mechanism, scenario: Scenario) -> Scenario:
    settings = {section: dict(values) for section, values in scenario.settings.items()}
    for section, values in mechanism.off.items():
        settings[section] = settings.get(section, {}) | values
    return msgspec.structs.replace(scenario, settings=settings)


def _stops(results: Iterable[Result]) -> list[int]:
    """Caller's first voiced sample to the end of the last agent packet, of each interruption by voice."""
    found: list[int] = []
    for result in results:
        for event in result.events:
            if event.name == "turn.interrupted" and event.fields.get("why") != "dtmf":
                stopped = _stop_of(event, result.events)
                if stopped is not None:
                    found.append(max(0, stopped - event.fields["speech_start_ms"]))
    return found


def _stop_of(interrupted: SeenEvent, events: Sequence[SeenEvent]) -> int | None:
    utterance_id = interrupted.fields["utterance_id"]
    stops = [
        event.fields["media_time_ms"]
        for event in events
        if event.name in ("playout.paused", "playout.flushed") and event.fields["utterance_id"] == utterance_id
    ]
    after = [stop for stop in stops if stop >= interrupted.fields["speech_start_ms"]]
    return min(after, default=None)


def _answers(results: Iterable[Result]) -> list[int]:
    """Caller's last voiced sample to the begin of the answer, of each turn of words that was answered."""
    found: list[int] = []
    for result in results:
        begun = {
            event.fields["utterance_id"]: event.at_ms for event in result.events if event.name == "playout.started"
        }
        for event in result.events:
            if event.name == "turn.ended" and event.fields.get("text"):
                answer = begun.get(event.fields["turn"] * 100)
                if answer is not None:
                    found.append(answer - event.fields["speech_end_ms"])
    return found
