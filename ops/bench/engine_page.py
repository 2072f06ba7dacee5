"""The measured tables of docs/engines.md, made of what the bench wrote:
``python -m ops.bench.engine_page bench-results/bench-....json`` writes them between the page's two marks.

Of several files with the same engine and model the last one counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ops.bench.engine_figures import (
    ANSWER_WORK,
    AUDIO,
    BENCH,
    CALLS,
    FINAL,
    MEMORY,
    NOT_MEASURED,
    PARTIAL,
    READY,
    SENTENCE,
    TOKEN,
    TOKENS_A_SECOND,
    WORDS,
    WORK,
)
from ops.bench.results import Figure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "engines.md"
BEGIN = "<!-- measured: python -m ops.bench.engine_page writes from here -->"
END = "<!-- measured: to here -->"
RANDOM = "random-"
"""What the name of a model begins with whose weights are made by chance."""
COST_ONLY = "random weights: cost only"
NONE = "–"

Statistics = dict[str, float]


class Row(NamedTuple):
    """Everything that was measured of an engine with a model: name of the figure -> its statistics."""

    stage: str
    label: str
    figures: dict[str, Statistics]
    reason: str = ""

    @property
    def engine(self) -> str:
        """The engine alone, without its model."""
        return self.label.partition(" (")[0]

    @property
    def made_up(self) -> bool:
        """Whether its words mean nothing."""
        return f"({RANDOM}" in self.label

    def value(self, name: str, statistic: str = "value") -> float | None:
        """None where that was not measured."""
        return self.figures.get(name, {}).get(statistic)


class Column(NamedTuple):
    """A column of a stage's table."""

    title: str
    cell: Callable[[Row], str]


def number(value: float | None, unit: str = "") -> str:
    """As many digits as mean something."""
    if value is None:
        return NONE
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 1 else 2 if abs(value) >= 0.1 else 3
    return f"{value:,.{digits}f}{' ' if unit else ''}{unit}"


def _plain(name: str, statistic: str = "value", unit: str = "") -> Callable[[Row], str]:
    return lambda row: number(row.value(name, statistic), unit)


def _pair(name: str, first: str, second: str, unit: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        values = [row.value(name, first), row.value(name, second)]
        return NONE if values == [None, None] else f"{number(values[0])}, {number(values[1])} {unit}"

    return cell


def _calls(row: Row) -> str:
    value = row.value(CALLS)
    if value is None:
        return NONE
    return "over 1,000" if value > 1000 else f"{value:.0f}" if value >= 2 else f"{value:.1f}"


def _words(row: Row) -> str:
    return NONE if row.made_up else number(row.value(WORDS), "%")


def _places(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        found = [row.value(name, place) for place in ("first_ever", "new_call", "later_turn")]
        return NONE if found == [None] * 3 else f"{', '.join(map(number, found))} ms"

    return cell


_WORK = (
    Column("CPU, wall per second of speech", _pair(WORK, "cpu", "wall", "s")),
    Column("calls per core", _calls),
    Column("memory", _plain(MEMORY, "value", "MB")),
)
_READY = Column("ready after", _plain(READY, "value", "s"))
TABLES: dict[str, tuple[str, tuple[Column, ...]]] = {
    "asr": (
        "Speech recognition",
        (
            Column("first partial: p50, p95", _pair(PARTIAL, "p50", "p95", "ms")),
            Column("final: p50, p95", _pair(FINAL, "p50", "p95", "ms")),
            *_WORK,
            _READY,
            Column("words right", _words),
        ),
    ),
    "llm": (
        "Language models",
        (
            Column("first token: first ever, new call, later turn", _places(TOKEN)),
            Column("first sentence, so too", _places(SENTENCE)),
            Column("tokens a second", _plain(TOKENS_A_SECOND)),
            Column("CPU per answer", _plain(ANSWER_WORK, "cpu", "s")),
            Column("calls per core", _calls),
            Column("memory", _plain(MEMORY, "value", "MB")),
            _READY,
        ),
    ),
    "tts": ("Speech synthesis", (Column("first audio: p50, p95", _pair(AUDIO, "p50", "p95", "ms")), *_WORK, _READY)),
}


def rows_of(documents: Sequence[dict[str, Any]]) -> list[Row]:
    """The engines of what the bench has written, in its order."""
    found: dict[tuple[str, str], Row] = {}
    for document in documents:
        fresh: dict[tuple[str, str], Row] = {}
        for figure in msgspec.convert(document["figures"], list[Figure]):
            if figure.bench != BENCH:
                continue
            subject, _, name = figure.name.partition(": ")
            stage, _, label = subject.partition(" ")
            row = fresh.setdefault((stage, label), Row(stage, label, {}))
            if name == NOT_MEASURED:
                fresh[stage, label] = row._replace(reason=figure.note)
            else:
                row.figures[name] = figure.statistics
        found |= fresh
    return list(found.values())


def render(documents: Sequence[dict[str, Any]]) -> str:
    """The tables, and the list of what was not measured."""
    last = documents[-1]
    cores, load = last["machine"]["cores"], last["machine"]["load"][1]
    lines = [f"Measured on {last['at'][:10]}, {cores} cores, mean load {load:.1f}.", ""]
    rows = rows_of(documents)
    for stage, (title, columns) in TABLES.items():
        lines += [f"**{title}**", "", _line("engine", *(column.title for column in columns))]
        lines.append(_line(*["---"] * (1 + len(columns))))
        for row in rows:
            if row.stage == stage and row.figures:
                lines.append(_line(_named(row), *(column.cell(row) for column in columns)))
        lines.append("")
    measured = {(row.stage, row.engine) for row in rows if row.figures}
    lines += ["Not measured:", ""]
    lines += [
        f"- {row.stage} `{row.label}`: {row.reason}"
        for row in rows
        if row.reason and (row.label != row.engine or (row.stage, row.engine) not in measured)
    ]
    return "\n".join(lines)


def _named(row: Row) -> str:
    engine, _, model = row.label.partition(" (")
    if not model:
        return f"`{engine}`"
    model = model.removesuffix(")")
    return f"`{engine}`, {model.removeprefix(RANDOM)}" + (f" ({COST_ONLY})" if row.made_up else "")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def with_tables(page: str, tables: str) -> str:
    """The page with other tables between its marks.

    Raises:
        ValueError: the marks are not there, in their order, once each.
    """
    before, found, rest = page.partition(f"{BEGIN}\n")
    _, ended, after = rest.partition(END)
    if not found or not ended or BEGIN in rest or END in after:
        raise ValueError(f"the page must hold {BEGIN!r} and then {END!r}, once each")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def main(results: Sequence[str]) -> None:
    """Write the page's tables anew from files of results."""
    documents = [msgspec.json.decode(Path(name).read_bytes()) for name in results]
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), render(documents)), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m ops.bench.engine_page RESULTS.json...")
    main(sys.argv[1:])
