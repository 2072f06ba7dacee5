"""Word times of a sentence: from the engine where it tells them, else spread over its audio by length."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.tts import SpokenWord
from services.tts.engine import WordStart


def spoken_words(starts: Sequence[WordStart], duration_ms: int) -> tuple[SpokenWord, ...]:
    """Words with an end: where the next one begins, and the end of the audio for the last."""
    ends = [start.start_ms for start in starts[1:]] + [duration_ms]
    return tuple(
        SpokenWord(text=word.text, start_ms=word.start_ms, end_ms=max(word.start_ms, end))
        for word, end in zip(starts, ends, strict=False)
    )


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
