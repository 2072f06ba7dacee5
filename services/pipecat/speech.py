"""A text-to-speech service that speaks one text after another. Imports pipecat."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ControlFrame,
    ErrorFrame,
    Frame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)

from services.audio.resample import Resampler
from services.pipecat.catalogue import Recipe
from services.pipecat.errors import ServiceError
from services.pipecat.harness import ConnectionLostFrame, Harness, SteppedClock

NS_PER_MS = 10**6
CONNECTED_ANEW_S = 1.0
"""Silence that is borne of a service that connected anew: what it was to say may have gone with the old connection."""

Words = tuple[tuple[str, int], ...]
"""Words and where they begin, milliseconds from the start of the text's audio."""
Give = Callable[[bytes, Words], None]


@dataclass
class _Mark(ControlFrame):
    """Goes in behind a text, and comes out when the service has nothing more to say of it."""


class SpeakingHarness(Harness):
    """Speaks; one text at a time."""

    def __init__(self, recipe: Recipe, rate_hz: int) -> None:
        self._steps = SteppedClock()
        super().__init__(recipe, rate_hz, clock=self._steps)
        self._bygone: deque[str] = deque(maxlen=16)

    async def speak(self, text: str, give: Give) -> None:
        """Have the text spoken; ``give`` takes mono 16-bit PCM at the harness's rate, and words as they become known.

        Raises:
            ServiceError: the service failed, or gave no audio.
        """
        frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.take = frames.put_nowait
        speaking = _Speaking(self, give, self._steps.step())
        mark = _Mark()
        await self.send(TTSSpeakFrame(text, append_to_context=False), mark)
        try:
            over = False
            while not over:
                frame = await self._next(frames, patient=not speaking.connected_anew)
                if getattr(frame, "context_id", None) in self._bygone:
                    continue
                if isinstance(frame, TTSAudioRawFrame) and not speaking.audible:
                    await self.send_back(BotStartedSpeakingFrame())
                over = speaking.take(frame) or frame is mark
            if speaking.audible and not speaking.stopped:
                raise ServiceError(f"{self.recipe.name} fell silent in the middle")
            speaking.finish()
            await self.send_back(BotStoppedSpeakingFrame())
        finally:
            self._bygone.extend(speaking.contexts)

    async def _next(self, frames: asyncio.Queue[Frame], *, patient: bool) -> Frame:
        try:
            async with asyncio.timeout(None if patient else CONNECTED_ANEW_S):
                return await frames.get()
        except TimeoutError:
            raise ServiceError(f"{self.recipe.name} lost its connection") from None


class _Speaking:
    """What became of one text so far."""

    def __init__(self, harness: SpeakingHarness, give: Give, began_ns: int) -> None:
        self.audible = self.stopped = self.connected_anew = False
        self.contexts: set[str] = set()
        self._harness = harness
        self._give = give
        self._began_ns = began_ns
        self._resampler: Resampler | None = None

    def take(self, frame: Any) -> bool:
        """Whether that was the end. A service may say that it stopped before it says why it never began.

        Raises:
            ServiceError: the service failed. One that has not begun may connect anew, if audio follows.
        """
        if isinstance(frame, ConnectionLostFrame) and not self.audible:
            self.connected_anew = True
        elif isinstance(frame, ErrorFrame):
            raise self._harness.error(frame)
        if context := getattr(frame, "context_id", None):
            self.contexts.add(context)
        if isinstance(frame, TTSAudioRawFrame):
            self.audible = True
            if pcm := self._at_rate(frame):
                self._give(pcm, ())
        elif isinstance(frame, TTSTextFrame):
            self._take_word(frame)
        self.stopped = self.stopped or (isinstance(frame, TTSStoppedFrame) and self.audible)
        return self.stopped

    def finish(self) -> None:
        """The rest of the audio."""
        if self._resampler is not None and (rest := self._resampler.finish()):
            self._give(rest, ())

    def _take_word(self, frame: Any) -> None:
        """Words without a time of their own come with that of the last one that had one, or all in one."""
        if frame.pts is not None and frame.pts >= self._began_ns and len(frame.text.split()) == 1:
            self._give(b"", ((frame.text.strip(), (frame.pts - self._began_ns) // NS_PER_MS),))

    def _at_rate(self, frame: Any) -> bytes:
        """A service whose provider has a rate of its own, told so in its arguments, keeps that."""
        if self._resampler is None:
            self._resampler = Resampler(frame.sample_rate, self._harness.rate_hz)
        return self._resampler.feed(frame.audio)
