"""Which phrase did the caller mean? Word by word, tolerant of what a recogniser adds, drops and mishears. Pure.

The score of a phrase is the weight of its words that were heard in their order, less a little for each word that does
not belong to it, over the weight of all its words: 1.0 for the very phrase. A word weighs the less the more intents use
it, so ``my`` decides nothing and ``balance`` nearly everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from services.llm.digits import is_digit
from services.llm.phrases import DIGIT

DEFAULT_THRESHOLD = 0.7
DEFAULT_IGNORED = ("please", "uh", "um", "er", "erm", "hmm", "well", "okay", "ok", "so", "hi", "hello", "hey", "just")
LEAST_WEIGHT = 0.3
EXTRA_WORD = 0.25
MISHEARD = 0.8
MISHEARD_MIN_LENGTH = 5

_WORD = re.compile(r"[a-z0-9']+")
_SHORT_FORMS = (
    (re.compile(r"\bcan't\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'d\b"), " would"),
    (re.compile(r"\b(where|what|when|who|how|that|it|there)'s\b"), r"\1 is"),
    (re.compile(r"\bcannot\b"), "can not"),
)


class Match(NamedTuple):
    """The best intent for what was said. ``words``: the way of saying it that it was compared with."""

    intent: str
    score: float
    words: tuple[str, ...]


class _Pattern(NamedTuple):
    intent: str
    words: tuple[str, ...]
    weights: tuple[float, ...]


def words_of(text: str) -> tuple[str, ...]:
    """A text as words: lower case, no punctuation, short forms written out, numerals of a text kept together."""
    text = text.lower().replace("\u2019", "'")
    for pattern, replacement in _SHORT_FORMS:
        text = pattern.sub(replacement, text)
    return tuple(_WORD.findall(text))


class Matcher:
    """Finds the intent of a text among the ways of saying each intent.

    Args:
        ways: intent -> every way of saying it, as words (``phrases.expand``).
        threshold: least score of a match, above 0 and up to 1.
        ignored: words that mean nothing wherever they stand.
    """

    def __init__(
        self,
        ways: Mapping[str, Iterable[tuple[str, ...]]],
        threshold: float = DEFAULT_THRESHOLD,
        ignored: Collection[str] = DEFAULT_IGNORED,
    ) -> None:
        self._threshold = threshold
        self._ignored = frozenset(ignored)
        cleaned = {
            intent: list(dict.fromkeys(self.clean(" ".join(words)) for words in several))
            for intent, several in ways.items()
        }
        self._weights = _weigh(cleaned)
        self._vocabulary = {word for word in self._weights if len(word) >= MISHEARD_MIN_LENGTH}
        self._patterns = [
            _Pattern(intent, words, tuple(self._weights[word] for word in words))
            for intent, several in cleaned.items()
            for words in several
        ]

    def clean(self, text: str) -> tuple[str, ...]:
        """The words of a text that count: all of them where every one would be ignored."""
        if DIGIT in text:
            words: tuple[str, ...] = tuple(
                word for piece in text.split() for word in ((DIGIT,) if piece == DIGIT else words_of(piece))
            )
        else:
            words = words_of(text)
        return tuple(word for word in words if word not in self._ignored) or words

    def best(self, text: str, among: Collection[str]) -> Match | None:
        """The intent of ``among`` that fits best, and at least as well as the threshold; ties go to the longer phrase,
        then to the intent that stands first in the agent file."""
        said = self._hear(self.clean(text))
        if not said:
            return None
        present = {word for word, _ in said}
        if any(is_digit(word) for word in present):
            present.add(DIGIT)
        best: Match | None = None
        for pattern in self._patterns:
            if pattern.intent not in among:
                continue
            bound = sum(w for word, w in zip(pattern.words, pattern.weights, strict=True) if word in present)
            least = max(self._threshold, best.score if best else 0.0)
            if bound < least * sum(pattern.weights) - 1e-9:
                continue
            score = _score(pattern, said)
            if score >= self._threshold and (
                best is None or (score, len(pattern.words)) > (best.score, len(best.words))
            ):
                best = Match(pattern.intent, score, pattern.words)
        return best

    def _hear(self, words: Sequence[str]) -> list[tuple[str, float]]:
        """Each word with how sure it is; a long word one letter off a known one is taken for that one."""
        heard: list[tuple[str, float]] = []
        for word in words:
            if word in self._weights:
                heard.append((word, 1.0))
            elif word.isascii() and word.isdigit():
                heard.extend((digit, 1.0) for digit in word)
            else:
                near = next((known for known in sorted(self._vocabulary) if _one_letter_off(word, known)), None)
                heard.append((near, MISHEARD) if near else (word, 1.0))
        return heard


def _weigh(ways: Mapping[str, Iterable[tuple[str, ...]]]) -> dict[str, float]:
    users: dict[str, set[str]] = {}
    for intent, several in ways.items():
        for words in several:
            for word in words:
                users.setdefault(word, set()).add(intent)
    return {word: max(LEAST_WEIGHT, 1.0 / len(intents)) for word, intents in users.items()}


def _score(pattern: _Pattern, said: Sequence[tuple[str, float]]) -> float:
    """Weight of the best common subsequence, less the words over, by the weight of the pattern."""
    row: list[tuple[float, int]] = [(0.0, 0)] * (len(said) + 1)
    for word, weight in zip(pattern.words, pattern.weights, strict=True):
        above, row = row, [(0.0, 0)]
        for index, (heard, sureness) in enumerate(said):
            best = max(above[index + 1], row[index])
            if heard == word or (word == DIGIT and is_digit(heard)):
                weighed, count = above[index]
                best = max(best, (weighed + weight * sureness, count + 1))
            row.append(best)
    matched, count = row[-1]
    extra = EXTRA_WORD * (len(said) - count) / len(pattern.words)
    return round((matched - extra) / sum(pattern.weights), 9)


def _one_letter_off(word: str, known: str) -> bool:
    """Whether one letter added, dropped or changed makes ``known`` of ``word``."""
    if len(word) < MISHEARD_MIN_LENGTH or abs(len(word) - len(known)) > 1:
        return False
    if len(word) > len(known):
        word, known = known, word
    same = 0
    while same < len(word) and word[same] == known[same]:
        same += 1
    return word[same + (len(word) == len(known)) :] == known[same + 1 :]
