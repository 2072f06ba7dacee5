"""What is left of a sentence whose audio broke off, and how long its audio should have been. Pure.

Another engine goes on from the last word that was surely said to its end. A word may be said twice; none may be left
out.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from services.tts.engine import WordStart
from services.tts.words import timed_words, words_ended

USUAL_MS = 65.0
"""A character of speech at the usual speed, a space counted to each word: 15 characters a second."""
SLOW_MS = 110.0
"""So long it takes at most, as long as nothing is known of a voice: 9 characters a second."""
MARGIN = 1.2
"""A part of a sentence may be so much slower than the whole."""
DIGIT_WEIGHT = 6
"""A digit is spoken as a word: "7" as "seven", "70" as "seventy"."""
SHORTEST_MS = 400.0
"""No text is expected to be over sooner."""
TOO_LONG = 8
"""Audio longer than so many times what is expected is no speech of this text..."""
TOO_SHORT = 8
"""...and audio shorter than this part of it is not all of it."""
PACE_CHARACTERS = 20
"""A shorter sentence tells nothing about a voice's pace."""
PACE_SENTENCES = 20

_WORD = re.compile(r"\S+")


def speakable(text: str) -> bool:
    """Whether there is anything to be heard of it: a letter or a digit."""
    return any(character.isalnum() for character in text)


def weight(text: str) -> int:
    """Length of a text in characters as they are spoken, white space as one."""
    return sum(
        len(word) + (DIGIT_WEIGHT - 1) * sum(character.isdigit() for character in word) + 1 for word in text.split()
    )


def expected_ms(text: str, speed: float = 1.0) -> float:
    """How long its audio should be, roughly."""
    return max(SHORTEST_MS, USUAL_MS * weight(text)) / speed


def too_long(text: str, duration_ms: float, speed: float = 1.0) -> bool:
    """Whether so much audio can not be this text."""
    return speakable(text) and duration_ms > TOO_LONG * expected_ms(text, speed)


def too_short(text: str, duration_ms: float, speed: float = 1.0) -> bool:
    """Whether so little audio can not be all of this text."""
    return speakable(text) and duration_ms < USUAL_MS * weight(text) / speed / TOO_SHORT


class Pace:
    """How slowly a voice speaks at most: the slowest of its last sentences."""

    def __init__(self, speed: float = 1.0) -> None:
        self._seen: deque[float] = deque(maxlen=PACE_SENTENCES)
        self._unknown_ms = SLOW_MS / speed

    @property
    def slowest_ms(self) -> float:
        """Milliseconds for a character."""
        return MARGIN * max(self._seen) if self._seen else self._unknown_ms

    def learn(self, text: str, audible_ms: float) -> None:
        """A whole sentence took so long."""
        if (length := weight(text)) >= PACE_CHARACTERS:
            self._seen.append(audible_ms / length)


def words_said(text: str, starts: Sequence[WordStart], given_ms: int, silence_ms: float, pace: Pace) -> int:
    """How many words of ``text`` were surely said to their end.

    Args:
        starts: as far as the engine told them; without any, time is all there is to go by.
        given_ms: audio up to where it broke off.
        silence_ms: of it, before the first audible sample.
        pace: of the voice.
    """
    if timed_words(text, starts, given_ms):
        return len(words_ended(text, starts, given_ms))
    left_ms, count = given_ms - silence_ms, 0
    for word in text.split():
        left_ms -= weight(word) * pace.slowest_ms
        if left_ms < 0:
            break
        count += 1
    # One less: what follows a pause, a comma's for example, comes later than the pace says.
    return max(0, count - 1)


def without_words(text: str, count: int) -> str:
    """``text`` from its word number ``count`` on, as it is written."""
    for number, word in enumerate(_WORD.finditer(text)):
        if number == count:
            return text[word.start() :]
    return ""
