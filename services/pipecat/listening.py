"""A speech-to-text service that hears one stretch of speech after another. Imports pipecat.

How a service tells that its transcript is complete depends on its kind:

* one that transcribes a stretch at once (pipecat's ``SegmentedSTTService``) is done when it has done so;
* one that streams and confirms (it calls ``request_finalize``, and ``confirm_finalize`` when the provider has answered)
  is done with the confirmation;
* any other one is done when it has been quiet for as long as its transcripts take at most: pipecat knows that time for
  each provider. Whether more would have come can't be known, so such a service never hears another caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import (
    ErrorFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.services.stt_service import SegmentedSTTService

from services.pipecat.catalogue import Recipe
from services.pipecat.errors import ServiceError
from services.pipecat.harness import Harness

STOP_S = 0.2
"""Silence after which the line's detector says that speech has ended: [turn] vad_stop_ms."""
UNKNOWN_LATENCY_S = 1.0
CONFIRMED_S = 0.03
"""The transcript that a confirmation is about follows it within this."""
TICK_S = 0.1
SAMPLE_BYTES = 2

Transcribe = Callable[[bytes], AsyncIterator[Any]]


@dataclass
class Habits:
    """What is known of a service from all of its instances. ``confirms``: it asks its provider for a confirmation."""

    confirms: bool = False


class ListeningHarness(Harness):
    """Hears; one stretch of speech at a time."""

    def __init__(self, recipe: Recipe, rate_hz: int, habits: Habits) -> None:
        super().__init__(recipe, rate_hz)
        self._habits = habits
        self.segmented = issubclass(recipe.service, SegmentedSTTService)
        self._news = asyncio.Event()
        self._forget()

    @property
    def text(self) -> str:
        """What was understood so far."""
        return " ".join(each for each in (*self._finals, self._interim) if each)

    @property
    def complete(self) -> bool:
        """The service said itself that nothing more comes: it can hear somebody else now."""
        return self._transcribed or self._finalized or self._confirmed_at is not None

    async def make_service(self) -> Any:
        """Watched where it says that it is done; it may not push a frame then."""
        service = await super().make_service()
        if self.segmented:
            service.run_stt = self._watch_transcribing(service.run_stt)
        else:
            service.request_finalize = self._before(service.request_finalize, self._note_request)
            service.confirm_finalize = self._before(service.confirm_finalize, self._note_confirmation)
        return service

    async def begin(self) -> None:
        """Somebody speaks."""
        self._forget()
        self.take = self._take
        await self.send(VADUserStartedSpeakingFrame())

    async def hear(self, pcm: bytes) -> None:
        """More of it. Raises ``ServiceError`` where the service has failed."""
        if self._error is not None:
            raise self._error
        await self.send(InputAudioRawFrame(audio=pcm, sample_rate=self.rate_hz, num_channels=1))

    async def end(self, within_s: float) -> str:
        """No more of it: the transcript.

        Raises:
            ServiceError: the service failed, or gave none in time.
        """
        loop = asyncio.get_running_loop()
        self._stopped_at = loop.time()
        await self.send(VADUserStoppedSpeakingFrame(stop_secs=STOP_S))
        while not self._settled():
            left_s = self._stopped_at + within_s - loop.time()
            if left_s <= 0 and self.text:
                return self.text
            if left_s <= 0:
                raise ServiceError(f"{self.recipe.name} gave no transcript within {within_s:.1f} s")
            await self._wait(max(0.0, min(TICK_S, left_s, self._settles_in_s())))
        await self.send(UserStoppedSpeakingFrame())
        return self.text

    async def interrupt(self) -> bool:
        """One that transcribes a stretch at once can forget it before its end; what others have sent stays sent."""
        audio = getattr(self.service, "_audio_buffer", None)
        if not self.segmented or self._stopped_at > 0 or not isinstance(audio, bytearray):
            return False
        stopped = await super().interrupt()
        # The interruption came behind all audio.
        self.service._audio_buffer.clear()
        return stopped

    async def _wait(self, seconds: float) -> None:
        """For news. The line is not dead meanwhile: a provider that looks for silence itself must hear it."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            if not self.segmented and not self._requested:
                await self.hear(bytes(round(self.rate_hz * seconds) * SAMPLE_BYTES))
        self._news.clear()

    def _settled(self) -> bool:
        if self._error is not None:
            raise self._error
        asked_s = asyncio.get_running_loop().time() - self._stopped_at
        if self._habits.confirms and not self._requested and asked_s > TICK_S:
            # A service without a connection drops what it hears; nobody can be asked for a confirmation then.
            raise ServiceError(f"{self.recipe.name} has no connection any more")
        return self._transcribed or self._finalized or self._settles_in_s() <= 0

    def _settles_in_s(self) -> float:
        """Time until the transcript counts as complete, if nothing more comes; for ever: only the service can say."""
        now = asyncio.get_running_loop().time()
        if self._confirmed_at is not None:
            return self._confirmed_at + CONFIRMED_S - now
        if self.segmented or self._requested:
            return float("inf")
        latency_s = getattr(self.metadata, "ttfs_p99_latency", None) or UNKNOWN_LATENCY_S
        # Words that are not final yet will be, as a rule.
        patience = 2 if self._interim or not self._finals else 1
        return max(self._stopped_at, self._heard_at) + patience * latency_s - now

    def _forget(self) -> None:
        self._finals: list[str] = []
        self._interim = ""
        self._error: ServiceError | None = None
        self._transcribed = self._finalized = self._requested = False
        self._confirmed_at: float | None = None
        self._stopped_at = self._heard_at = 0.0
        self._news.clear()

    def _take(self, frame: Any) -> None:
        before = self.text
        if isinstance(frame, ErrorFrame):
            self._error = self.error(frame)
        elif isinstance(frame, InterimTranscriptionFrame):
            self._interim = frame.text.strip()
        elif isinstance(frame, TranscriptionFrame):
            self._finals.append(frame.text.strip())
            self._interim = ""
            self._finalized = self._finalized or (frame.finalized and self._stopped_at > 0 and not self.segmented)
        if self.text != before:
            self._heard_at = asyncio.get_running_loop().time()
        self._news.set()

    def _note_request(self) -> None:
        self._requested = self._stopped_at > 0

    def _note_confirmation(self) -> None:
        if self._requested:
            self._habits.confirms = True
            self._confirmed_at = asyncio.get_running_loop().time()
            self._news.set()

    def _watch_transcribing(self, run_stt: Transcribe) -> Transcribe:
        async def watched(audio: bytes) -> AsyncIterator[Any]:
            async for frame in run_stt(audio):
                yield frame
            self._transcribed = self._stopped_at > 0
            self._news.set()

        return watched

    @staticmethod
    def _before(method: Callable[[], None], note: Callable[[], None]) -> Callable[[], None]:
        def noted() -> None:
            note()
            method()

        return noted
