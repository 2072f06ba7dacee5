"""A model that takes every silence for the end of the turn, at once: for benches and tests. Needs no package."""

from __future__ import annotations

from config.settings import AsrSection

CONTEXT_MS = 8000


class InstantModel:
    """Always sure, or as sure as it was made."""

    name = "instant"
    context_ms = CONTEXT_MS

    def __init__(self, sure: float = 1.0) -> None:
        self._sure = sure

    def warm(self) -> None:
        """Nothing to load."""

    def probability(self, pcm: bytes) -> float:
        return self._sure


def create(settings: AsrSection) -> InstantModel:
    """The model for ``[asr] turn_model = instant``."""
    return InstantModel()
