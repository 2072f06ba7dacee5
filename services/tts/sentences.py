"""Text into sentences, and a very long one into pieces that an engine can speak without keeping others waiting."""

from __future__ import annotations

import re
from typing import NamedTuple

from services.text.cutting import cut_sentences

PIECE_CHARACTERS = 300
"""About 20 s of speech."""

_SENTENCE_END = re.compile(r"[.!?。！？][\"')\]]*(?=\s|$)|[。！？]")
_CLAUSE_END = re.compile(r"[,;:–—、，；：](?=\s)|[、，；：]")
_SPACE = re.compile(r"\s+")


class Piece(NamedTuple):
    """Part of a text; ``offset`` is the index of its first character in the whole."""

    offset: int
    text: str


def split_text(text: str, limit: int = PIECE_CHARACTERS) -> list[Piece]:
    """Pieces of at most ``limit`` characters that together are ``text``, cut where a voice would pause.

    Each piece ends after the last sentence that fits, else after the last clause, else after the last space, else at
    the limit. A text within the limit is one piece.
    """
    pieces = []
    start = 0
    while len(text) - start > limit:
        end = _cut(text, start, start + limit)
        pieces.append(Piece(start, text[start:end]))
        start = end
    pieces.append(Piece(start, text[start:]))
    return pieces


def split_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a text without surrounding white space; a text without a letter or digit has none."""
    pieces = cut_sentences(text, language)
    return [piece for piece in pieces if any(character.isalnum() for character in piece)]


def _cut(text: str, start: int, end: int) -> int:
    for pattern in (_SENTENCE_END, _CLAUSE_END, _SPACE):
        ends = [match.end() for match in pattern.finditer(text, start, end)]
        if ends:
            return ends[-1]
    return end
