"""The apology that a worker keeps as audio from the start, for when its engine says nothing any more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bus.logs import get_logger
from schemas.tts import SpokenWord
from services.text.shaped import Shaped, as_written
from services.text.speakable import shape
from services.tts.engine import Engine, Run, WordStart
from services.tts.failover import FailoverRun
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
    said: Shaped | None = field(default=None, compare=False)
    """The text in the words that the engine was given; None: as it is written."""
    engine: str = field(default="", compare=False)
    """Who said it, of several (:func:`voice_of`); empty: more than one of them, or the only one there is."""

    @property
    def proportional(self) -> bool:
        """Whether the engine told no word times."""
        return not self.starts

    def words_at(self, offset_ms: int, end_ms: int) -> tuple[SpokenWord, ...]:
        """Its words where its audio lies between these two times of a sentence's audio."""
        starts = [WordStart(start.text, start.start_ms + offset_ms) for start in self.starts]
        said = self.said or self.text
        return timed_words(said, starts, end_ms) or spread_words(said, offset_ms, end_ms)


SILENT = Apology("", b"")
"""In place of an apology where something better follows: the rest of the answer is left out."""


async def keep_apology(
    engine: Engine, text: str, deadline_s: float = KEEP_DEADLINE_S, *, shape_text: bool = True
) -> Apology | None:
    """Have the apology synthesised. None, and a line in the log, where there is no text or the engine fails on it."""
    if not text.strip():
        return None
    said = shape(text) if shape_text else as_written(text)
    pieces: list[bytes] = []
    starts: list[WordStart] = []
    voices: set[str] = set()
    try:
        run = engine.open(said.text)
        try:
            async with asyncio.timeout(deadline_s):
                async for chunk in run:
                    pieces.append(chunk.pcm)
                    starts += chunk.words
                    voices.add(voice_of(run))
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
    return Apology(text, b"".join(pieces), tuple(starts), said, voices.pop() if len(voices) == 1 else "")


def voice_of(run: Run) -> str:
    """Who of several engines speaks now; empty: there is only one."""
    return run.engine if isinstance(run, FailoverRun) else ""
