"""Loudness of mono 16-bit PCM, and where in it there is something to hear."""

from __future__ import annotations

import array
import math
import sys

from services.audio.g711 import PCM_SAMPLE_BYTES, audioop, check_whole_samples

VOICED_THRESHOLD = 300
"""Sample value (of 32,767) over which audio counts as voiced: -41 dBFS, over the noise of G.711 and of a quiet line."""

FULL_SCALE = 32768
_WINDOW_SAMPLES = 80


def rms(pcm: bytes) -> int:
    """Root mean square of the samples, 0 to 32,768; 0 for no samples.

    Raises:
        PcmLengthError: not a whole number of samples.
    """
    check_whole_samples(pcm)
    return audioop.rms(pcm, PCM_SAMPLE_BYTES)


def dbfs(pcm: bytes) -> float:
    """Level in decibels under full scale; ``-inf`` for digital silence."""
    value = rms(pcm)
    return 20 * math.log10(value / FULL_SCALE) if value else -math.inf


def first_voiced_sample(pcm: bytes, threshold: int = VOICED_THRESHOLD) -> int | None:
    """Index of the first sample whose absolute value is over ``threshold``; None where there is none.

    Raises:
        PcmLengthError: not a whole number of samples.
    """
    check_whole_samples(pcm)
    for start in range(0, len(pcm), _WINDOW_SAMPLES * PCM_SAMPLE_BYTES):
        window = pcm[start : start + _WINDOW_SAMPLES * PCM_SAMPLE_BYTES]
        if audioop.max(window, PCM_SAMPLE_BYTES) > threshold:
            values = _samples(window)
            inside = next(index for index, value in enumerate(values) if abs(value) > threshold)
            return start // PCM_SAMPLE_BYTES + inside
    return None


def last_voiced_sample(pcm: bytes, threshold: int = VOICED_THRESHOLD) -> int | None:
    """Index of the last sample whose absolute value is over ``threshold``; None where there is none.

    Raises:
        PcmLengthError: not a whole number of samples.
    """
    backwards = first_voiced_sample(audioop.reverse(pcm, PCM_SAMPLE_BYTES), threshold)
    return None if backwards is None else len(pcm) // PCM_SAMPLE_BYTES - 1 - backwards


def leading_silence_ms(pcm: bytes, sample_rate_hz: int, threshold: int = VOICED_THRESHOLD) -> int:
    """Milliseconds before the first voiced sample, rounded down; the whole length where nothing is voiced."""
    first = first_voiced_sample(pcm, threshold)
    samples = len(pcm) // PCM_SAMPLE_BYTES if first is None else first
    return samples * 1000 // sample_rate_hz


def _samples(pcm: bytes) -> array.array[int]:
    values = array.array("h")
    values.frombytes(pcm)
    if sys.byteorder == "big":
        values.byteswap()
    return values
