"""Both sides of a call as one stereo recording with true timing, and what can be measured on it. Pure."""

from __future__ import annotations

from services.audio import level
from services.audio.wav import build_wav, interleave

SAMPLE_RATE_HZ = 8000
SAMPLE_BYTES = 2
WINDOW_TICKS = 80
"""10 ms: how finely silence is looked for."""
GAP_MS = 200
"""Silence that separates what is still being said from an answer."""


class Track:
    """One side: 16-bit PCM at 8 kHz, placed by its media time."""

    def __init__(self) -> None:
        self.pcm = bytearray()

    def put(self, ticks: int, pcm: bytes) -> None:
        """Audio that begins ``ticks`` after the answer; a hole before it is silence, an overlap replaces."""
        start = ticks * SAMPLE_BYTES
        if len(self.pcm) < start:
            self.pcm.extend(bytes(start - len(self.pcm)))
        self.pcm[start : start + len(pcm)] = pcm

    def shift(self, ticks: int) -> None:
        """Move everything to a later place, or to an earlier one (below 0; what would lie before the answer is cut)."""
        if ticks >= 0:
            self.pcm[:0] = bytes(ticks * SAMPLE_BYTES)
        else:
            del self.pcm[: -ticks * SAMPLE_BYTES]

    @property
    def ticks(self) -> int:
        """Length."""
        return len(self.pcm) // SAMPLE_BYTES

    def last_voiced(self, start: int, end: int) -> int | None:
        """Tick of the last sample between two that can be heard."""
        found = level.last_voiced_sample(self._slice(start, end))
        return None if found is None else start + found

    def first_voiced(self, start: int, end: int | None = None) -> int | None:
        """Tick of the first sample from ``start`` on that can be heard."""
        found = level.first_voiced_sample(self._slice(start, self.ticks if end is None else end))
        return None if found is None else start + found

    def answer_after(self, tick: int, end: int | None = None) -> int | None:
        """First sound after ``tick`` that follows silence: what is still being said at ``tick`` is no answer to it."""
        limit = self.ticks if end is None else min(end, self.ticks)
        gap = GAP_MS * SAMPLE_RATE_HZ // 1000
        start = max(0, tick - gap)
        silent = 0 if start else gap
        for window in range(start, limit, WINDOW_TICKS):
            first = self.first_voiced(window, min(window + WINDOW_TICKS, limit))
            if first is None:
                silent += WINDOW_TICKS
            elif silent >= gap and first >= tick:
                return first
            else:
                silent = 0
        return None

    def _slice(self, start: int, end: int) -> bytes:
        return bytes(self.pcm[start * SAMPLE_BYTES : max(start, end) * SAMPLE_BYTES])


class CallRecording:
    """``said`` is this side (left), ``heard`` the other (right); tick 0 is the answer."""

    def __init__(self) -> None:
        self.said = Track()
        self.heard = Track()

    def wav(self) -> bytes:
        """A stereo WAV file."""
        return build_wav(interleave(bytes(self.said.pcm), bytes(self.heard.pcm)), SAMPLE_RATE_HZ, channels=2)


class SpeechDetector:
    """Tells by energy whether the other side speaks. Times are ticks since the answer."""

    RMS_THRESHOLD = 200
    """Of 32,767; -44 dBFS."""
    MIN_SPEECH_MS = 60
    """Less is a click."""

    def __init__(self) -> None:
        self._voiced_until = 0
        self._voiced_ms = 0

    def feed(self, ticks: int, pcm: bytes) -> None:
        """A frame that was received."""
        if level.rms(pcm) >= self.RMS_THRESHOLD:
            samples = len(pcm) // SAMPLE_BYTES
            self._voiced_until = max(self._voiced_until, ticks + samples)
            self._voiced_ms += samples * 1000 // SAMPLE_RATE_HZ

    def forget(self) -> None:
        """What was heard so far does not count any more."""
        self._voiced_ms = 0

    @property
    def has_spoken(self) -> bool:
        """Whether speech was heard since the last ``forget``."""
        return self._voiced_ms >= self.MIN_SPEECH_MS

    def silent_ms(self, now_ticks: int) -> int:
        """How long nothing has been heard."""
        return (now_ticks - self._voiced_until) * 1000 // SAMPLE_RATE_HZ
