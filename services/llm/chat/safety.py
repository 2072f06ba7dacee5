"""What an agent may not say: its instructions, and what is no speech. Pure.

A caller can talk a model into anything, so what it writes is looked at, whatever it was told. A sentence gives the
instructions away

* where :data:`SHINGLE` letters in a row are theirs, over the ends of sentences and whatever signs and numbers stand
  between the letters, forwards, backwards (the whole or word by word) or turned by 13;
* where it is one of their sentences, however short;
* where most of its words stand in them in the same order.

What stands in the agent's ``facts``, or in a sentence of its own (``greeting`` and the like), may be said. A
translation or an account in other words is not recognised: no secret belongs into instructions.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Collection, Iterable
from enum import Enum, auto

from services.text.cutting import cut_sentences

SHINGLE = 40
"""Letters, about eight words; a third of them in scripts that put no space between words."""

KEPT = 6
"""So many times as much is remembered of what was said before, for what may stand between the letters."""

LEAST_WORDS = 4
"""A sentence of fewer words gives nothing away."""

SOME_WORDS = 14
MOST = 0.5
"""A sentence of at least so many words may have at most so much of its groups of three words from the instructions."""

LONGEST_WORD = 40
"""Longer words are none: base64, hexadecimal."""

SCRAMBLED = 3
"""Fewer words of a sentence may have capitals in their middle: base64 in pieces has more."""

CODES = 12
"""So many short codes in a row spell something out."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_DIGITS = re.compile(r"\d+")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_CODE = r"(?:\b0x|\\x|\\u00|%|&#x?|\b)(?:(?:[0-9a-f]{2}){1,2}|\d{2,3}|[01]{8})\b"
_CODES = re.compile(rf"(?:{_CODE}[\s,;]*){{{CODES},}}", re.IGNORECASE)
_SCRAMBLED = re.compile(r"\b(?=(?:\w*?[a-z0-9][A-Z]){2})[\w+/=]{8,}")
_OURS = re.compile(r"^\W*(?:assistant|agent|model|ai|bot)\s*:\s*", re.IGNORECASE)
_ROLE = re.compile(r"\W*(?:assistant|agent|model|user|system)\W*", re.IGNORECASE)
_THEIRS = re.compile(r"^\W*(?:user|caller|customer|human|system|developer|tool)\s*:", re.IGNORECASE)
_SYNTAX = re.compile(r"<[|｜/!]|[|｜]>|<</?sys|\[/?inst\b|\"\s*:\s*[\[{\"\d]|^\W*[\[{]\s*[\"']", re.IGNORECASE)
_LOOKS = str.maketrans("0134578@$iаеорсухіѕԁһкмтвнαεοιρτυκν", "oleastbaslaeopcyxlsdhkmtbhaeolptukv")
"""Signs and letters of other scripts that are written for letters; both sides of a comparison are folded."""


class Verdict(Enum):
    """What becomes of a sentence.

    ``SAY``: it may be spoken. ``DROP``: it is no speech. ``END``: with it the model plays somebody else, or gives the
    instructions away (``LEAK``): the answer is over.
    """

    SAY = auto()
    DROP = auto()
    END = auto()
    LEAK = auto()


class Confidential:
    """The text that is never spoken, made ready once.

    Args:
        secret: instructions.
        allowed: texts that may be spoken even where they stand in the instructions too.
        names: of tools; one that holds a ``_``, or is followed by a bracket, is a call in writing.
    """

    def __init__(self, secret: str, allowed: Iterable[str], names: Collection[str]) -> None:
        allowed = list(allowed)
        letters, bare = _letters(secret), _letters(_DIGITS.sub("", secret))
        words = _words(secret)
        unspaced = len(letters) > 12 * max(1, len(words))
        self.shingle = SHINGLE // 3 if unspaced else SHINGLE
        self._shingles = _groups(letters, self.shingle) | _groups(bare, self.shingle)
        self._triples = _groups(words, 3)
        for text in allowed:
            self._shingles -= _groups(_letters(text), self.shingle)
            self._shingles -= _groups(_letters(_DIGITS.sub("", text)), self.shingle)
            self._triples -= _groups(_words(text), 3)
        lines = [line for line in re.split(r"[\n;]+", secret) if line.strip()]
        said = {_letters(sentence) for text in allowed for sentence in cut_sentences(text)}
        self._sentences = {
            _letters(sentence)
            for line in lines
            for sentence in [line, *cut_sentences(line)]
            if unspaced or len(_words(sentence)) >= LEAST_WORDS
        } - said
        spoken = "|".join(re.escape(name) for name in names)
        self._names = re.compile(rf"\b(?:{spoken})\b") if spoken else None

    def names_a_tool(self, text: str) -> bool:
        """Whether the text holds a name of a tool as no voice says it."""
        found = self._names.finditer(text) if self._names else ()
        return any("_" in match[0] or text[match.end() : match.end() + 1] == "(" for match in found)

    def is_given_away(self, before: str, text: str) -> bool:
        """Whether the text, said after ``before``, is of the instructions."""
        if _letters(text) in self._sentences:
            return True
        row = f"{before} {text}"
        ways = (
            row,
            row[::-1],
            " ".join(word[::-1] for word in row.split()),
            _DIGITS.sub("", row),
            codecs.encode(_plain(row), "rot13"),
        )
        if any(_groups(_letters(way), self.shingle) & self._shingles for way in ways):
            return True
        words = _words(text)
        triples = _groups(words, 3)
        return len(words) >= SOME_WORDS and len(triples & self._triples) >= MOST * len(triples)


class Guard:
    """Looks at the sentences of one answer, in their order."""

    def __init__(self, confidential: Confidential, said: Iterable[str] = ()) -> None:
        self._confidential = confidential
        self._before = ""
        for text in said:
            self._remember(text)

    def look(self, text: str) -> tuple[Verdict, str]:
        """What becomes of a sentence, and how it is said: without the name of who says it."""
        if _THEIRS.match(text):
            return Verdict.END, ""
        text = _OURS.sub("", text)
        leaks = self._confidential.is_given_away(self._before, text)
        self._remember(text)
        if leaks:
            return Verdict.LEAK, ""
        plain = _ADDRESS.sub("", text)
        if not any(map(str.isalnum, text)) or _ROLE.fullmatch(text):
            return Verdict.DROP, ""
        encoded = _CODES.search(plain) or any(len(word) > LONGEST_WORD for word in re.findall(r"[\w+/=]+", plain))
        encoded = encoded or len(_SCRAMBLED.findall(plain)) >= SCRAMBLED
        if encoded or _SYNTAX.search(text) or self._confidential.names_a_tool(text):
            return Verdict.DROP, ""
        return Verdict.SAY, text

    def _remember(self, text: str) -> None:
        self._before = f"{self._before} {text}"[-KEPT * self._confidential.shingle :]


def _plain(text: str) -> str:
    """Nothing but letters, digits and what is written for letters, without case and accents."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", text).casefold() if sign.isalnum() or sign in "@$")


def _letters(text: str) -> str:
    """The same without look-alikes."""
    return _plain(text).translate(_LOOKS)


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _groups(items: str | list[str], size: int) -> set[str]:
    """Every ``size`` neighbours, joined."""
    join = "" if isinstance(items, str) else " "
    return {join.join(items[at : at + size]) for at in range(len(items) - size + 1)}
