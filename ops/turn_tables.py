"""The tables of the turn machine as a document: a diagram and a table each, made from the code."""

from __future__ import annotations

import inspect
import itertools
from enum import Enum
from typing import Any, NamedTuple

from services.asr.turn.caller_table import CALLER_TABLE, CallerState, CallerTrigger
from services.asr.turn.floor import FLOOR_TABLE, FloorState, FloorTrigger
from services.asr.turn.presence import PRESENCE_TABLE, PresenceState, PresenceTrigger
from services.asr.turn.table import Table, mermaid
from services.asr.turn.watch import WATCH_TABLE, WatchState, WatchTrigger

HEAD = """# The tables of turn taking

Made from the code by `callbus schema --turn-machine`; what they mean is told in [turn taking](turn-taking.md). Each
arrow is a row: trigger / actions. A trigger without a row in a state does nothing there.
"""


class Part(NamedTuple):
    """One table of the machine."""

    title: str
    table: Table[Any, Any]
    start: Enum
    triggers: type[Enum]


PARTS = (
    Part("The caller's turn", CALLER_TABLE, CallerState.IDLE, CallerTrigger),
    Part("The agent's floor", FLOOR_TABLE, FloorState.SILENT, FloorTrigger),
    Part("The caller's presence", PRESENCE_TABLE, PresenceState.PRESENT, PresenceTrigger),
    Part("The wait for the answer", WATCH_TABLE, WatchState.CALM, WatchTrigger),
)


def document() -> str:
    """The whole page, Markdown."""
    return "\n".join([HEAD, *(section(part) for part in PARTS)])


def section(part: Part) -> str:
    """Heading, diagram, and what the words in it mean."""
    words = [*_meanings(type(part.start)), *_meanings(part.triggers)]
    meanings = "\n".join(f"| `{word}` | {meaning} |" for word, meaning in words)
    diagram = f"```mermaid\n{mermaid(part.table, part.start)}\n```"
    return f"## {part.title}\n\n{diagram}\n\n| state or trigger | meaning |\n|---|---|\n{meanings}\n"


def _meanings(kind: type[Enum]) -> list[tuple[str, str]]:
    """Members with the string that stands under each in the source; those that need none are left out."""
    found: list[tuple[str, str]] = []
    lines = [line.strip() for line in inspect.getsource(kind).splitlines()]
    values = {member.name: str(member.value) for member in kind}
    for line, following in itertools.pairwise(lines):
        name = line.partition(" = ")[0]
        if name in values and following.startswith('"""'):
            found.append((values[name], following.strip('"')))
    return found
