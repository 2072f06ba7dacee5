"""Audio on the bus: a 16-byte header, then the codec's payload as it travels in RTP. No JSON, no headers, no decode.

``rt.*.*.audio.in`` and ``rt.*.*.audio.out`` carry frames; ``call.*.*.rec.in`` and ``call.*.*.rec.out`` carry up to
200 ms of them in one message. Layout, network byte order (``FRAME_HEADER``)::

    offset  size  field
    0       1     version      1
    1       1     codec        Codec
    2       1     flags        AudioFlag bits
    3       1     frame_count  frames in this message, all of the same size (1 for a single live frame)
    4       4     sequence     of the first frame; contiguous per flow, +1 for every frame
    8       4     utterance    audio.out and rec.out: the agent's utterance; audio.in and rec.in: 0
    12      4     media_time   clock ticks (8,000 a second for G.711) of the first frame since media time 0

``audio.in``: ``sequence`` counts the frames that the edge published, from 0, never a hole; what RTP lost shows as
``GAP`` and as a jump of ``media_time``. ``audio.out``: ``sequence`` counts the frames of one sentence from 0 within
bits 0..19, and bits 20..31 hold the sentence's index within the utterance (``segment_sequence``), so that a second
synthesis of the same sentence by a successor is recognised frame by frame; ``media_time`` is 0 there.
``rec.out``: ``media_time`` is when the frame really left as RTP.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

FRAME_HEADER = struct.Struct("!BBBBIII")
FRAME_VERSION = 1
HEADER_BYTES = FRAME_HEADER.size
MAX_PAYLOAD_BYTES = 16_384
SEGMENT_SHIFT = 20
MAX_SEGMENT_FRAMES = 1 << SEGMENT_SHIFT
RECORDING_CHUNK_MS = 200


class Codec(IntEnum):
    """RTP static payload type numbers (RFC 3551), used here as codec identifiers."""

    PCMU = 0
    PCMA = 8

    @property
    def clock_rate_hz(self) -> int:
        return 8000

    @property
    def bytes_per_ms(self) -> int:
        return 8

    @property
    def silence(self) -> int:
        """The payload byte of digital silence (ITU-T G.711)."""
        return 0xFF if self is Codec.PCMU else 0xD5


class AudioFlag(IntFlag):
    """Marks on a frame."""

    NONE = 0
    GAP = 1
    """RTP packets before this frame were lost; the jump of ``media_time`` says how many."""
    RESYNC = 2
    """New SSRC or a restarted RTP clock: media time goes on, the sender's own counters do not."""
    END = 4
    """audio.out: no payload; the utterance has no further sentence. ``sequence`` >> 20 is the number of sentences."""
    SEGMENT_END = 8
    """audio.out: the last frames of this sentence."""


class AudioFrame(NamedTuple):
    """One decoded audio message. ``payload`` holds ``frame_count`` equal parts."""

    codec: Codec
    flags: AudioFlag
    frame_count: int
    sequence: int
    utterance: int
    media_time: int
    payload: bytes

    def frames(self) -> list[bytes]:
        """The payload cut into its frames."""
        if self.frame_count == 0:
            return []
        size = len(self.payload) // self.frame_count
        return [self.payload[i : i + size] for i in range(0, size * self.frame_count, size)] if size else []


class AudioFormatError(ValueError):
    """Bytes that are not an audio message; the text names the defect."""


def segment_sequence(segment: int, frame: int) -> int:
    """``sequence`` of frame ``frame`` of sentence ``segment`` in ``audio.out``."""
    return (segment << SEGMENT_SHIFT) | frame


def split_segment_sequence(sequence: int) -> tuple[int, int]:
    """Inverse of :func:`segment_sequence`: ``(segment, frame)``."""
    return sequence >> SEGMENT_SHIFT, sequence & (MAX_SEGMENT_FRAMES - 1)


def pack_audio(
    payload: bytes,
    *,
    sequence: int,
    codec: Codec = Codec.PCMU,
    flags: AudioFlag = AudioFlag.NONE,
    frame_count: int = 1,
    utterance: int = 0,
    media_time: int = 0,
) -> bytes:
    """Bytes of one audio message.

    Raises:
        struct.error: a number does not fit its field.
    """
    return (
        FRAME_HEADER.pack(
            FRAME_VERSION,
            codec,
            flags,
            frame_count,
            sequence & 0xFFFFFFFF,
            utterance,
            media_time & 0xFFFFFFFF,
        )
        + payload
    )


def unpack_audio(data: bytes) -> AudioFrame:
    """Parse one audio message.

    Raises:
        AudioFormatError: too short, unknown version or codec, payload not divisible into its frames.
    """
    if len(data) < HEADER_BYTES:
        raise AudioFormatError(f"audio message of {len(data)} bytes is shorter than its {HEADER_BYTES}-byte header")
    version, codec, flags, frame_count, sequence, utterance, media_time = FRAME_HEADER.unpack_from(data)
    if version != FRAME_VERSION:
        raise AudioFormatError(f"audio header version {version}, this program reads version {FRAME_VERSION}")
    if codec not in (0, 8):
        raise AudioFormatError(f"codec number {codec} is neither PCMU (0) nor PCMA (8)")
    payload = data[HEADER_BYTES:]
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise AudioFormatError(f"audio payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
    if frame_count and len(payload) % frame_count:
        raise AudioFormatError(f"{len(payload)} payload bytes do not divide into {frame_count} equal frames")
    return AudioFrame(Codec(codec), AudioFlag(flags), frame_count, sequence, utterance, media_time, payload)
