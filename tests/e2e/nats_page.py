"""The commands of docs/inspect.md, what the page shows of their output, and whether that is what really comes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "inspect.md"
HEADING = "## With the nats command line"
ELIDED = "..."
UNTIL_CTRL_C = (
    "nats sub 'call.", "nats sub call.default.CALL.rec.in", "nats sub replay.", "nats sub 'dead_letter.",
    "nats sub 'hb.", "nats consumer next",
)  # fmt: skip
"""Beginnings of commands that go on until Ctrl-C."""


class Shown(NamedTuple):
    """A command of the page under its section, and the lines that the page shows of its output."""

    section: str
    command: str
    output: tuple[str, ...]

    @property
    def endless(self) -> bool:
        # Who connects how may stand before the command.
        return re.sub(r"^nats (--\S+ \S+ )+", "nats ", self.command).startswith(UNTIL_CTRL_C)


def shown() -> list[Shown]:
    """Every command of the page's part about the nats command line, in order."""
    part = PAGE.read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    found = []
    for section in part.split("\n### ")[1:]:
        name = section.splitlines()[0]
        for block in re.findall(r"```\n(.*?)```", section, re.DOTALL):
            for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, output = _parted(entry.splitlines())
                found.append(Shown(name, command, tuple(output)))
    return found


def _parted(lines: list[str]) -> tuple[str, list[str]]:
    """The command, over as many lines as its quotes are open, and the rest."""
    command = lines[0]
    taken = 1
    while command.count("'") % 2:
        command += f" {lines[taken].strip()}"
        taken += 1
    return command, [line for line in lines[taken:] if line.strip()]


def shape(line: str, call_id: str) -> str:
    """A line without what differs from call to call: ids, figures, their units, times, and the widths of columns."""
    text = line.replace(call_id, "CALL").replace(call_id[16:], "SPAN").replace("8f8e491837e10e10", "SPAN")
    text = re.sub(r"\b[0-9a-f]{16}\b", "SPAN", text)
    text = re.sub(r"-[0-9a-f]{8}\b", "-HEX", text)
    text = re.sub(r"\d[\d,.:]*( ?(µs|ms|s|m|h|B|KiB|MiB)\b)?", "N", text)
    text = re.sub(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "MONTH", text)
    return " ".join(text.split())


def not_there(page_lines: tuple[str, ...], real: str, call_id: str) -> list[str]:
    """Lines of the page whose shape no line of the real output has."""
    shapes = [shape(line, call_id) for line in real.splitlines()]
    missing = []
    for line in page_lines:
        if line.strip() == ELIDED:
            continue
        wanted = shape(line.removesuffix(ELIDED), call_id)
        begins = line.endswith(ELIDED)
        if not any(found == wanted or (begins and found.startswith(wanted.rstrip(","))) for found in shapes):
            missing.append(line)
    return missing
