"""Frames gathered to chunks of contiguous, equal frames, for the recording and for replays."""

from __future__ import annotations

from typing import NamedTuple

BYTES_PER_MS = 8


class Chunk(NamedTuple):
    """Frames that follow each other without a hole.

    Attributes:
        first_sequence, first_media_time: of the first frame; ticks.
        frame_count: equal frames in ``payload``.
        codec: payload type number.
        utterance: 0 for the caller's side.
        flags: of the first frame, as given to ``add``; later frames of a chunk have none.
    """

    first_sequence: int
    first_media_time: int
    frame_count: int
    payload: bytes
    codec: int
    utterance: int
    flags: int


class ChunkBuilder:
    """Collects frames up to ``chunk_ms``; whatever cannot share a chunk with what is collected closes it."""

    __slots__ = (
        "_codec",
        "_first_media_time",
        "_first_sequence",
        "_flags",
        "_limit_bytes",
        "_next_media_time",
        "_next_sequence",
        "_parts",
        "_size",
        "_utterance",
    )

    def __init__(self, chunk_ms: int = 200) -> None:
        """``chunk_ms``: most audio in one chunk; a single longer frame makes a chunk of its own."""
        self._limit_bytes = chunk_ms * BYTES_PER_MS
        self._parts: list[bytes] = []
        self._size = 0  # of one frame
        self._codec = self._utterance = self._flags = 0
        self._first_sequence = self._next_sequence = 0
        self._first_media_time = self._next_media_time = 0

    def add(
        self, sequence: int, media_time: int, payload: bytes, codec: int, *, utterance: int = 0, flags: int = 0
    ) -> Chunk | None:
        """Take one frame; returns the chunk that this frame completed or that it could not join.

        A new chunk begins at a gap of ``sequence`` or ``media_time``, another frame size, codec or utterance, and at
        a frame with ``flags``.
        """
        parts = self._parts
        done = None
        size = len(payload)
        if parts and (
            media_time != self._next_media_time
            or sequence != self._next_sequence
            or flags
            or size != self._size
            or codec != self._codec
            or utterance != self._utterance
        ):
            done = self.flush()
            parts = self._parts
        if not parts:
            self._first_sequence, self._first_media_time = sequence, media_time
            self._size, self._codec, self._utterance, self._flags = size, codec, utterance, flags
        parts.append(payload)
        self._next_sequence = sequence + 1
        self._next_media_time = media_time + size
        if done is None and (len(parts) + 1) * size > self._limit_bytes:
            return self.flush()
        return done

    def flush(self) -> Chunk | None:
        """What is collected, complete or not; None where there is nothing."""
        parts = self._parts
        if not parts:
            return None
        self._parts = []
        return Chunk(
            self._first_sequence,
            self._first_media_time,
            len(parts),
            b"".join(parts),
            self._codec,
            self._utterance,
            self._flags,
        )
