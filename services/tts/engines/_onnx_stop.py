"""A stop that ends onnxruntime's work in the middle of a piece, and the way from a model's floats to PCM."""

from __future__ import annotations

from typing import Any

from services.onnx import StopToken
from services.tts.engines._pieces import Stop


class OnnxStop(Stop):
    """Work under :attr:`token` ends within an operator of the model: milliseconds."""

    def __init__(self, runtime: Any) -> None:
        self.token = StopToken(runtime)

    def stop(self) -> None:
        super().stop()
        self.token.stop()


def pcm_of(samples: Any) -> bytes:
    """16-bit little-endian PCM of a numpy array of floats in [-1, 1]; what is no number is silence."""
    import numpy

    clean = numpy.nan_to_num(numpy.asarray(samples, dtype=numpy.float32).ravel(), nan=0.0, posinf=1.0, neginf=-1.0)
    return bytes((numpy.clip(clean, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
