"""Where the words of a text begin, when what is known is where its phonemes do. Pure.

A phonemizer joins words ("of the") and takes others apart ("4271"), so the groups of its phonemes are not the words.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import NamedTuple

from services.tts.engine import WordStart

SNAP_PHONEMES = 1
"""A word that seems to begin this near to a group of phonemes begins with the group."""


class Phoneme(NamedTuple):
    """A phoneme and where it begins, milliseconds from the start of the audio."""

    symbol: str
    start_ms: int


def place_words(text: str, phonemes: Sequence[Phoneme], weigh: Callable[[str], int]) -> tuple[WordStart, ...]:
    """The words of ``text`` that are spoken, each with its time.

    Where there are as many groups of phonemes (a space parts them) as words, each word begins with its group. Else the
    words share the phonemes out by what each of them weighs.

    Args:
        weigh: how many phonemes a word has when it stands alone.
    """
    words = [word for word in text.split() if any(character.isalnum() for character in word)]
    sounds = [phoneme.start_ms for phoneme in phonemes if not phoneme.symbol.isspace()]
    firsts = _first_of_groups(phonemes)
    if not words or not sounds:
        return ()
    if len(firsts) == len(words):
        begins = firsts
    else:
        begins = _share_out([max(1, weigh(word)) for word in words], len(sounds), firsts)
    return tuple(WordStart(word, sounds[begin]) for word, begin in zip(words, begins, strict=True))


class WholeWords:
    """The words of a text, as white space parts them, from those of its pieces: a cut may go through a word.

    Scripts without spaces have sentences that are one word.
    """

    def __init__(self, text: str) -> None:
        self._words = text.split()
        self._index = self._place = 0
        """The word that the last part was in, and where that part ended."""
        self._told = -1

    def of(self, part: str) -> str | None:
        """The word that begins with this part; None where it began with a part before."""
        for index in range(self._index, len(self._words)):
            place = self._words[index].find(part, self._place if index == self._index else 0)
            if place >= 0:
                begins = index > self._told
                self._index, self._place, self._told = index, place + len(part), index
                return self._words[index] if begins else None
        return None


def _first_of_groups(phonemes: Sequence[Phoneme]) -> list[int]:
    """Numbers of the phonemes that begin a group; spaces are not counted."""
    firsts, number, between = [], 0, True
    for phoneme in phonemes:
        if phoneme.symbol.isspace():
            between = True
            continue
        if between:
            firsts.append(number)
        between = False
        number += 1
    return firsts


def _share_out(weights: Sequence[int], count: int, firsts: Sequence[int]) -> list[int]:
    begins: list[int] = []
    before, total = 0, sum(weights)
    for weight in weights:
        begin = min(count - 1, round(before * count / total))
        place = bisect.bisect_left(firsts, begin)
        near = min(firsts[max(0, place - 1) : place + 1], key=lambda first: abs(first - begin))
        if abs(near - begin) <= SNAP_PHONEMES and near not in begins[-1:]:
            begin = near
        begins.append(min(count - 1, max(begin, begins[-1] + 1)) if begins else begin)
        before += weight
    return begins
