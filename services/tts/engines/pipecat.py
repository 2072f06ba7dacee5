"""Any text-to-speech service of pipecat's catalogue, or of one's own, by the name of its class (``docs/pipecat.md``).

A service speaks one text at a time, so a sentence has a service for itself; the next one waits connected. They run in
a thread of their own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from config.load import ConfigError
from config.settings import Settings, TtsSection
from services.pipecat.catalogue import load_recipe
from services.pipecat.errors import ServiceError
from services.pipecat.hosting import Giver, Host
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
        try:
            async for chunk in self._host.stream(self._warm):
                words.extend(chunk.words)
        except ServiceError as error:
            raise (EngineChoiceError if error.lasting else EngineError)(str(error)) from None
        self.capabilities = self.capabilities._replace(word_times=bool(words))

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        return self._host.stream(lambda give: self._speak(text, give))

    async def list_voices(self) -> tuple[str, ...]:
        """Empty: pipecat knows no list of a provider's voices."""
        return ()

    async def close(self) -> None:
        await asyncio.wrap_future(self._host.start(self._pool.close()))
        self._host.close()

    async def _warm(self, give: Giver[SpeechChunk]) -> None:
        """In the host's thread, as all that follows."""
        await self._speak_piece("Ready.", _Speech(give, self.capabilities.sample_rate_hz))
        await self._pool.fill()

    async def _speak(self, text: str, give: Giver[SpeechChunk]) -> None:
        speech = _Speech(give, self.capabilities.sample_rate_hz)
        # Half a pair of UTF-16 is no character that could be sent to anybody.
        pieces = split_text(text.encode("utf-8", "replace").decode())
        try:
            for number, piece in enumerate(pieces):
                if number:
                    # A long text is not made long before it is wanted.
                    await give.taken()
                await self._speak_piece(piece.text, speech)
        except (ServiceError, ConfigError) as error:
            raise EngineError(str(error)) from None

    async def _speak_piece(self, text: str, speech: _Speech) -> None:
        # What holds no letter and no digit is not spoken: a provider's silence would count as its failure.
        if any(character.isalnum() for character in text):
            async with self._pool.lend(interruptible=True) as service:
                await service.speak(text, speech.take)
        speech.end_piece()


class _Speech:
    """Audio and words of a run, as chunks of a length that suits everybody."""

    def __init__(self, give: Giver[SpeechChunk], rate_hz: int) -> None:
        self._give = give
        self._bytes_a_second = SAMPLE_BYTES * rate_hz
        self._begins_ms = 0
        self._spoken = 0
        self._words: list[WordStart] = []

    def take(self, pcm: bytes, words: tuple[tuple[str, int], ...]) -> None:
        """Words go with the audio after them. ``words``: times from the start of the piece."""
        self._words += [WordStart(word, self._begins_ms + start_ms) for word, start_ms in words]
        for at in range(0, len(pcm), self._bytes_a_second):
            self._give(SpeechChunk(pcm[at : at + self._bytes_a_second], tuple(self._words)))
            self._words.clear()
        self._spoken += len(pcm)

    def end_piece(self) -> None:
        """Words after all audio go alone."""
        if self._words:
            self._give(SpeechChunk(b"", tuple(self._words)))
            self._words.clear()
        self._begins_ms = 1000 * self._spoken // self._bytes_a_second
