"""One sentence: from the engine's audio to messages for the edge, with the events that tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bus.clock import wall_us
from bus.interface import Connection
from bus.metrics.engines import TTS_SECONDS
from schemas.audio import Codec
from schemas.tts import SpokenWord, TtsDone, TtsStarted
from services.resilience.attempts import Takeover
from services.text.shaped import as_written
from services.text.speakable import shape
from services.tts.apology import Apology
from services.tts.engine import Engine, Label, Run, WordStart
from services.tts.failover import FailoverRun
from services.tts.framing import SentenceFramer
from services.tts.ledger import Speak
from services.tts.phrasebook import RECORDED
from services.tts.words import spread_words, timed_words, words_ended

Record = Callable[[TtsStarted | TtsDone], None]


class Leg(NamedTuple):
    """Where the audio goes: the live subject of the call, and the codec that its caller takes."""

    connection: Connection
    subject: str
    codec: Codec
    frame_ms: int


class SentenceSpeaker:
    """Says one sentence: a single try with the engine, and what may follow where that fails."""

    def __init__(
        self,
        leg: Leg,
        engine: Engine,
        step: Speak,
        *,
        epoch: int,
        record: Record,
        room: Callable[[SentenceFramer], Awaitable[None]],
        shape_text: bool = True,
        taken_over: Callable[[Takeover], None] | None = None,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        """``room`` waits until more audio may be sent. ``shape_text``: the engine gets the words that are spoken.
        ``taken_over``: told where another engine goes on with it. ``keep``: takes its audio, where one engine has said
        it whole; None: nobody wants it."""
        self._leg = leg
        self._engine = engine
        self._step = step
        self._sentence = step.sentence
        text = step.sentence.text
        self._said = shape(text, step.sentence.language) if shape_text else as_written(text)
        self._epoch = epoch
        self._record = record
        self._room = room
        self._taken_over = taken_over
        self._takeovers = 0
        self._keep = keep
        self._pcm = bytearray()
        self._voices: set[str] = set()
        self._engine_name = engine.capabilities.name
        self._framer = SentenceFramer(
            leg.codec,
            engine.capabilities.sample_rate_hz,
            step.sentence.utterance_id,
            step.sentence.index,
            leg.frame_ms,
        )
        self._words: list[WordStart] = []
        self._first_at_us = 0
        self.ttfb_ms = 0.0
        self.queue_wait_ms: float | None = None
        """The sentence received until the engine is asked for it; None: not asked yet."""
        self._started = False

    @property
    def frames(self) -> int:
        """Frames sent so far."""
        return self._framer.frames

    async def speak(self, first_ms: float, next_ms: float) -> None:
        """Synthesise and send. ``first_ms``: deadline of the first audio; ``next_ms``: of each piece after another.

        Raises:
            TimeoutError: the engine gave nothing for that long.
            StageDownError: none of several engines is left.
            Exception: what the engine raised.
        """
        if self.queue_wait_ms is None:
            self.queue_wait_ms = self._since_received_ms()
        if self._said.text.strip():
            await self._synthesise(first_ms, next_ms)
        self._send(self._framer.finish())
        words, proportional = self._word_times()
        self._tell_done(words, proportional, self._ordered_text)
        if self._keep is not None and len(self._voices) == 1:
            self._keep(bytes(self._pcm))

    async def _synthesise(self, first_ms: float, next_ms: float) -> None:
        loop = asyncio.get_running_loop()
        asked, waited = loop.time(), 0.0
        deadline = asked + first_ms / 1000
        run = self._open()
        try:
            chunks = aiter(run)
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    TTS_SECONDS.observe(loop.time() - asked - waited, engine=self._engine_name)
                    break
                self._notice(run)
                self._words += chunk.words
                if self._keep is not None and chunk.pcm:
                    self._pcm += chunk.pcm
                    self._voices.add(self._engine_name)
                self._send(self._framer.feed(chunk.pcm))
                # The engine may be far ahead: everyone else on this loop has a turn between two chunks.
                await asyncio.sleep(0)
                full = loop.time()
                await self.wait_for_room()
                waited += loop.time() - full
                if self.frames:
                    deadline = loop.time() + next_ms / 1000
        except TimeoutError:
            if not isinstance(run, FailoverRun):
                raise
            run.cancel()
            raise run.down() from None
        finally:
            run.cancel()
            self._notice(run)

    def recite(self, pcm: bytes) -> None:
        """Say the sentence from a recording, at the engine's rate."""
        self._engine_name = RECORDED
        self._words.clear()
        self._send(self._framer.feed(pcm))
        self._send(self._framer.finish())
        words = spread_words(self._said, self._framer.leading_silence_ms or 0, self._framer.duration_ms)
        self._tell_done(words, True, self._ordered_text)

    def apologise(self, apology: Apology) -> None:
        """Say this in place of the sentence, or of its rest: the edge has the beginning of it already, perhaps."""
        offset_ms = self._framer.taken_ms
        before = words_ended(self._said, self._words, offset_ms)
        self._send(self._framer.feed(apology.pcm))
        self._send(self._framer.finish())
        after = apology.words_at(offset_ms, self._framer.duration_ms)
        text = " ".join(word.text for word in (*before, *after))
        self._tell_done((*before, *after), apology.proportional, text)

    def give_up(self) -> None:
        """Leave it at what was sent of it."""
        before = words_ended(self._said, self._words, self._framer.taken_ms)
        if self.frames:
            self._send(self._framer.finish())
        self._tell_done(before, not self._words, " ".join(word.text for word in before))

    async def wait_for_room(self) -> None:
        """Count what was sent, and wait while the edge has more than enough."""
        await self._room(self._framer)

    @property
    def _ordered_text(self) -> str | None:
        return self._sentence.text if self._step.ordered else None

    def _open(self) -> Run:
        label = Label(self._sentence.utterance_id, self._sentence.index)
        return self._engine.open(self._said.text, language=self._sentence.language, label=label)

    def _notice(self, run: Run) -> None:
        """Tell who took over, and remember who speaks, where several engines stand in for each other."""
        if isinstance(run, FailoverRun):
            self._engine_name = run.engine or self._engine_name
            for takeover in run.takeovers[self._takeovers :]:
                self._takeovers += 1
                if self._taken_over is not None:
                    self._taken_over(takeover)

    def _since_received_ms(self) -> float:
        return 1000 * (asyncio.get_running_loop().time() - self._step.received)

    def _send(self, messages: list[bytes]) -> None:
        if messages:
            self._leg.connection.publish_many([(self._leg.subject, message) for message in messages])
        if messages and not self._first_at_us:
            self._first_at_us = wall_us()
            self.ttfb_ms = self._since_received_ms()
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
                engine=self._engine_name,
                bus_hop_ms=round(self._step.bus_hop_ms, 3),
                queue_wait_ms=round(self.queue_wait_ms or 0.0, 3),
            )
        )

    def _tell_done(self, words: tuple[SpokenWord, ...], proportional: bool, text: str | None) -> None:
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
                words=words,
                proportional=proportional,
                text=text,
            )
        )

    def _word_times(self) -> tuple[tuple[SpokenWord, ...], bool]:
        """Words of the sentence, and whether their times are spread by length."""
        duration_ms = self._framer.duration_ms
        if words := timed_words(self._said, self._words, duration_ms):
            return words, False
        return spread_words(self._said, self._framer.leading_silence_ms or 0, duration_ms), True
