"""From speech probabilities to "speech began" and "speech ended": hysteresis in level and in time. Pure."""

from __future__ import annotations

from typing import NamedTuple

EXIT_MARGIN = 0.15
"""Once in speech, a window counts as speech down to this much under the threshold: words fade, they don't stop."""


class VoiceBegan(NamedTuple):
    """``at_ms``: the first voiced sample."""

    at_ms: int


class VoiceEnded(NamedTuple):
    """``at_ms``: the last voiced sample."""

    at_ms: int


class Gate:
    """Speech begins after ``start_ms`` of voiced windows in a row, and ends ``stop_ms`` after the last voiced one."""

    def __init__(self, confidence: float, start_ms: int, stop_ms: int) -> None:
        self._confidence = confidence
        self._start_ms = start_ms
        self._stop_ms = stop_ms
        self.voiced = False
        self.began_ms = 0
        self.last_voiced_ms = 0
        self._rising_ms: int | None = None

    @property
    def rising(self) -> bool:
        """Voiced windows are coming, and it is not known yet whether they are speech."""
        return self._rising_ms is not None

    @property
    def deadline_ms(self) -> int | None:
        """When speech ends if nothing more is heard; None outside speech."""
        return self.last_voiced_ms + self._stop_ms if self.voiced else None

    def hear(self, probability: float, start_ms: int, end_ms: int) -> VoiceBegan | VoiceEnded | None:
        """Take the next window."""
        if self.voiced:
            if probability >= self._confidence - EXIT_MARGIN:
                self.last_voiced_ms = max(self.last_voiced_ms, end_ms)
                return None
            return self.quiet(end_ms)
        if probability < self._confidence:
            self._rising_ms = None
            return None
        if self._rising_ms is None:
            self._rising_ms = start_ms
        if end_ms - self._rising_ms < self._start_ms:
            return None
        self.voiced = True
        self.began_ms, self._rising_ms = self._rising_ms, None
        self.last_voiced_ms = end_ms
        return VoiceBegan(self.began_ms)

    def quiet(self, now_ms: int) -> VoiceEnded | None:
        """Nothing voiced up to ``now_ms``."""
        if not self.voiced or now_ms - self.last_voiced_ms < self._stop_ms:
            return None
        self.voiced = False
        return VoiceEnded(self.last_voiced_ms)

    def silence(self) -> None:
        """No audio comes at all: what was rising is over."""
        self._rising_ms = None
