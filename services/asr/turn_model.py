"""What a turn model is, and how one is found by its name: it hears whether a caller is done."""

from __future__ import annotations

from typing import Protocol

from config.settings import AsrSection
from services.asr.loading import load


class TurnModel(Protocol):
    """A process's model. All calls share it; several threads may ask it at once."""

    name: str
    context_ms: int
    """The audio that it looks at, at most: what is older need not be kept."""

    def warm(self) -> None:
        """Make the first answer as quick as all others. Blocks."""

    def probability(self, pcm: bytes) -> float:
        """How likely the caller is done with what ``pcm`` holds, 0 to 1: from the beginning of the turn, or the last
        ``context_ms`` of it, up to now, the silence after the last word included (8,000 Hz, 16-bit little-endian mono).

        Blocks for up to a tenth of a second; raises what it likes.
        """


def load_turn_model(name: str, settings: AsrSection) -> TurnModel:
    """The model of that name: a file of ``services.asr.turn_models``, or ``module:Class`` of the user's own.

    Raises:
        EngineChoiceError: there is no such one; the text lists what there is.
        MissingPackageError: its package is not installed; the text names the extra.
    """
    model: TurnModel = load("services.asr.turn_models", name, settings, setting="[asr] turn_model")
    return model
