"""A detector that knows loud from quiet and nothing else: for benches and tests. Needs no package."""

from __future__ import annotations

from config.settings import AsrSection
from services.audio import level

WINDOW_SAMPLES = 160
THRESHOLD_DBFS = -40.0
"""Over the noise of G.711 and of a quiet line, under any voice that fills it."""


class EnergyDetector:
    """Speech is what is louder than a fixed level; so is a cough, a key tone, or music."""

    def __init__(self, threshold_dbfs: float = THRESHOLD_DBFS, window_samples: int = WINDOW_SAMPLES) -> None:
        self._threshold_dbfs = threshold_dbfs
        self._window_samples = window_samples

    @property
    def window_samples(self) -> int:
        return self._window_samples

    def probability(self, pcm: bytes) -> float:
        return 1.0 if level.dbfs(pcm) >= self._threshold_dbfs else 0.0

    def reset(self) -> None:
        """Nothing to forget."""


class EnergyModel:
    """Opens detectors; there is nothing to load."""

    def open(self) -> EnergyDetector:
        return EnergyDetector()


def create(settings: AsrSection) -> EnergyModel:
    """The model for ``[asr] vad = energy``."""
    return EnergyModel()
