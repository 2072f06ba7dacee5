"""How long a caller's silence lasts before it is the agent's turn. Pure.

Two rules. ``fixed``: the same silence always. ``semantic``: as long as what was heard asks for: short where the turn
model is sure that the caller is done, long where it is not, long where the words so far can not be all
(``unfinished.py``), and not long where they are all of a phrase that the agent expects (``expected.py``). Both know
digits: when all that the agent expects were heard it goes on at once, while some are missing it waits.

The model is asked again while the silence lasts, and its verdicts count with their mean: one alone is off now and then,
and the later ones have heard more silence, which sounds more like an end each time.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from config.settings import TurnSection
from services.asr.turn.unfinished import is_answer, is_unfinished

DIGITS_CONFIRM_MS = 250
"""Patience once all expected digits were heard: a digit too many would still come within it."""
ASK_AT_MS = (200, 450, 1000)
"""Silence after which the model is asked, once for each; later where the verdict before is still to come."""
LOST_MS = 300
"""A verdict that has not come for so long will not come."""
DOUBT = ((0.1, 1.0), (0.9, 0.25), (0.97, 0.05), (0.98, 0.0))
"""How much of the way from the shortest to the longest wait a probability costs, straight lines between the points. The
model says 0.9 of many a pause in the middle of a sentence, and 0.98 of few: ``callbus bench endpointing``."""
UNFINISHED = 0.7
"""The same for words that can not be all: no silence for ever, the words may have been understood wrong."""
ANSWER = 0.25
"""The most for an answer such as "yes": so little sound is often judged wrong, and nobody waits long after it."""


class Silence(NamedTuple):
    """What is known in a caller's silence.

    Attributes:
        text: the words of the turn so far, empty where none are known yet.
        expected_digits: digits that the agent asked for; 0: none.
        digits: of these, how many were heard.
        probability: mean of the verdicts given in this silence; None: there is none (yet).
        asks: how often the model was asked in this silence.
        verdicts: how often it answered.
        whole: the words are all of a phrase that the agent expects.
    """

    text: str = ""
    expected_digits: int = 0
    digits: int = 0
    probability: float | None = None
    asks: int = 0
    verdicts: int = 0
    whole: bool = False

    def judged(self, probability: float) -> Silence:
        """The same silence with one more verdict."""
        known = (self.probability or 0.0) * self.verdicts
        return self._replace(probability=(known + probability) / (self.verdicts + 1), verdicts=self.verdicts + 1)


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
        at_ms = ASK_AT_MS[silence.asks]
        pending = silence.asks > silence.verdicts
        return max(at_ms, ASK_AT_MS[silence.asks - 1] + LOST_MS) if pending else at_ms

    def _by_silence(self, silence: Silence) -> int:
        if not self._semantic:
            return self._fixed_ms
        unfinished_ms = self._graded_ms(UNFINISHED) if is_unfinished(silence.text, self._language) else 0
        if silence.probability is None:
            return max(unfinished_ms, self._fixed_ms)
        doubt = _doubt(silence.probability)
        if is_answer(silence.text, self._language):
            doubt = min(doubt, ANSWER)
        heard_ms = self._graded_ms(doubt)
        if silence.expected_digits and not silence.text:
            # Single digits sound like ends: until it is known how many there are, none of them is.
            heard_ms = max(heard_ms, self._fixed_ms)
        if silence.whole:
            # What was to be said has been said, however it sounded.
            return min(heard_ms, self._fixed_ms)
        return max(unfinished_ms, heard_ms)

    def _graded_ms(self, share: float) -> int:
        return round(self._min_ms + share * (self._max_ms - self._min_ms))


def _doubt(probability: float) -> float:
    """0 for sure of the end, 1 for sure of the contrary."""
    for (lower, more), (higher, less) in pairwise(DOUBT):
        if probability <= higher:
            return more + (less - more) * max(0.0, probability - lower) / (higher - lower)
    return DOUBT[-1][1]
