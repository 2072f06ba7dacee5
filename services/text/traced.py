"""A text under change that knows of each of its characters from where in the original it comes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Edit(NamedTuple):
    """``text`` in place of the characters from ``start`` up to ``end``."""

    start: int
    end: int
    text: str


Change = Callable[[re.Match[str]], str | list[Edit] | None]
"""What becomes of a match: other text, edits inside of it in their order, or None to leave it."""


class Traced(NamedTuple):
    """``begins`` and ``ends``: for each character of ``text`` the stretch of the original that it stands for."""

    text: str
    begins: list[int]
    ends: list[int]

    @classmethod
    def of(cls, text: str) -> Traced:
        """A text as it is written."""
        return cls(text, list(range(len(text))), list(range(1, len(text) + 1)))

    def replace(self, pattern: re.Pattern[str], change: Change | str) -> Traced:
        """The text with each match changed."""
        edits: list[Edit] = []
        for match in pattern.finditer(self.text):
            made = change if isinstance(change, str) else change(match)
            if isinstance(made, str):
                edits.append(Edit(match.start(), match.end(), made))
            elif made:
                edits += made
        return self.edit(edits) if edits else self

    def edit(self, edits: Iterable[Edit]) -> Traced:
        """The text with these changes; they are in order and do not overlap."""
        text: list[str] = []
        begins: list[int] = []
        ends: list[int] = []
        at = 0
        for edit in edits:
            text += (self.text[at : edit.start], edit.text)
            begins += self.begins[at : edit.start]
            ends += self.ends[at : edit.start]
            begin, end = self._origin(edit.start, edit.end)
            begins += [begin] * len(edit.text)
            ends += [end] * len(edit.text)
            at = edit.end
        text.append(self.text[at:])
        return Traced("".join(text), begins + self.begins[at:], ends + self.ends[at:])

    def _origin(self, start: int, end: int) -> tuple[int, int]:
        if start < end:
            return self.begins[start], self.ends[end - 1]
        place = self.ends[start - 1] if start else 0
        return place, place
