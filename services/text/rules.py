"""A rule: a pattern, and what becomes of what it matches. What the rules of all kinds need. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from services.text.traced import Change

NUMBER = r"[0-9]+(?:[.,’'\u00a0\u202f][0-9]+)*(?![.,]?[0-9])"
"""Digits with any separators; ``services.text.numbers.parse_number`` tells whether it is a number."""
_LAST_WORD = re.compile(r"(\w+)\W*\Z")


class Rule(NamedTuple):
    """One step on the way from what is written to what is spoken."""

    pattern: re.Pattern[str]
    change: Change | str


def rule(pattern: str, change: Change | str, flags: int = 0) -> Rule:
    """A rule of a pattern that is not compiled yet."""
    return Rule(re.compile(pattern, flags), change)


def any_of(words: Iterable[str]) -> str:
    """A pattern of these words, longer ones first."""
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


def word_before(match: re.Match[str]) -> str:
    """The word before a match, in lower case; empty where there is none."""
    found = _LAST_WORD.search(match.string[max(0, match.start() - 24) : match.start()])
    return found.group(1).lower() if found else ""


def ends_text(match: re.Match[str]) -> bool:
    """Whether nothing follows a match but closing signs."""
    return not match.string[match.end() : match.end() + 8].strip(" \"'”’»)\n")
