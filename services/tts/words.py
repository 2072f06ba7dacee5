"""Word times of a sentence: from the engine where it tells them, else spread over its audio by length.

There is one entry for each word of the text as it is written, as white space parts them, so that who counts words
counts the same ones. What the engine was given may be shaped into other words (``services.text.speakable``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from schemas.tts import SpokenWord
from services.text.shaped import Shaped, as_written
from services.tts.engine import WordStart


def timed_words(said: Shaped | str, starts: Sequence[WordStart], duration_ms: int) -> tuple[SpokenWord, ...]:
    """The written words of what was said with the times of an engine: each ends where the next one begins, the last
    with the audio.

    A word that the engine tells no time of (a dash alone, a sign that is not spoken, one that is said together with
    the one before it) ends where the next known one begins. What the engine tells and the text does not hold ("dot"
    for a full stop) is passed over. Empty where no word is known, so that the times can be spread instead.
    """
    shaped = _shaped(said)
    words = shaped.text.split()
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
    for begin in reversed(shaped.written_starts(begins)):
        filled.append(filled[-1] if begin is None else begin)
    filled.reverse()
    return tuple(
        SpokenWord(text=word, start_ms=start_ms, end_ms=end_ms)
        for word, (start_ms, end_ms) in zip(shaped.written.split(), pairwise(filled), strict=True)
    )


def words_ended(said: Shaped | str, starts: Sequence[WordStart], duration_ms: int) -> tuple[SpokenWord, ...]:
    """The written words that were said to their end where the audio broke off after ``duration_ms``.

    The word that was under way is not among them. None where the engine tells no times: how far it came is not known.
    """
    if not starts:
        return ()
    begun = [start for start in starts if start.start_ms < duration_ms]
    return tuple(word for word in timed_words(said, begun, duration_ms) if begun and word.end_ms <= begun[-1].start_ms)


def spread_words(said: Shaped | str, start_ms: int, end_ms: int) -> tuple[SpokenWord, ...]:
    """The written words spread between two times in proportion to what is spoken of each."""
    shaped = _shaped(said)
    weights = shaped.weights()
    total = sum(weights)
    spread, before = [], 0
    for word, weight in zip(shaped.written.split(), weights, strict=True):
        first = start_ms + (end_ms - start_ms) * before // total if total else start_ms
        before += weight
        last = start_ms + (end_ms - start_ms) * before // total if total else end_ms
        spread.append(SpokenWord(text=word, start_ms=first, end_ms=last))
    return tuple(spread)


def _shaped(said: Shaped | str) -> Shaped:
    return as_written(said) if isinstance(said, str) else said
