"""The caller's frames in order, each once: live ones, and those that the edge replays. Pure."""

from __future__ import annotations

from schemas.audio import AudioFrame

PENDING_LIMIT = 3000
"""Frames that may wait for earlier ones: twice the edge's ring (30 s of 20 ms)."""


class Intake:
    """Sorts frames by sequence. ``expected`` is the sequence that is due next."""

    def __init__(self, expected: int = 0) -> None:
        self.expected = expected
        self._pending: dict[int, AudioFrame] = {}

    @property
    def waiting(self) -> bool:
        """Frames are here that come after ones which are not: a replay is needed."""
        return bool(self._pending)

    @property
    def earliest_waiting(self) -> int | None:
        """The first sequence that is here after a gap."""
        return min(self._pending, default=None)

    @property
    def overflowing(self) -> bool:
        """More frames wait than a replay can still bring predecessors for."""
        return len(self._pending) >= PENDING_LIMIT

    def push(self, message: AudioFrame) -> list[AudioFrame]:
        """Take a message of one or several frames; the single frames that are due now, in order."""
        if message.sequence == self.expected and message.frame_count == 1 and not self._pending:
            self.expected += 1
            return [message]
        for frame in split(message):
            if frame.sequence >= self.expected and not self.overflowing:
                self._pending.setdefault(frame.sequence, frame)
        return self._due()

    def skip_to(self, sequence: int) -> list[AudioFrame]:
        """Give up on what comes before ``sequence``; the frames that are due now."""
        if sequence > self.expected:
            self.expected = sequence
            self._pending = {key: frame for key, frame in self._pending.items() if key >= sequence}
        return self._due()

    def forget_waiting(self) -> None:
        """Drop the frames that wait."""
        self._pending.clear()

    def _due(self) -> list[AudioFrame]:
        due: list[AudioFrame] = []
        while (frame := self._pending.pop(self.expected, None)) is not None:
            due.append(frame)
            self.expected += 1
        return due


def split(message: AudioFrame) -> list[AudioFrame]:
    """The single frames of a message; those after the first follow it without a gap in media time."""
    if message.frame_count == 1:
        return [message]
    media_time = message.media_time
    frames: list[AudioFrame] = []
    for index, payload in enumerate(message.frames()):
        frames.append(
            message._replace(frame_count=1, sequence=message.sequence + index, media_time=media_time, payload=payload)
        )
        # G.711 has one byte a sample, and media time counts samples.
        media_time += len(payload)
    return frames
