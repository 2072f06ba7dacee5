"""One engine that says a sentence, or the rest of one, among engines that stand in for each other."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from services.audio.g711 import PCM_SAMPLE_BYTES
from services.audio.level import first_voiced_sample
from services.audio.resample import Resampler
from services.racing import EmptyError, Reader, RubbishError, StalledError
from services.tts.engine import Engine, Label, SpeechChunk, WordStart
from services.tts.rest import Pace, speakable, too_long, too_short, words_said
from services.tts.words import spread_words


class Voice(NamedTuple):
    """An engine, what is known of its pace, and its name in the settings. ``speed``: of the settings."""

    engine: Engine
    pace: Pace
    name: str
    speed: float


class Manner(NamedTuple):
    """How a sentence is spoken: as ``Engine.open`` takes it, and the rate that its audio is wanted at."""

    language: str
    label: Label
    rate_hz: int


class Speaking:
    """A run of an engine over ``text``, its audio at the wanted rate, its words in the time of the whole sentence."""

    def __init__(self, voice: Voice, text: str, manner: Manner) -> None:
        """Raises what the engine raises where it does not even begin."""
        self.voice = voice
        self._text = text
        self._from_hz = voice.engine.capabilities.sample_rate_hz
        self._to_hz = manner.rate_hz
        self._resampler = Resampler(self._from_hz, self._to_hz)
        # Last: nothing may fail once it runs, for nobody would stop it.
        run = voice.engine.open(text, language=manner.language, label=manner.label)
        self.reader: Reader[SpeechChunk] = Reader(run, run.cancel, voice.name)
        self._held: deque[bytes] = deque()
        self._bytes = 0
        self._silent_samples = 0
        self._odd = b""
        self._audible = False
        self._error: Exception | None = None
        self._untrue = False
        self._offset_ms = 0
        self._starts: list[WordStart] = []
        self._told = 0

    @property
    def given_ms(self) -> int:
        """Audio that the engine has given so far."""
        return self._bytes // PCM_SAMPLE_BYTES * 1000 // self._from_hz

    @property
    def silence_ms(self) -> int:
        """Of it, before the first sample that can be heard."""
        return self._silent_samples * 1000 // self._from_hz

    @property
    def shared(self) -> bool:
        """Others have said the beginning of the sentence."""
        return self._offset_ms > 0

    async def first(self) -> None:
        """Wait for audio that can be heard. See :class:`services.racing.Runner`."""
        while not self._audible:
            pcm = await self._pull()
            if pcm is None:
                if speakable(self._text):
                    raise EmptyError("no audio")
                return
            self._held.append(pcm)
            self._audible = self._audible or not speakable(self._text)

    def begin(self, given_bytes: int) -> None:
        """It has won: its audio comes after so many bytes of the sentence."""
        self._offset_ms = given_bytes // PCM_SAMPLE_BYTES * 1000 // self._to_hz

    async def next(self, limit_ms: float | None) -> SpeechChunk | None:
        """The next audio; None: it is over, and :meth:`verdict` says how. ``limit_ms``: longest wait; None: any."""
        limit = asyncio.timeout(None if limit_ms is None or self._held else limit_ms / 1000)
        try:
            async with limit:
                pcm = self._held.popleft() if self._held else await self._pull()
        except Exception as error:
            self._error = StalledError(limit_ms or 0.0) if limit.expired() else error
            return None
        if pcm is None:
            return None
        return SpeechChunk(self._resampler.feed(pcm), self._take_words())

    def verdict(self) -> Exception | None:
        """Once it is over: why it is not all of the text; None: it is."""
        if self._error is None and self._odd:
            self._error = RubbishError("half a sample at the end")
        if self._error is None and too_short(self._text, self.given_ms, self.voice.speed):
            self._error = RubbishError("audio too short for the text")
            self._untrue = True
        return self._error

    def words_said(self) -> int:
        """How many words of the text were surely said. Of audio too short for them the times are untrue as well."""
        if self._untrue:
            return 0
        return words_said(self._text, self._starts, self.given_ms, self.silence_ms, self.voice.pace)

    def finish(self, *, spread: bool) -> SpeechChunk:
        """The last of its audio. ``spread``: have words without times spread over it."""
        words = self._take_words(to_end=self.verdict() is None)
        if spread and not self._starts:
            said = self._text.split() if self.verdict() is None else self._text.split()[: self.words_said()]
            times = spread_words(" ".join(said), self.silence_ms, self.given_ms)
            words = tuple(WordStart(word.text, word.start_ms + self._offset_ms) for word in times)
        return SpeechChunk(self._resampler.finish(), words)

    def withheld(self) -> tuple[WordStart, ...]:
        """The word in which it broke off, where it tells times: told only where nobody says it again."""
        return self._told_up_to(self._begun())

    def close(self) -> None:
        """Stop it, now."""
        self.reader.close()

    async def _pull(self) -> bytes | None:
        chunk = await self.reader.next()
        if chunk is None:
            return None
        if not isinstance(chunk, SpeechChunk) or not isinstance(chunk.pcm, bytes | bytearray | memoryview):
            raise RubbishError(f"{type(chunk).__name__} in place of audio")
        pcm = bytes(chunk.pcm)
        self._starts += chunk.words
        self._bytes += len(pcm)
        if not self._audible:
            self._listen(pcm)
        else:
            self._odd = b"x" * (self._bytes % PCM_SAMPLE_BYTES)
        if too_long(self._text, self.given_ms, self.voice.speed):
            raise RubbishError("audio too long for the text")
        return pcm

    def _listen(self, pcm: bytes) -> None:
        """Look for the first sample that can be heard."""
        pcm = self._odd + pcm
        whole = len(pcm) - len(pcm) % PCM_SAMPLE_BYTES
        self._odd = pcm[whole:]
        first = first_voiced_sample(pcm[:whole])
        self._audible = first is not None
        self._silent_samples += whole // PCM_SAMPLE_BYTES if first is None else first

    def _begun(self) -> int:
        """How many of the words told so far have begun in the audio that was given."""
        return next(
            (number for number, start in enumerate(self._starts) if start.start_ms >= self.given_ms), len(self._starts)
        )

    def _take_words(self, *, to_end: bool = False) -> tuple[WordStart, ...]:
        """Words that are over, or all of them: what comes of the others is known when the next one begins."""
        return self._told_up_to(len(self._starts) if to_end else self._begun() - 1)

    def _told_up_to(self, count: int) -> tuple[WordStart, ...]:
        words = self._starts[self._told : max(self._told, count)]
        self._told += len(words)
        return tuple(WordStart(word.text, word.start_ms + self._offset_ms) for word in words)
