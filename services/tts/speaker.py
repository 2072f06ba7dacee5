"""One sentence: from the engine's audio to messages for the edge, with the events that tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bus.clock import wall_us
from bus.interface import Connection
from schemas.audio import Codec
from schemas.llm import LlmSentence
from schemas.tts import SpokenWord, TtsDone, TtsStarted
from services.tts.engine import Engine, Label, Run, WordStart
from services.tts.framing import SentenceFramer
from services.tts.words import spoken_words, spread_words

Record = Callable[[TtsStarted | TtsDone], None]


class Leg(NamedTuple):
    """Where the audio goes: the live subject of the call, and the codec that its caller takes."""

    connection: Connection
    subject: str
    codec: Codec
    frame_ms: int


class SentenceSpeaker:
    """Says one sentence."""

    def __init__(
        self,
        leg: Leg,
        engine: Engine,
        sentence: LlmSentence,
        *,
        received: float,
        epoch: int,
        record: Record,
        room: Callable[[SentenceFramer], Awaitable[None]],
    ) -> None:
        """``received``: monotonic seconds when the sentence arrived; ``room`` waits until more audio may be sent."""
        self._leg = leg
        self._engine = engine
        self._sentence = sentence
        self._received = received
        self._epoch = epoch
        self._record = record
        self._room = room
        self._framer = SentenceFramer(
            leg.codec, engine.capabilities.sample_rate_hz, sentence.utterance_id, sentence.index, leg.frame_ms
        )
        self._words: list[WordStart] = []
        self._first_at_us = 0
        self.ttfb_ms = 0.0
        self._started = False

    @property
    def frames(self) -> int:
        """Frames sent so far."""
        return self._framer.frames

    async def speak(self, deadline_ms: int) -> None:
        """Synthesise and send. ``deadline_ms``: for the first audio, and for each piece after the one before.

        Raises:
            TimeoutError: the engine gave nothing for that long.
            Exception: what the engine raised.
        """
        run = self._open()
        chunks = aiter(run)
        try:
            while True:
                try:
                    async with asyncio.timeout(deadline_ms / 1000):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    break
                self._words += chunk.words
                self._send(self._framer.feed(chunk.pcm))
                # The engine may be far ahead: everyone else on this loop has a turn between two chunks.
                await asyncio.sleep(0)
                await self._room(self._framer)
        finally:
            run.cancel()
        self._send(self._framer.finish())
        self._tell_done()

    def _open(self) -> Run:
        label = Label(self._sentence.utterance_id, self._sentence.index)
        return self._engine.open(self._sentence.text, language=self._sentence.language, label=label)

    def _send(self, messages: list[bytes]) -> None:
        if messages:
            self._leg.connection.publish_many([(self._leg.subject, message) for message in messages])
        if messages and not self._first_at_us:
            self._first_at_us = wall_us()
            self.ttfb_ms = 1000 * (asyncio.get_running_loop().time() - self._received)
        if not self._started and self._first_at_us and self._framer.leading_silence_ms is not None:
            self._started = True
            self._tell_started(self._framer.leading_silence_ms)

    def _tell_started(self, leading_silence_ms: int) -> None:
        sentence = self._sentence
        self._record(
            TtsStarted(
                call_id=sentence.call_id,
                tenant=sentence.tenant,
                at_us=self._first_at_us,
                epoch=self._epoch,
                turn=sentence.turn,
                utterance_id=sentence.utterance_id,
                index=sentence.index,
                ttfb_ms=round(self.ttfb_ms, 3),
                leading_silence_ms=leading_silence_ms,
                engine=self._engine.capabilities.name,
            )
        )

    def _tell_done(self) -> None:
        sentence = self._sentence
        self._record(
            TtsDone(
                call_id=sentence.call_id,
                tenant=sentence.tenant,
                at_us=wall_us(),
                epoch=self._epoch,
                turn=sentence.turn,
                utterance_id=sentence.utterance_id,
                index=sentence.index,
                frames=self._framer.frames,
                duration_ms=self._framer.duration_ms,
                words=self._word_times(),
                proportional=not self._words,
            )
        )

    def _word_times(self) -> tuple[SpokenWord, ...]:
        duration_ms = self._framer.duration_ms
        if self._words:
            return spoken_words(self._words, duration_ms)
        return spread_words(self._sentence.text, self._framer.leading_silence_ms or 0, duration_ms)
