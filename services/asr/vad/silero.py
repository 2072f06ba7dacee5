"""Silero VAD, run directly with onnxruntime from the model file that the pipecat wheel carries.

The model (MIT licence) hears 8,000 Hz in windows of 256 samples, each together with the last 32 samples of the window
before, and carries a recurrent state. pipecat itself is not imported: that would cost half a second and 70 MB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.settings import AsrSection
from services.asr.bundled import EXTRA, bundled_file, open_session
from services.packages import installed

SAMPLE_RATE_HZ = 8000
WINDOW_SAMPLES = 256
CONTEXT_SAMPLES = 32
STATE_SHAPE = (2, 1, 128)
FULL_SCALE = 32768
OUTPUTS = ["output", "stateN"]
MODEL_IN_PIPECAT = Path("audio", "vad", "data", "silero_vad.onnx")

RESET_AFTER_WINDOWS = 62
"""Two seconds. Long silence, noise or music shift the state so that the speech after them scores too low; pipecat found
that clearing it that often mends this."""
RESET_LOW_WINDOWS = 5
RESET_LOW_PROBABILITY = 0.1
"""A reset waits for this many windows in a row under this probability: never inside a word or before its onset."""


class SileroDetector:
    """One call's state of the model. A window takes about 0.1 ms."""

    def __init__(self, numpy: Any, session: Any) -> None:
        self._numpy = numpy
        self._session = session
        self._scale = numpy.float32(1 / FULL_SCALE)
        self._rate = numpy.array(SAMPLE_RATE_HZ, dtype="int64")
        self.reset()

    @property
    def window_samples(self) -> int:
        return WINDOW_SAMPLES

    def probability(self, pcm: bytes) -> float:
        self._context[:] = self._end
        self._numpy.multiply(self._numpy.frombuffer(pcm, dtype="<i2"), self._scale, out=self._window)
        output, self._feed["state"] = self._session.run(OUTPUTS, self._feed)
        probability = float(output[0, 0])
        self._maybe_clear(probability)
        return probability

    def reset(self) -> None:
        samples = self._numpy.zeros((1, CONTEXT_SAMPLES + WINDOW_SAMPLES), dtype="float32")
        # Views of the one buffer, made once.
        self._context, self._window = samples[0, :CONTEXT_SAMPLES], samples[0, CONTEXT_SAMPLES:]
        self._end = samples[0, -CONTEXT_SAMPLES:]
        state = self._numpy.zeros(STATE_SHAPE, dtype="float32")
        self._feed = {"input": samples, "state": state, "sr": self._rate}
        self._windows = 0
        self._low = 0

    def _maybe_clear(self, probability: float) -> None:
        self._windows += 1
        self._low = self._low + 1 if probability < RESET_LOW_PROBABILITY else 0
        if self._windows >= RESET_AFTER_WINDOWS and self._low >= RESET_LOW_WINDOWS:
            self.reset()


class SileroModel:
    """The loaded model. Its session may be used by many detectors at once."""

    def __init__(self, path: Path) -> None:
        """Raises ``MissingPackageError`` where onnxruntime or numpy is not installed."""
        self._numpy = installed("silero", {"numpy": EXTRA})["numpy"]
        self._session = open_session("silero", path)
        self.open().probability(bytes(2 * WINDOW_SAMPLES))

    def open(self) -> SileroDetector:
        return SileroDetector(self._numpy, self._session)


def model_path() -> Path:
    """The model file inside the installed pipecat wheel.

    Raises:
        MissingPackageError: pipecat is not installed, or this version of it has the file elsewhere.
    """
    return bundled_file("silero", MODEL_IN_PIPECAT)


def create(settings: AsrSection) -> SileroModel:
    """The model for ``[asr] vad = silero``, loaded and warm."""
    return SileroModel(model_path())
