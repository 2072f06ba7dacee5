"""What a voice activity detector is, and how one is found by its name."""

from __future__ import annotations

from typing import Protocol

from config.settings import AsrSection
from services.asr.loading import load


class VoiceDetector(Protocol):
    """One call's detector: it may remember what it heard. Each call of a method returns within a millisecond."""

    @property
    def window_samples(self) -> int:
        """Samples of one window, at 8,000 a second."""

    def probability(self, pcm: bytes) -> float:
        """How likely the next window (16-bit little-endian mono PCM) is speech, 0 to 1."""

    def reset(self) -> None:
        """Forget: what comes next does not follow what came before."""


class VoiceModel(Protocol):
    """A process's model; opens a detector for each call."""

    def open(self) -> VoiceDetector: ...


def load_detector(name: str, settings: AsrSection) -> VoiceModel:
    """The model of that name: a file of ``services.asr.vad``, or ``module:Class`` of the user's own.

    Raises:
        EngineChoiceError: there is no such one; the text lists what there is.
        MissingPackageError: its package is not installed; the text names the extra.
    """
    model: VoiceModel = load("services.asr.vad", name, settings, setting="[asr] vad")
    return model
