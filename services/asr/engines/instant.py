"""Test engines that answer at once and hear nothing: for benches and tests, never for callers.

``instant`` says what it was given: ``frames:<count>:<crc>``, the number of 20 ms frames and the CRC-32 of their PCM.
So a test can prove that every frame of an utterance was heard once and in order.
``services.asr.engines.instant:FixedText`` says the same sentence each time.
"""

from __future__ import annotations

import zlib

from config.settings import AsrSection
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, Transcript

FRAME_BYTES = 320
"""PCM of a 20 ms frame: 160 samples of 16 bits."""
FIXED_TEXT = "where is my credit card"
CAPABILITIES = Capabilities(streaming=True, partials=False, blocking=False, languages=())


class InstantRun:
    """Counts what it is given."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._bytes = 0
        self._crc = 0

    def accept(self, pcm: bytes) -> str | None:
        self._bytes += len(pcm)
        self._crc = zlib.crc32(pcm, self._crc)
        return None

    def finish(self) -> Transcript:
        return Transcript(self._text or f"frames:{self._bytes // FRAME_BYTES}:{self._crc:08x}")

    def cancel(self) -> None:
        """Nothing to give back."""


class FrameCounter:
    """The engine ``instant``."""

    name = "instant"
    capabilities = CAPABILITIES

    def __init__(self, settings: AsrSection, text: str = "") -> None:
        self._text = text

    def warm(self) -> None:
        """Nothing to load."""

    def open(self, listen_for: ListenFor) -> InstantRun:
        return InstantRun(self._text)


class FixedText(FrameCounter):
    """Says ``text`` for every stretch of speech."""

    name = "instant-fixed"

    def __init__(self, settings: AsrSection, text: str = FIXED_TEXT) -> None:
        super().__init__(settings, text)


def create(settings: AsrSection) -> FrameCounter:
    """The engine for ``[asr] engine = instant``."""
    return FrameCounter(settings)
