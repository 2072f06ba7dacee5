"""The apology that a worker keeps as audio from the start, for when its engine says nothing any more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bus.logs import get_logger
from schemas.tts import SpokenWord
from services.tts.engine import Engine, WordStart
from services.tts.words import spread_words, timed_words

log = get_logger(__name__)

KEEP_DEADLINE_S = 20.0
"""The engine is warm when it is asked; a worker that can't apologise takes calls all the same."""


@dataclass(frozen=True)
class Apology:
    """A text and its audio: 16-bit mono PCM at the rate of the engine that made it."""

    text: str
    pcm: bytes
    starts: tuple[WordStart, ...] = ()

    @property
    def proportional(self) -> bool:
        """Whether the engine told no word times."""
        return not self.starts

    def words_at(self, offset_ms: int, end_ms: int) -> tuple[SpokenWord, ...]:
        """Its words where its audio lies between these two times of a sentence's audio."""
        starts = [WordStart(start.text, start.start_ms + offset_ms) for start in self.starts]
        return timed_words(self.text, starts, end_ms) or spread_words(self.text, offset_ms, end_ms)


async def keep_apology(engine: Engine, text: str, deadline_s: float = KEEP_DEADLINE_S) -> Apology | None:
    """Have the apology synthesised. None, and a line in the log, where there is no text or the engine fails on it."""
    if not text.strip():
        return None
    pieces: list[bytes] = []
    starts: list[WordStart] = []
    try:
        run = engine.open(text)
        try:
            async with asyncio.timeout(deadline_s):
                async for chunk in run:
                    pieces.append(chunk.pcm)
                    starts += chunk.words
        finally:
            run.cancel()
    except Exception as error:
        name = engine.capabilities.name
        log.warning(
            "apology_missing",
            message=f"engine {name} did not say the apology of [tts] apology ({type(error).__name__}); "
            "a caller hears nothing where it fails on an answer",
        )
        return None
    return Apology(text, b"".join(pieces), tuple(starts))
