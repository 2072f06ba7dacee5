"""From frames to what the turn machine and the engines need: windows with a speech probability, and PCM by time.

Frames come in order (``intake.py``). Short gaps in media time (lost packets) are filled with silence, so that times
stay true; a longer one (the sender was silent and sent nothing) is a jump.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from schemas.audio import AudioFrame
from services.asr.detector import VoiceDetector
from services.audio import g711
from services.audio.level import dbfs, first_voiced_sample

TICKS_PER_MS = 8
BYTES_PER_TICK = 2
FILL_LIMIT_MS = 200
"""Longest gap that is filled with silence."""
SILENCE_DBFS = -96.0
"""The level of digital silence here: 16 bits reach no further down."""
AUDIBLE = 184
"""Sample value (of 32,767) of -45 dBFS, over which the gate counts sound as heard."""
HISTORY_MS = 8000
"""Audio kept for runs that open late: onset, pre-roll, and the wait for the final before."""


class Piece(NamedTuple):
    """Contiguous PCM (8,000 Hz, 16 bit); ``media_ms`` of its first sample; ``sequence`` of the frame it came with."""

    media_ms: float
    sequence: int
    pcm: bytes

    @property
    def end_ms(self) -> float:
        return self.media_ms + len(self.pcm) / (TICKS_PER_MS * BYTES_PER_TICK)


class Window(NamedTuple):
    """A window that the detector has judged.

    ``level_dbfs``: its loudness, :data:`SILENCE_DBFS` at the least. ``sound_ms``: its first sample that can be heard;
    its start where none can.
    """

    probability: float
    start_ms: int
    end_ms: int
    level_dbfs: float = SILENCE_DBFS
    sound_ms: int = 0


class Hearing:
    """One call's audio. ``end_ms``: media time up to which it was heard; ``sequence``: the last frame (-1: none)."""

    def __init__(self, detector: VoiceDetector) -> None:
        self.sequence = -1
        self._detector = detector
        self._window_bytes = detector.window_samples * BYTES_PER_TICK
        self._buffer = bytearray()
        self._tick: int | None = None
        self._history: deque[Piece] = deque()

    @property
    def end_ms(self) -> int:
        return (self._tick or 0) // TICKS_PER_MS

    def push(self, frame: AudioFrame, *, muted: bool = False) -> tuple[list[Piece], list[Window]]:
        """Take the next single frame: its audio as pieces, and the windows that it completes.

        ``muted``: count the frame's time, hear silence.
        """
        pcm = bytes(len(frame.payload) * BYTES_PER_TICK) if muted else g711.decode(frame.payload, frame.codec)
        self.sequence = frame.sequence
        pieces = self._fill(frame)
        assert self._tick is not None
        pieces.append(Piece(self._tick / TICKS_PER_MS, frame.sequence, pcm))
        self._tick += len(frame.payload)
        self._history.extend(pieces)
        while self._history and self._history[0].end_ms < self.end_ms - HISTORY_MS:
            self._history.popleft()
        for piece in pieces:
            self._buffer += piece.pcm
        return pieces, self._windows()

    def take_history(self, since_ms: int) -> list[Piece]:
        """The audio heard since then (whole frames) that no run has had, up to now; none of it is given again."""
        pieces = [piece for piece in self._history if piece.end_ms > since_ms]
        self._history.clear()
        return pieces

    def forget_history(self) -> None:
        """What was heard so far belongs to a run that is open, or to one that is finished."""
        self._history.clear()

    def _fill(self, frame: AudioFrame) -> list[Piece]:
        if self._tick is None:
            self._tick = frame.media_time
            return []
        gap = frame.media_time - self._tick
        if gap <= 0:
            # A clock that went back (a sender's restart) can't take back what was heard: the frame follows on.
            return []
        if gap > FILL_LIMIT_MS * TICKS_PER_MS:
            self._buffer.clear()
            self._detector.reset()
            self._tick = frame.media_time
            return []
        piece = Piece(self._tick / TICKS_PER_MS, frame.sequence, bytes(gap * BYTES_PER_TICK))
        self._tick = frame.media_time
        return [piece]

    def _windows(self) -> list[Window]:
        windows: list[Window] = []
        size = self._window_bytes
        assert self._tick is not None
        while len(self._buffer) >= size:
            start = self._tick - len(self._buffer) // BYTES_PER_TICK
            pcm = bytes(self._buffer[:size])
            probability = self._detector.probability(pcm)
            del self._buffer[:size]
            end = start + self._detector.window_samples
            level_dbfs = max(SILENCE_DBFS, dbfs(pcm))
            sound = start + (first_voiced_sample(pcm, AUDIBLE) or 0)
            times = (start // TICKS_PER_MS, end // TICKS_PER_MS)
            windows.append(Window(probability, *times, level_dbfs, sound // TICKS_PER_MS))
        return windows
