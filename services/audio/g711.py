"""G.711 (ITU-T G.711) to and from linear PCM: signed 16-bit, little-endian, mono.

``audioop`` does the work: part of the standard library up to Python 3.12, the package ``audioop-lts`` from 3.13 on.
"""

from __future__ import annotations

import warnings

from schemas.audio import Codec

with warnings.catch_warnings():
    # 3.11 and 3.12 announce the removal; from 3.13 on the same name comes from audioop-lts, a declared dependency.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop as audioop

SAMPLE_RATE_HZ = 8000
PCM_SAMPLE_BYTES = 2


class PcmLengthError(ValueError):
    """Linear PCM that does not end on a whole sample."""


def decode(payload: bytes, codec: Codec) -> bytes:
    """Linear PCM (two bytes a sample) of a G.711 payload (one byte a sample)."""
    if codec is Codec.PCMA:
        return audioop.alaw2lin(payload, PCM_SAMPLE_BYTES)
    return audioop.ulaw2lin(payload, PCM_SAMPLE_BYTES)


def encode(pcm: bytes, codec: Codec) -> bytes:
    """G.711 payload of linear PCM at 8,000 samples a second.

    Every code but one survives ``encode(decode(code))``: mu-law has two zeros, and 0x7F comes back as 0xFF.

    Raises:
        PcmLengthError: an odd number of bytes.
    """
    check_whole_samples(pcm)
    if codec is Codec.PCMA:
        return audioop.lin2alaw(pcm, PCM_SAMPLE_BYTES)
    return audioop.lin2ulaw(pcm, PCM_SAMPLE_BYTES)


def silence(codec: Codec, samples: int) -> bytes:
    """Payload of ``samples`` samples of digital silence."""
    return bytes([codec.silence]) * samples


def check_whole_samples(pcm: bytes) -> None:
    """Raise :class:`PcmLengthError` where ``pcm`` is not a whole number of 16-bit samples."""
    if len(pcm) % PCM_SAMPLE_BYTES:
        raise PcmLengthError(f"{len(pcm)} bytes are not a whole number of 16-bit samples")
