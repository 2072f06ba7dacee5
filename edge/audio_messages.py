"""Frames and chunks of the media room as audio messages of the bus. Pure."""

from __future__ import annotations

from edge.media.recording import Chunk
from edge.media.ring import FrameRing
from schemas.audio import FRAME_HEADER, FRAME_VERSION, MAX_PAYLOAD_BYTES
from schemas.control import ReplayReply

MAX_FRAMES = 255
"""The header counts frames in one byte."""
REPLAY_CHUNK_MS = 500


def pack_chunk(chunk: Chunk) -> list[bytes]:
    """The chunk as one message; as several where its frames are so short that one can't count them."""
    size = len(chunk.payload) // chunk.frame_count
    step = max(1, min(MAX_FRAMES, MAX_PAYLOAD_BYTES // size))
    return [
        FRAME_HEADER.pack(
            FRAME_VERSION,
            chunk.codec,
            chunk.flags if start == 0 else 0,
            min(step, chunk.frame_count - start),
            (chunk.first_sequence + start) & 0xFFFFFFFF,
            chunk.utterance & 0xFFFFFFFF,
            (chunk.first_media_time + start * size) & 0xFFFFFFFF,
        )
        + chunk.payload[start * size : (start + step) * size]
        for start in range(0, chunk.frame_count, step)
    ]


def replay_messages(ring: FrameRing, from_sequence: int) -> tuple[ReplayReply, list[bytes]]:
    """Answer to a replay request, and the messages that follow it."""
    first = min(max(from_sequence, ring.first_sequence), ring.next_sequence)
    reply = ReplayReply(first_sequence=first, next_sequence=ring.next_sequence)
    chunks = ring.chunks(first, REPLAY_CHUNK_MS) if first < ring.next_sequence else []
    return reply, [data for chunk in chunks for data in pack_chunk(chunk)]
