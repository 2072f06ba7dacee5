"""Word times of a sentence: from the engine where it tells them, else spread over its audio by length.

There is one entry for each word of the text, as white space parts them, so that who counts words counts the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from schemas.tts import SpokenWord
from services.tts.engine import WordStart


def timed_words(text: str, starts: Sequence[WordStart], duration_ms: int) -> tuple[SpokenWord, ...]:
    """The words of ``text`` with the times of an engine: each ends where the next one begins, the last with the audio.

    A word that the engine tells no time of (a dash alone, a sign that is not spoken) ends where the next known one
    begins. What the engine tells and the text does not hold ("dot" for a full stop) is passed over. Empty where no
    word is known, so that the times can be spread instead.
    """
    words = text.split()
    begins: list[int | None] = [None] * len(words)
    position, latest = 0, 0
    for start in starts:
        try:
            index = words.index(start.text, position)
        except ValueError:
            continue
        latest = min(duration_ms, max(latest, start.start_ms))
        begins[index] = latest
        position = index + 1
    if position == 0:
        return ()
    filled = [duration_ms]
    for begin in reversed(begins):
        filled.append(filled[-1] if begin is None else begin)
    filled.reverse()
    return tuple(
        SpokenWord(text=word, start_ms=start_ms, end_ms=end_ms)
        for word, (start_ms, end_ms) in zip(words, pairwise(filled), strict=True)
    )


def words_ended(text: str, starts: Sequence[WordStart], duration_ms: int) -> tuple[SpokenWord, ...]:
    """The words of ``text`` that were said to their end where its audio broke off after ``duration_ms``.

    The word that was under way is not among them. None where the engine tells no times: how far it came is not known.
    """
    if not starts:
        return ()
    begun = [start for start in starts if start.start_ms < duration_ms]
    return tuple(word for word in timed_words(text, begun, duration_ms) if begun and word.end_ms <= begun[-1].start_ms)


def spread_words(text: str, start_ms: int, end_ms: int) -> tuple[SpokenWord, ...]:
    """Words of ``text`` spread between two times in proportion to their characters, a space counted to each."""
    words = text.split()
    total = sum(len(word) + 1 for word in words)
    spread, before = [], 0
    for word in words:
        first = start_ms + (end_ms - start_ms) * before // total
        before += len(word) + 1
        spread.append(SpokenWord(text=word, start_ms=first, end_ms=start_ms + (end_ms - start_ms) * before // total))
    return tuple(spread)
