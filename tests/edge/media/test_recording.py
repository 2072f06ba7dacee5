"""Chunks for the recording, and the ring that a successor reads."""

from __future__ import annotations

import pytest

from edge.media.recording import Chunk, ChunkBuilder
from edge.media.ring import FrameRing, RingFrame

pytestmark = pytest.mark.unit


def payload(number: int, size: int = 160) -> bytes:
    return bytes((number,)) * size


def test_ten_frames_make_a_chunk() -> None:
    builder = ChunkBuilder()
    done = [builder.add(n, n * 160, payload(n), 0) for n in range(21)]
    assert [index for index, chunk in enumerate(done) if chunk] == [9, 19]
    assert done[9] == Chunk(0, 0, 10, b"".join(payload(n) for n in range(10)), 0, 0, 0)
    assert builder.flush() == Chunk(20, 3200, 1, payload(20), 0, 0, 0)
    assert builder.flush() is None


def test_frames_of_60_ms_stay_within_200() -> None:
    builder = ChunkBuilder()
    done = [builder.add(n, n * 480, payload(n, 480), 0) for n in range(4)]
    assert [chunk and chunk.frame_count for chunk in done] == [None, None, 3, None]


@pytest.mark.parametrize(
    ("sequence", "media_time", "size", "codec", "utterance", "flags"),
    [
        (1, 320, 160, 0, 0, 0),  # a hole in time
        (2, 160, 160, 0, 0, 0),  # a hole in numbers
        (1, 160, 240, 0, 0, 0),
        (1, 160, 160, 8, 0, 0),
        (1, 160, 160, 0, 5, 0),
        (1, 160, 160, 0, 0, 1),
    ],
)
def test_what_does_not_follow_begins_a_chunk(
    sequence: int, media_time: int, size: int, codec: int, utterance: int, flags: int
) -> None:
    builder = ChunkBuilder()
    assert builder.add(0, 0, payload(0), 0) is None
    done = builder.add(sequence, media_time, payload(1, size), codec, utterance=utterance, flags=flags)
    assert done == Chunk(0, 0, 1, payload(0), 0, 0, 0)
    assert builder.flush() == Chunk(sequence, media_time, 1, payload(1, size), codec, utterance, flags)


def test_a_frame_longer_than_a_chunk_is_a_chunk() -> None:
    builder = ChunkBuilder(20)
    assert builder.add(0, 0, payload(0), 0) == Chunk(0, 0, 1, payload(0), 0, 0, 0)
    assert builder.add(1, 160, payload(1, 320), 0) == Chunk(1, 160, 1, payload(1, 320), 0, 0, 0)


def test_a_long_frame_that_also_breaks_the_chunk_waits_for_the_next() -> None:
    builder = ChunkBuilder(40)
    builder.add(0, 0, payload(0), 0)
    assert builder.add(1, 160, payload(1, 480), 0) == Chunk(0, 0, 1, payload(0), 0, 0, 0)
    assert builder.add(2, 640, payload(2, 480), 0) == Chunk(1, 160, 2, payload(1, 480) + payload(2, 480), 0, 0, 0)


def test_ring_keeps_the_last_seconds() -> None:
    ring = FrameRing(100)
    assert [ring.append(n * 160, payload(n), 8, flags=n % 2) for n in range(8)] == list(range(8))
    assert (ring.first_sequence, ring.next_sequence) == (3, 8)
    assert ring.read(0) == ring.read(3)
    assert ring.read(6) == [RingFrame(6, 960, payload(6), 8, 0), RingFrame(7, 1120, payload(7), 8, 1)]
    assert ring.read(8) == []


def test_empty_ring() -> None:
    ring = FrameRing()
    assert (ring.first_sequence, ring.next_sequence) == (0, 0)
    assert ring.read(5) == []
    assert ring.chunks(0) == []


def test_a_frame_longer_than_the_ring_is_not_kept() -> None:
    ring = FrameRing(10)
    assert ring.append(0, payload(0), 0) == 0
    assert (ring.first_sequence, ring.next_sequence) == (1, 1)


def test_ring_gives_chunks() -> None:
    ring = FrameRing()
    for n in range(25):
        ring.append(n * 160 + (800 if n > 14 else 0), payload(n), 0, flags=int(n == 15))
    chunks = ring.chunks(2)
    assert [(chunk.first_sequence, chunk.frame_count, chunk.flags) for chunk in chunks] == [
        (2, 10, 0),
        (12, 3, 0),
        (15, 10, 1),
    ]
    assert ring.chunks(20, chunk_ms=40)[0].frame_count == 2
