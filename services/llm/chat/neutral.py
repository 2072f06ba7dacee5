"""What others said, made harmless for a prompt: no sign of a chat template, no control character, no end of a quote.

Caller text is speech that a recogniser wrote down, or words put in by command: no such sign is ever spoken, so nothing
is lost where all of them are replaced. Pure.
"""

from __future__ import annotations

import re
import unicodedata

CUT = " … (cut)"
"""Stands where a text was too long."""

_KINDS = ("Cc", "Cf", "Co", "Cs", "Cn")
"""Control and format characters (zero width, direction, tags), private use, halves of pairs, nothing at all."""

_SIGNS = str.maketrans({"<": "‹", ">": "›", "[": "(", "]": ")", "{": "(", "}": ")", "`": "'", "|": " ", "\\": " "})
_RUNS = re.compile(r"[#=_*~-]{2,}")
_ROLE_TOKEN = re.compile(r"\[(?=/?[A-Z_]{2,}\])")


def neutralise(text: str, limit: int) -> str:
    """A text as one line of plain words, ``limit`` characters at most.

    Compatibility forms are folded (NFKC), so that no look-alike of a sign slips through.
    """
    # More than can be kept is not worth folding; NFKC makes at most 18 characters of one.
    plain = unicodedata.normalize("NFKC", _printable(text[: 4 * limit + 4]))
    plain = _RUNS.sub(" ", _printable(plain).translate(_SIGNS))
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit else plain[:limit].rstrip() + CUT


def neutralise_json(text: str, limit: int) -> str:
    """JSON that says the same without a sign of a chat template, ``limit`` characters at most.

    Angle brackets can only stand in strings, where JSON lets them be written as escapes.
    """
    plain = text.replace("<", "\\u003c").replace(">", "\\u003e")
    plain = _ROLE_TOKEN.sub("\\\\u005b", plain)
    return plain if len(plain) <= limit else plain[:limit] + CUT


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in _KINDS else " " if character.isspace() else ""
        for character in text
    )
