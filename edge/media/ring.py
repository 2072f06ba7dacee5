"""The last seconds of a caller's frames, kept for a stage that takes the call over and asks for them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from edge.media.recording import BYTES_PER_MS, Chunk, ChunkBuilder


class RingFrame(NamedTuple):
    """One kept frame; ``media_time`` in ticks."""

    sequence: int
    media_time: int
    payload: bytes
    codec: int
    flags: int


class FrameRing:
    """Frames by sequence number, contiguous, as many as ``limit_ms`` of audio.

    Only bytes and integers are kept: hundreds of calls hold hundreds of thousands of frames, which as objects of
    their own would make every full garbage collection longer than a packet's time.

    Attributes:
        first_sequence: the oldest frame that is still here.
        next_sequence: what the next frame will get; equals ``first_sequence`` while the ring is empty.
    """

    __slots__ = ("_limit_bytes", "_marks", "_payloads", "_size", "first_sequence", "next_sequence")

    def __init__(self, limit_ms: int = 30_000) -> None:
        self._limit_bytes = limit_ms * BYTES_PER_MS
        self._payloads: deque[bytes] = deque()
        self._marks: deque[int] = deque()  # media_time << 16 | codec << 8 | flags
        self._size = 0
        self.first_sequence = 0
        self.next_sequence = 0

    def append(self, media_time: int, payload: bytes, codec: int, flags: int = 0) -> int:
        """Keep one frame, forget the oldest ones over the limit; returns the frame's sequence number.

        ``codec`` and ``flags`` are 0 to 255; ``media_time`` is not negative.
        """
        self._payloads.append(payload)
        self._marks.append(media_time << 16 | codec << 8 | flags)
        self._size += len(payload)
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        while self._size > self._limit_bytes and self._payloads:
            self._size -= len(self._payloads.popleft())
            self._marks.popleft()
            self.first_sequence += 1
        return sequence

    def read(self, from_sequence: int) -> list[RingFrame]:
        """The kept frames from ``from_sequence`` on; from the oldest one where that is gone."""
        start = max(0, from_sequence - self.first_sequence)
        frames = []
        for index, (payload, mark) in enumerate(zip(self._payloads, self._marks, strict=True)):
            if index >= start:
                sequence = self.first_sequence + index
                frames.append(RingFrame(sequence, mark >> 16, payload, mark >> 8 & 0xFF, mark & 0xFF))
        return frames

    def chunks(self, from_sequence: int, chunk_ms: int = 200) -> list[Chunk]:
        """The same frames gathered as the recording gathers them."""
        builder = ChunkBuilder(chunk_ms)
        chunks = []
        for sequence, media_time, payload, codec, flags in self.read(from_sequence):
            chunk = builder.add(sequence, media_time, payload, codec, flags=flags)
            if chunk is not None:
                chunks.append(chunk)
        last = builder.flush()
        return [*chunks, last] if last is not None else chunks
