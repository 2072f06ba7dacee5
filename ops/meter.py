"""A meter that sees nothing but a stereo recording: caller left, agent right. No events, no model; pure.

It is what our own figures are held against, so it shares nothing with what they are made from. Each side is cut into
windows of 10 ms, and a window is voiced by its energy alone. What a human ear would call one utterance is one stretch:
a silence within it is shorter than ``GAP_MS``. From outside one can't hear why an agent falls silent, nor whether what
it says next is new; the rules below say what is taken for what.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from services.audio.g711 import PCM_SAMPLE_BYTES
from services.audio.level import FULL_SCALE, first_voiced_sample, last_voiced_sample, rms

WINDOW_MS = 10
GAP_MS = 250
"""Silence that ends a stretch; between words, and at a comma, a voice is silent for less."""
MIN_VOICED_MS = 30
"""A stretch with less voice than this is a click."""
CALLER_THRESHOLD_DBFS = -45.0
AGENT_THRESHOLD_DBFS = -60.0
"""The least; a machine's line is silent between its words, and the closure of a p or t within them is none of that."""
MOST_THRESHOLD_DBFS = -30.0
OVER_NOISE_DB = 12.0
NOISE_SHARE = 0.02
"""The noise of a side is the level that so many of its windows stay below; also who never falls silent has closures."""
STOP_LIMIT_MS = 500
"""An agent that speaks on for longer than this after the caller's last sound was not stopped by it."""
SHORT_MS = 500
"""A caller's sound shorter than this, after which the agent speaks again, is taken for no interruption: a cough, a word
of agreement. The agent has only paused."""


class Stretch(NamedTuple):
    """Voice of one side, from its first to its last voiced sample, in milliseconds of the recording."""

    start_ms: float
    end_ms: float


class Overlap(StrEnum):
    """What became of the agent when the caller began to speak over it."""

    STOPPED = "stopped"
    """It fell silent: a barge-in."""
    PAUSED = "paused"
    """It fell silent for a short sound and spoke again."""
    SPOKE_ON = "spoke_on"
    """It did not fall silent before the caller did."""


class Answer(NamedTuple):
    """The agent began after the caller's last voiced sample."""

    caller_end_ms: float
    agent_start_ms: float

    @property
    def latency_ms(self) -> float:
        """Last voiced sample of the caller to the first of the agent."""
        return self.agent_start_ms - self.caller_end_ms


class BargeIn(NamedTuple):
    """The caller began while the agent spoke. ``agent_back_ms``: where it spoke again; None: never."""

    caller_start_ms: float
    caller_end_ms: float
    agent_end_ms: float
    agent_back_ms: float | None
    outcome: Overlap

    @property
    def latency_ms(self) -> float:
        """First voiced sample of the caller to the last of the agent."""
        return self.agent_end_ms - self.caller_start_ms


class Metering(NamedTuple):
    """Everything that was found. ``caller_dbfs``, ``agent_dbfs``: the thresholds over which a window is voiced."""

    duration_ms: float
    caller_dbfs: float
    agent_dbfs: float
    caller: tuple[Stretch, ...]
    agent: tuple[Stretch, ...]
    answers: tuple[Answer, ...]
    barge_ins: tuple[BargeIn, ...]

    def of(self, outcome: Overlap) -> list[BargeIn]:
        """The overlaps that came to this."""
        return [each for each in self.barge_ins if each.outcome is outcome]


def meter(caller: bytes, agent: bytes, sample_rate_hz: int) -> Metering:
    """Measure both sides of a call, 16-bit mono PCM each, with the same zero."""
    levels = [_levels(side, sample_rate_hz) for side in (caller, agent)]
    least = (CALLER_THRESHOLD_DBFS, AGENT_THRESHOLD_DBFS)
    thresholds = [_threshold(level, at_least) for level, at_least in zip(levels, least, strict=True)]
    said, heard = (
        tuple(_stretches(side, level, threshold, sample_rate_hz))
        for side, level, threshold in zip((caller, agent), levels, thresholds, strict=True)
    )
    return Metering(
        duration_ms=max(len(caller), len(agent)) / PCM_SAMPLE_BYTES * 1000 / sample_rate_hz,
        caller_dbfs=thresholds[0],
        agent_dbfs=thresholds[1],
        caller=said,
        agent=heard,
        answers=tuple(answers_of(said, heard)),
        barge_ins=tuple(barge_ins_of(said, heard)),
    )


def answers_of(caller: Sequence[Stretch], agent: Sequence[Stretch]) -> list[Answer]:
    """To each stretch of the caller the agent's first one after it, where the caller has not spoken again before that.

    An agent that still speaks at the caller's last voiced sample gives no answer to it.
    """
    found = []
    for number, stretch in enumerate(caller):
        if any(each.start_ms <= stretch.end_ms < each.end_ms for each in agent):
            continue
        until = caller[number + 1].start_ms if number + 1 < len(caller) else math.inf
        first = next((each.start_ms for each in agent if each.start_ms > stretch.end_ms), math.inf)
        if first < until:
            found.append(Answer(stretch.end_ms, first))
    return found


def barge_ins_of(caller: Sequence[Stretch], agent: Sequence[Stretch]) -> list[BargeIn]:
    """Every stretch of the caller that begins within one of the agent, and what became of that."""
    found = []
    for stretch in caller:
        number = next((n for n, each in enumerate(agent) if each.start_ms <= stretch.start_ms < each.end_ms), None)
        if number is None:
            continue
        end_ms = agent[number].end_ms
        back_ms = agent[number + 1].start_ms if number + 1 < len(agent) else None
        if end_ms > stretch.end_ms + STOP_LIMIT_MS:
            outcome = Overlap.SPOKE_ON
        elif stretch.end_ms - stretch.start_ms < SHORT_MS and back_ms is not None:
            outcome = Overlap.PAUSED
        else:
            outcome = Overlap.STOPPED
        found.append(BargeIn(stretch.start_ms, stretch.end_ms, end_ms, back_ms, outcome))
    return found


def _levels(pcm: bytes, sample_rate_hz: int) -> list[float]:
    """Level of each window in dBFS; digital silence is ``-inf``. A last, incomplete window is left out."""
    step = _window_bytes(sample_rate_hz)
    found = []
    for start in range(0, len(pcm) - step + 1, step):
        value = rms(pcm[start : start + step])
        found.append(20 * math.log10(value / FULL_SCALE) if value else -math.inf)
    return found


def _threshold(levels: Sequence[float], least_dbfs: float) -> float:
    """Above the side's noise, within limits: a side that never falls silent has no noise to be heard."""
    if not levels:
        return least_dbfs
    noise = sorted(levels)[int(len(levels) * NOISE_SHARE)]
    return min(MOST_THRESHOLD_DBFS, max(least_dbfs, noise + OVER_NOISE_DB))


def _stretches(pcm: bytes, levels: Sequence[float], threshold: float, sample_rate_hz: int) -> list[Stretch]:
    spans: list[list[int]] = []
    for window in (number for number, level in enumerate(levels) if level >= threshold):
        if spans and (window - spans[-1][1] - 1) * WINDOW_MS < GAP_MS:
            spans[-1][1] = window
            spans[-1][2] += 1
        else:
            spans.append([window, window, 1])
    step, amplitude = _window_bytes(sample_rate_hz), int(FULL_SCALE * 10 ** (threshold / 20))
    found = []
    for first, last, voiced in spans:
        if voiced * WINDOW_MS < MIN_VOICED_MS:
            continue
        # Within a window that is voiced some sample reaches its level.
        into = first_voiced_sample(pcm[first * step : (first + 1) * step], amplitude - 1)
        until = last_voiced_sample(pcm[last * step : (last + 1) * step], amplitude - 1)
        assert into is not None
        assert until is not None
        window = step // PCM_SAMPLE_BYTES
        start, end = first * window + into, last * window + until + 1
        found.append(Stretch(_ms(start, sample_rate_hz), _ms(end, sample_rate_hz)))
    return found


def _window_bytes(sample_rate_hz: int) -> int:
    return sample_rate_hz * WINDOW_MS // 1000 * PCM_SAMPLE_BYTES


def _ms(samples: int, sample_rate_hz: int) -> float:
    return round(samples * 1000 / sample_rate_hz, 3)
