"""What is spoken of a text, and which written word each spoken word belongs to. Pure."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from typing import NamedTuple

from services.text.traced import Traced

_WORD = re.compile(r"\S+")


class Group(NamedTuple):
    """Written words and the spoken words that say them together, each by index, the end not included.

    ``$1,250.40`` is one written and nine spoken words; a bullet is a written word that nothing says.
    """

    written: int
    written_end: int
    spoken: int
    spoken_end: int


class Shaped(NamedTuple):
    """A text in the words that a voice says. White space parts the words of both texts.

    Attributes:
        written: the text as it stands in the conversation.
        text: what an engine is given; empty where there is nothing to say.
        groups: every word of both texts, in order.
    """

    written: str
    text: str
    groups: tuple[Group, ...]

    def written_starts(self, spoken: Sequence[int | None]) -> list[int | None]:
        """Where written words begin, given where spoken ones do; None: not known, or said with the word before."""
        starts: list[int | None] = []
        for group in self.groups:
            known = (start for start in spoken[group.spoken : group.spoken_end] if start is not None)
            starts.append(next(known, None))
            starts += [None] * (group.written_end - group.written - 1)
        return starts

    def weights(self) -> list[int]:
        """The spoken characters of each written word, a space counted to each; what is said with another has none."""
        words = self.text.split()
        weights: list[int] = []
        for group in self.groups:
            weights.append(sum(len(word) + 1 for word in words[group.spoken : group.spoken_end]))
            weights += [0] * (group.written_end - group.written - 1)
        return weights


def as_written(text: str) -> Shaped:
    """A text that is spoken as it is written."""
    return Shaped(text, text, tuple(Group(index, index + 1, index, index + 1) for index in range(len(text.split()))))


def shaped_from(written: str, traced: Traced) -> Shaped:
    """``traced`` is what became of ``written``. A text in which no word has changed is given as it is written."""
    if traced.text.split() == written.split():
        return as_written(written)
    places = [match.span() for match in _WORD.finditer(written)]
    groups: list[Group] = []
    for index, match in enumerate(_WORD.finditer(traced.text)):
        begin = min(traced.begins[match.start() : match.end()])
        end = max(traced.ends[match.start() : match.end()])
        first = bisect.bisect_right(places, begin, key=lambda place: place[1])
        last = bisect.bisect_left(places, end, key=lambda place: place[0])
        _join(groups, min(first, len(places) - 1), max(last, first + 1), index)
    reached = groups[-1] if groups else Group(0, 0, 0, 0)
    groups += (
        Group(each, each + 1, reached.spoken_end, reached.spoken_end)
        for each in range(reached.written_end, len(places))
    )
    return Shaped(written, traced.text.strip(), tuple(groups))


def _join(groups: list[Group], first: int, end: int, spoken: int) -> None:
    """Add a spoken word that says the written words from ``first`` to ``end``."""
    reached = groups[-1] if groups else Group(0, 0, 0, 0)
    if groups and first < reached.written_end:
        groups[-1] = reached._replace(written_end=max(reached.written_end, end), spoken_end=spoken + 1)
        return
    groups += (Group(each, each + 1, spoken, spoken) for each in range(reached.written_end, first))
    groups.append(Group(first, end, spoken, spoken + 1))
