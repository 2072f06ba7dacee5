"""How long a caller's silence lasts before it is the agent's turn. Pure.

Two rules. ``fixed``: the same silence always. ``semantic``: as long as what was heard asks for: short where the turn
model is sure that the caller is done, long where it is not, longer where the last word can end no sentence. Both know
digits: when all that the agent expects were heard it goes on at once, while some are missing it waits.
"""

from __future__ import annotations

from typing import NamedTuple

from config.settings import TurnSection
from services.asr.turn.unfinished import is_unfinished

DIGITS_CONFIRM_MS = 250
"""Patience once all expected digits were heard: a digit too many would still come within it."""
SURE = 0.9
"""From this probability on the model counts as sure that the caller is done."""
UNSURE = 0.3
"""Up to this probability the model counts as sure that the caller is not."""
ASK_AT_MS = (200, 700)
"""Silence after which the model is asked, once for each: more silence tells it more."""


class Silence(NamedTuple):
    """What is known in a caller's silence.

    Attributes:
        text: the words of the turn so far, empty where none are known yet.
        expected_digits: digits that the agent asked for; 0: none.
        digits: of these, how many were heard.
        probability: the latest verdict given in this silence; None: there is none (yet).
        asks: how often the model was asked in this silence.
    """

    text: str = ""
    expected_digits: int = 0
    digits: int = 0
    probability: float | None = None
    asks: int = 0


class Endpointing:
    """The rule of the settings. All durations count from the last voiced sample, in milliseconds."""

    def __init__(self, settings: TurnSection, language: str = "en") -> None:
        """``language``: of the caller, as in ``[asr] language``; one without a list of words has no such cue."""
        self._language = language
        self._semantic = settings.endpointing == "semantic"
        self._max_ms = settings.endpointing_max_ms
        self._min_ms = min(settings.endpointing_min_ms, self._max_ms)
        self._fixed_ms = min(settings.endpointing_fixed_ms, self._max_ms)
        self._confirm_ms = max(DIGITS_CONFIRM_MS, settings.vad_stop_ms)

    def patience_ms(self, silence: Silence) -> int:
        """The silence after which the turn is over, as far as is known now."""
        if 0 < silence.digits < silence.expected_digits:
            return self._max_ms
        shortest_ms = self._by_silence(silence)
        return min(shortest_ms, self._confirm_ms) if silence.expected_digits and silence.digits else shortest_ms

    def next_ask_ms(self, silence: Silence) -> int | None:
        """The silence after which to ask the model (again); None: not (any more) in this silence."""
        if not self._semantic or silence.asks >= len(ASK_AT_MS):
            return None
        if silence.expected_digits and silence.digits:
            return None
        return ASK_AT_MS[silence.asks]

    def _by_silence(self, silence: Silence) -> int:
        if not self._semantic:
            return self._fixed_ms
        unfinished = is_unfinished(silence.text, self._language)
        if silence.probability is None:
            return self._max_ms if unfinished else self._fixed_ms
        doubt = min(1.0, max(0.0, (SURE - silence.probability) / (SURE - UNSURE)))
        if unfinished:
            doubt = max(doubt, 0.5)
        return round(self._min_ms + doubt * (self._max_ms - self._min_ms))
