"""Smart Turn v3.2 (BSD-2-Clause), run directly with onnxruntime from the model file that the pipecat wheel carries.

The model is the encoder of Whisper tiny with a head that says how likely the speaker is done, from the last eight
seconds of audio at 16,000 Hz: melody and rhythm, not words. Shorter audio is filled up with silence at the beginning,
so that its end always lies at the same place.

Theory of operation. The audio is brought to zero mean and unit variance, cut into frames of 25 ms every 10 ms (the ends
mirrored, so that the first frame is centred on the first sample), and each frame's power spectrum is summed up in 80
bands of equal width on the mel scale (``mel_bands``). Their logarithm, no more than 80 dB below the loudest, shifted
and scaled, is the input, 80 by 800 (as in Whisper: Radford et al. 2022, section 2.2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.settings import AsrSection
from services.asr.bundled import EXTRA, bundled_file, open_session
from services.packages import installed

MODEL_IN_PIPECAT = Path("audio", "turn", "smart_turn", "data", "smart-turn-v3.2-cpu.onnx")
LINE_RATE_HZ = 8000
MODEL_RATE_HZ = 16_000
CONTEXT_MS = 8000
PCM_SAMPLE_BYTES = 2

FRAME_SAMPLES = 400
STEP_SAMPLES = 160
BANDS = 80
FRAMES_AT_ONCE = 16
QUIETEST_POWER = 1e-10
DYNAMIC_RANGE = 8.0
"""Powers of ten below the loudest band that still count."""

LINEAR_BELOW_HZ = 1000.0
HZ_PER_LINEAR_MEL = 200 / 3
MELS_PER_STEP = 27.0
LOG_STEP = 6.4
"""Slaney's mel scale: linear up to 1,000 Hz, then 27 mels for each factor of 6.4."""


class SmartTurnModel:
    """The loaded model. One answer costs 50 to 90 ms of one core; its session may be used by several threads."""

    name = "smart_turn"
    context_ms = CONTEXT_MS

    def __init__(self, path: Path) -> None:
        """Raises ``MissingPackageError`` where numpy, soxr or onnxruntime is not installed."""
        modules = installed(self.name, {"numpy": EXTRA, "soxr": EXTRA})
        self._numpy, self._soxr = modules["numpy"], modules["soxr"]
        self._session = open_session(self.name, path)
        self._bands = mel_bands(self._numpy)
        # A Hann window of one sample more than a frame, without its last: periodic, so that frames add up evenly.
        self._window = self._numpy.hanning(FRAME_SAMPLES + 1)[:-1]

    def warm(self) -> None:
        self.probability(bytes(PCM_SAMPLE_BYTES * LINE_RATE_HZ))

    def probability(self, pcm: bytes) -> float:
        features = self.features(pcm)
        output = self._session.run(None, {"input_features": features[self._numpy.newaxis]})
        return float(output[0].reshape(-1)[0])

    def features(self, pcm: bytes) -> Any:
        """The model's input for 8,000 Hz PCM: float32, bands by frames."""
        numpy = self._numpy
        pcm = pcm[-PCM_SAMPLE_BYTES * LINE_RATE_HZ * CONTEXT_MS // 1000 :]
        line = numpy.frombuffer(pcm, dtype="<i2").astype("float32") / 32768
        # Never rounded to whole numbers again: the model hears the noise of that in what was digital silence.
        heard = self._soxr.resample(line, LINE_RATE_HZ, MODEL_RATE_HZ, quality="HQ")
        samples = numpy.zeros(MODEL_RATE_HZ * CONTEXT_MS // 1000, dtype="float32")
        samples[samples.size - heard.size :] = heard
        samples = (samples - samples.mean()) / numpy.sqrt(samples.var() + 1e-7)
        mirrored = numpy.pad(samples.astype("float64"), FRAME_SAMPLES // 2, mode="reflect")
        frames = numpy.lib.stride_tricks.sliding_window_view(mirrored, FRAME_SAMPLES)[::STEP_SAMPLES][:-1]
        power = numpy.abs(numpy.fft.rfft(frames * self._window)) ** 2
        # In small pieces: a product of the whole would wake threads on all cores and take longer.
        bands = power.reshape(-1, FRAMES_AT_ONCE, power.shape[1]) @ self._bands.T
        levels = numpy.log10(numpy.maximum(bands.reshape(-1, BANDS).T, QUIETEST_POWER))
        levels = numpy.maximum(levels, levels.max() - DYNAMIC_RANGE)
        return ((levels + 4) / 4).astype("float32")


def mel_bands(numpy: Any) -> Any:
    """Weights of the frequencies of a frame's spectrum in each band, bands by frequencies: triangles whose edges lie
    evenly on the mel scale, each of the same area."""
    knee = LINEAR_BELOW_HZ / HZ_PER_LINEAR_MEL
    steps = numpy.log(MODEL_RATE_HZ / 2 / LINEAR_BELOW_HZ) / numpy.log(LOG_STEP)
    mels = numpy.linspace(0.0, knee + MELS_PER_STEP * steps, BANDS + 2)
    above = numpy.maximum(mels - knee, 0.0)
    edges = numpy.where(above > 0, LINEAR_BELOW_HZ * LOG_STEP ** (above / MELS_PER_STEP), mels * HZ_PER_LINEAR_MEL)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = numpy.linspace(0.0, MODEL_RATE_HZ / 2, FRAME_SAMPLES // 2 + 1)
    triangles = numpy.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    return numpy.maximum(triangles, 0.0) * 2 / (high - low)


def create(settings: AsrSection) -> SmartTurnModel:
    """The model for ``[asr] turn_model = smart_turn``, loaded."""
    return SmartTurnModel(bundled_file(SmartTurnModel.name, MODEL_IN_PIPECAT))
