"""The recording as a stereo file: caller left, agent right, every frame where it was in time.

``rec.in`` and ``rec.out`` carry G.711 with media time; both directions share media time 0 (the answer), so a file needs
no alignment by ear. What was never sent or received is silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bus.interface import Connection
from schemas.audio import AudioFormatError, AudioFrame, Codec, unpack_audio
from schemas.subjects import recording
from services.audio.g711 import PCM_SAMPLE_BYTES, SAMPLE_RATE_HZ, decode
from services.audio.wav import build_wav, interleave

MAX_DURATION_S = 4 * 3600


class Rendering(NamedTuple):
    """Both sides as 16-bit PCM at 8,000 Hz, and what was missing in the recording.

    ``missing``: per direction, holes in the sequence numbers as (first missing, count).
    """

    caller: bytes
    agent: bytes
    missing_in: tuple[tuple[int, int], ...]
    missing_out: tuple[tuple[int, int], ...]

    @property
    def duration_ms(self) -> int:
        return max(len(self.caller), len(self.agent)) // PCM_SAMPLE_BYTES * 1000 // SAMPLE_RATE_HZ

    def wav(self) -> bytes:
        """A stereo WAV file."""
        return build_wav(interleave(self.caller, self.agent), SAMPLE_RATE_HZ, channels=2)


async def read_chunks(connection: Connection, direction: str, call_id: str, tenant: str) -> list[AudioFrame]:
    """The chunks of one direction of a call in stream order; what does not parse is left out."""
    chunks = []
    async for message in connection.read(recording(direction, call_id, tenant)):
        try:
            chunks.append(unpack_audio(message.data))
        except AudioFormatError:
            continue
    return chunks


async def render_call(connection: Connection, call_id: str, tenant: str) -> Rendering:
    """Read both directions of a call out of the stream and place them in time."""
    received = await read_chunks(connection, "in", call_id, tenant)
    sent = await read_chunks(connection, "out", call_id, tenant)
    return Rendering(place(received), place(sent), holes(received), holes(sent))


def place(chunks: Iterable[AudioFrame]) -> bytes:
    """PCM with every chunk at its media time. A chunk beyond four hours is left out: its clock is wrong."""
    track = bytearray()
    for chunk in chunks:
        start = chunk.media_time * PCM_SAMPLE_BYTES
        if chunk.media_time > MAX_DURATION_S * SAMPLE_RATE_HZ:
            continue
        pcm = decode(chunk.payload, Codec(chunk.codec))
        if len(track) < start:
            track.extend(bytes(start - len(track)))
        track[start : start + len(pcm)] = pcm
    return bytes(track)


def holes(chunks: Iterable[AudioFrame]) -> tuple[tuple[int, int], ...]:
    """Sequence numbers that no chunk holds, as (first missing, count)."""
    found = []
    expected: int | None = None
    for chunk in sorted(chunks, key=lambda chunk: chunk.sequence):
        if expected is not None and chunk.sequence > expected:
            found.append((expected, chunk.sequence - expected))
        expected = max(expected or 0, chunk.sequence + chunk.frame_count)
    return tuple(found)
