"""Any text-to-speech service of pipecat's catalogue, or of one's own, by the name of its class (``docs/pipecat.md``).

A service speaks one text at a time, so a sentence has a service for itself; the next one waits connected. They run in
a thread of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from config.load import ConfigError
from config.settings import Settings, TtsSection
from services.pipecat.catalogue import load_recipe
from services.pipecat.errors import ServiceError
from services.pipecat.hosting import Host
from services.tts.engine import Capabilities, Engine, EngineChoiceError, EngineError, Label, Run, SpeechChunk, WordStart
from services.tts.sentences import split_text

if TYPE_CHECKING:
    from services.pipecat.pool import ServicePool
    from services.pipecat.speech import SpeakingHarness

NAME = "pipecat"
SAMPLE_BYTES = 2


def create(section: TtsSection, settings: Settings | None = None) -> Engine:
    """The engine for the service that ``[pipecat] tts`` names; nothing is connected yet.

    Raises:
        ConfigError: there is no such service, or it can't be used; the text says why.
    """
    return PipecatEngine(settings or Settings())


class PipecatEngine:
    """Sentences, each spoken by a service of the pool."""

    def __init__(self, settings: Settings) -> None:
        section = settings.pipecat
        recipe = load_recipe("tts", section)
        # pipecat takes seconds to import: only where it is used, and only now that it is known to be there.
        from services.pipecat.pool import ServicePool
        from services.pipecat.speech import SpeakingHarness

        self.capabilities = Capabilities(NAME, section.sample_rate_hz, streaming=True, word_times=False)
        self._host = Host("tts")
        self._pool: ServicePool[SpeakingHarness] = ServicePool(
            lambda: SpeakingHarness(recipe, section.sample_rate_hz),
            spare=section.spare_services,
            most=section.most_services,
        )

    async def warm(self) -> None:
        """Connect, and say a first word into the void; it shows whether the service knows when words begin."""
        words: list[WordStart] = []

        def take(chunk: SpeechChunk) -> None:
            words.extend(chunk.words)

        await asyncio.wrap_future(self._host.start(self._warm(take)))
        self.capabilities = self.capabilities._replace(word_times=bool(words))

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        return self._host.stream(lambda give: self._open(text, give))

    async def list_voices(self) -> tuple[str, ...]:
        """Empty: pipecat knows no list of a provider's voices."""
        return ()

    async def close(self) -> None:
        await asyncio.wrap_future(self._host.start(self._pool.close()))
        self._host.close()

    async def _warm(self, give: Callable[[SpeechChunk], None]) -> None:
        try:
            await self._speak(["Ready."], give)
            await self._pool.fill()
        except ServiceError as error:
            raise (EngineChoiceError if error.lasting else EngineError)(str(error)) from None

    async def _open(self, text: str, give: Callable[[SpeechChunk], None]) -> None:
        try:
            await self._speak([piece.text for piece in split_text(text)], give)
        except (ServiceError, ConfigError) as error:
            raise EngineError(str(error)) from None

    async def _speak(self, pieces: list[str], give: Callable[[SpeechChunk], None]) -> None:
        """In the host's thread, as the two above."""
        begins_ms = spoken = 0
        waiting: list[WordStart] = []

        def take(pcm: bytes, words: tuple[tuple[str, int], ...]) -> None:
            """Words go with the audio after them, and those after all audio alone."""
            nonlocal spoken
            waiting.extend(WordStart(word, begins_ms + start_ms) for word, start_ms in words)
            if pcm:
                give(SpeechChunk(pcm, tuple(waiting)))
                waiting.clear()
                spoken += len(pcm)

        for piece in pieces:
            begins_ms = spoken * 1000 // (SAMPLE_BYTES * self.capabilities.sample_rate_hz)
            # What holds no letter and no digit is not spoken: a provider's silence would count as its failure.
            if any(character.isalnum() for character in piece):
                async with self._pool.lend(interruptible=True) as service:
                    await service.speak(piece, take)
        if waiting:
            give(SpeechChunk(b"", tuple(waiting)))
