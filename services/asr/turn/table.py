"""What the tables of this room have in common: a row says where a trigger leads and what is done on the way. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

S = TypeVar("S", bound=Enum)
T = TypeVar("T", bound=Enum)

Table = Mapping[tuple[S, T], tuple[S, tuple[str, ...]]]
"""(state, trigger) -> (next state, actions). A pair that is absent means: nothing to do."""


class Tabled(Generic[S, T]):
    """A part of the machine. Its ``state`` is set by rows of its table and in no other way; an action ``name`` is its
    method ``_do_name``."""

    def __init__(self, table: Table[S, T], state: S) -> None:
        self._table = table
        self.state = state

    def pull(self, trigger: T) -> bool:
        """Do what the row for this trigger says; False where there is none."""
        row = self._table.get((self.state, trigger))
        if row is None:
            return False
        self.state, actions = row
        for action in actions:
            getattr(self, f"_do_{action}")()
        return True


def mermaid(table: Table[S, T], start: S) -> str:
    """The table as a Mermaid state diagram; rows that lead back and do nothing are left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {start.value}"]
    for (state, trigger), (following, actions) in table.items():
        if state is following and not actions:
            continue
        done = f" / {', '.join(actions)}" if actions else ""
        lines.append(f"    {state.value} --> {following.value}: {trigger.value}{done}")
    return "\n".join(lines)
