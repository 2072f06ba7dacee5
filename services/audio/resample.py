"""Streaming change of the sample rate of mono 16-bit PCM, by the SoX resampler."""

from __future__ import annotations

from typing import Any

from services.audio.g711 import PCM_SAMPLE_BYTES


class ResamplerMissingError(ImportError):
    """The package ``soxr`` is not installed; the text says how to get it."""


class Resampler:
    """One flow of audio from one rate to another; keeps the filter's state between chunks.

    The filter looks ahead, so output lags behind input; ``finish`` gives the rest. All output together has
    ``input samples * to_hz / from_hz`` samples, rounded.
    """

    def __init__(self, from_hz: int, to_hz: int, quality: str = "HQ") -> None:
        """``quality``: one of soxr's recipes, ``VHQ``, ``HQ``, ``MQ``, ``LQ``, ``QQ``: lower looks ahead less.

        Raises:
            ValueError: a rate is not positive, or ``quality`` is not known.
            ResamplerMissingError: the rates differ and ``soxr`` is not installed.
        """
        if from_hz <= 0 or to_hz <= 0:
            raise ValueError(f"sample rates must be positive, not {from_hz} and {to_hz}")
        self.from_hz = from_hz
        self.to_hz = to_hz
        self._odd_byte = b""
        self._stream: Any = None if from_hz == to_hz else _open_stream(from_hz, to_hz, quality)

    def feed(self, pcm: bytes) -> bytes:
        """Output that is ready after these bytes; a sample cut in two by the chunks' border is put together again."""
        pcm = self._odd_byte + pcm
        whole = len(pcm) - len(pcm) % PCM_SAMPLE_BYTES
        self._odd_byte = pcm[whole:]
        return self._run(pcm[:whole], last=False)

    def finish(self) -> bytes:
        """The rest of the output. The flow is over: nothing may be fed after it."""
        return self._run(b"", last=True)

    def _run(self, pcm: bytes, *, last: bool) -> bytes:
        if self._stream is None:
            return pcm
        if not pcm and not last:
            return b""
        import numpy

        # As floats: with integers soxr adds dither, and the same text would never sound twice the same.
        samples = numpy.frombuffer(pcm, dtype="<i2").astype(numpy.float32)
        output = self._stream.resample_chunk(samples, last=last)
        return bytes(numpy.clip(numpy.rint(output), -32768, 32767).astype("<i2").tobytes())


def resample(pcm: bytes, from_hz: int, to_hz: int, quality: str = "HQ") -> bytes:
    """A whole piece of audio at another rate. Raises as :class:`Resampler`."""
    resampler = Resampler(from_hz, to_hz, quality)
    return resampler.feed(pcm) + resampler.finish()


def _open_stream(from_hz: int, to_hz: int, quality: str) -> Any:
    try:
        import soxr
    except ImportError as error:
        raise ResamplerMissingError(
            f"audio at {from_hz} Hz can't be brought to {to_hz} Hz: the package soxr is not installed; "
            "it comes with pip install 'callbus[espeak]'"
        ) from error
    return soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality=quality)
