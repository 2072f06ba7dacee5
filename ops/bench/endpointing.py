"""Endpointing: how often a rule cuts callers off, and how long it lets them wait.

A corpus of turns (``endpointing_corpus``) goes through the detector, the gate, the turn machine and the turn model, in
media time: a verdict comes :data:`VERDICT_MS` after it was asked for, a word is recognised :data:`WORD_MS` after it was
spoken, and is always understood right; the recogniser's own time after the end does not count. Of recordings it is
known only roughly when each word is said.

The rules' constants were chosen on one half of the corpus; both halves are shown, so that what was fitted to the one
can be seen by the other. No text is in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from config.settings import AsrSection, Settings, TurnSection
from ops.bench.endpointing_corpus import SAMPLES_PER_MS, CallerTurn, recordings, synthesised
from ops.bench.results import Figure, Limit, distribution
from schemas.audio import AudioFlag, AudioFrame, Codec
from services.asr.detector import VoiceDetector, load_detector
from services.asr.hearing import Hearing, Window
from services.asr.judge import LEAD_MS
from services.asr.turn import values as v
from services.asr.turn.machine import TurnMachine
from services.asr.turn_model import load_turn_model
from services.audio import g711

DEFAULT_CALLS = 1
VERDICT_MS = 60
WORD_MS = 200
FRAME_SAMPLES = 160
BYTES_PER_MS = 2 * SAMPLES_PER_MS
FALSE_CUTS_PERCENT = 3.0
MEDIAN_WAIT_MS = 600.0
FIXED_STEPS_MS = range(300, 3001, 50)


class Heard(NamedTuple):
    """A turn of the corpus and what the detector makes of it. ``held_out``: the rules were not tuned on it."""

    turn: CallerTurn
    windows: tuple[Window, ...]
    held_out: bool


class Outcome(NamedTuple):
    """What a rule did with a turn. ``cut``: it ended before the caller was done. ``wait_ms``: from the true end to the
    rule's; None: it never ended, the caller was not heard."""

    heard: Heard
    cut: bool
    wait_ms: int | None


Verdicts = Callable[[CallerTurn, v.Ask, int], float]
"""How sure the model is of a turn, asked at a time in it."""


async def measure(calls: int, seconds: float) -> list[Figure]:
    """All rules over the whole corpus; neither ``calls`` nor ``seconds`` changes it.

    Raises:
        ConfigError: eSpeak NG, Silero or Smart Turn is not installed.
    """
    settings = Settings()
    corpus = hear_corpus(settings.asr)
    verdicts = remembered(settings.asr)
    semantic = settings.turn
    fixed = msgspec.structs.replace(semantic, endpointing="fixed")
    outcomes = run(corpus, semantic, verdicts)
    figures = [
        *_figures("semantic", outcomes, limited=True),
        *_figures("semantic, the half it was tuned on", [each for each in outcomes if not each.heard.held_out]),
        *_figures("semantic, the other half", [each for each in outcomes if each.heard.held_out]),
        *_figures("semantic, words unknown", run(corpus, semantic, verdicts, words=False)),
        *_figures("semantic, no turn model", run(corpus, semantic, None)),
        *_figures(f"fixed {fixed.endpointing_fixed_ms} ms", run(corpus, fixed, None)),
    ]
    wait_ms, equal = _as_few_cuts(corpus, fixed, cuts(outcomes))
    figures += _figures(f"fixed {wait_ms} ms, the shortest that cuts off as few", equal)
    figures.append(
        Figure(
            bench="endpointing",
            name="median wait of that fixed rule over the semantic one's",
            unit="ms",
            statistics={"value": _median(equal) - _median(outcomes)},
            limits=(Limit(statistic="value", value=1.0, at_least=True),),
        )
    )
    return figures + _by_kind(outcomes)


def hear_corpus(settings: AsrSection) -> list[Heard]:
    """The corpus and its windows. Texts take turns in being held out, within each kind."""
    detectors = load_detector(settings.vad, settings)
    halves: dict[str, dict[str, bool]] = {}
    corpus = []
    for turn in [*synthesised(), *recordings()]:
        texts = halves.setdefault(turn.kind, {})
        corpus.append(
            Heard(turn, _windows(turn.pcm, detectors.open()), texts.setdefault(turn.text, len(texts) % 2 == 1))
        )
    return corpus


def _windows(pcm: bytes, detector: VoiceDetector) -> tuple[Window, ...]:
    payload = g711.encode(pcm, Codec.PCMU)
    hearing = Hearing(detector)
    windows: list[Window] = []
    for number in range(len(payload) // FRAME_SAMPLES):
        at = number * FRAME_SAMPLES
        frame = AudioFrame(Codec.PCMU, AudioFlag.NONE, 1, number, 0, at, payload[at : at + FRAME_SAMPLES])
        windows += hearing.push(frame)[1]
    return tuple(windows)


def remembered(settings: AsrSection) -> Verdicts:
    """The model's verdicts, each worked out once: rules ask the same."""
    model = load_turn_model(settings.turn_model, settings)
    known: dict[tuple[str, int, int], float] = {}

    def verdict(turn: CallerTurn, ask: v.Ask, now_ms: int) -> float:
        place = (turn.name, ask.speech_start_ms, now_ms)
        if place not in known:
            since_ms = max(0, ask.speech_start_ms - LEAD_MS, now_ms - model.context_ms)
            known[place] = model.probability(turn.pcm[since_ms * BYTES_PER_MS : now_ms * BYTES_PER_MS])
        return known[place]

    return verdict


def run(
    corpus: Sequence[Heard], settings: TurnSection, verdicts: Verdicts | None, *, words: bool = True
) -> list[Outcome]:
    """What the rule of the settings does with each turn. ``verdicts`` None: no verdict ever comes. ``words`` False: the
    rule knows of none before the end, but of digits where some are expected."""
    return [_Listener(heard, settings, verdicts, words=words).listen() for heard in corpus]


class _Listener:
    """One turn through the machine."""

    def __init__(self, heard: Heard, settings: TurnSection, verdicts: Verdicts | None, *, words: bool) -> None:
        turn = heard.turn
        self._heard = heard
        self._verdicts = verdicts
        self._machine = TurnMachine(settings)
        known = words or turn.expected_digits
        self._words = [(at_ms + WORD_MS, word) for at_ms, word in turn.words] if known else []
        self._spoken = 0
        self._finished = 0
        self._run: int | None = None
        self._due: list[tuple[int, v.Verdict]] = []
        self._ends: list[int] = []

    def listen(self) -> Outcome:
        turn = self._heard.turn
        if turn.expected_digits:
            self._give(v.Expect(turn.expected_digits), 0)
        for window in self._heard.windows:
            self._pass(window.end_ms)
            probability, start_ms, end_ms, level_dbfs, sound_ms = window
            self._give(v.Heard(probability, start_ms, end_ms, False, level_dbfs, sound_ms), end_ms)
        after = [end_ms - turn.end_ms for end_ms in self._ends if end_ms >= turn.end_ms]
        return Outcome(self._heard, any(end_ms < turn.end_ms for end_ms in self._ends), max(after, default=None))

    def _pass(self, until_ms: int) -> None:
        """What comes between two windows: words and verdicts."""
        while self._spoken < len(self._words) and self._words[self._spoken][0] <= until_ms:
            at_ms = self._words[self._spoken][0]
            self._spoken += 1
            if self._run is not None:
                self._give(v.Partial(self._run, self._text()), at_ms)
        while self._due and self._due[0][0] <= until_ms:
            at_ms, verdict = self._due.pop(0)
            self._give(verdict, at_ms)

    def _give(self, given: v.Input, now_ms: int) -> None:
        for command in self._machine.handle(given, now_ms):
            match command:
                case v.OpenRun():
                    self._run = command.run
                    if self._text():
                        self._give(v.Partial(command.run, self._text()), now_ms)
                case v.FinishRun():
                    text = self._text() or self._heard.turn.text
                    self._run, self._finished = None, self._spoken
                    self._give(v.Final(command.run, text), now_ms)
                case v.Ask() if self._verdicts is not None:
                    probability = self._verdicts(self._heard.turn, command, now_ms)
                    self._due.append((now_ms + VERDICT_MS, v.Verdict(command.ask, probability)))
                case v.EndTurn():
                    self._ends.append(now_ms)
                case _:
                    pass

    def _text(self) -> str:
        """The words since the last run was finished."""
        return " ".join(word for _, word in self._words[self._finished : self._spoken])


def cuts(outcomes: Sequence[Outcome]) -> int:
    """Turns that ended before the caller was done."""
    return sum(each.cut for each in outcomes)


def _as_few_cuts(corpus: Sequence[Heard], fixed: TurnSection, wanted: int) -> tuple[int, list[Outcome]]:
    """The shortest fixed silence with at most ``wanted`` cuts, and what it does with each turn."""
    low, high = 0, len(FIXED_STEPS_MS) - 1
    found: dict[int, list[Outcome]] = {}
    while low <= high:
        middle = (low + high) // 2
        settings = msgspec.structs.replace(fixed, endpointing_fixed_ms=FIXED_STEPS_MS[middle])
        found[middle] = run(corpus, settings, None)
        low, high = (low, middle - 1) if cuts(found[middle]) <= wanted else (middle + 1, high)
    if low not in found:
        raise RuntimeError(f"a fixed silence of {FIXED_STEPS_MS[-1]} ms cuts off more than {wanted} turns")
    return FIXED_STEPS_MS[low], found[low]


def _figures(name: str, outcomes: Sequence[Outcome], *, limited: bool = False) -> list[Figure]:
    waits = [float(each.wait_ms) for each in outcomes if each.wait_ms is not None]
    percent = 100 * cuts(outcomes) / len(outcomes)
    return [
        Figure(
            bench="endpointing",
            name=f"{name}: false cuts",
            unit="%",
            statistics={"value": percent, "cuts": float(cuts(outcomes)), "n": float(len(outcomes))},
            limits=(Limit(statistic="value", value=FALSE_CUTS_PERCENT),) if limited else (),
        ),
        Figure(
            bench="endpointing",
            name=f"{name}: wait after the true end",
            unit="ms",
            statistics=distribution(waits),
            limits=(Limit(statistic="p50", value=MEDIAN_WAIT_MS),) if limited else (),
        ),
    ]


def _by_kind(outcomes: Sequence[Outcome]) -> list[Figure]:
    """The semantic rule by what is said, both halves."""
    kinds = dict.fromkeys(each.heard.turn.kind for each in outcomes)
    return [
        figure
        for kind in kinds
        for figure in _figures(f"semantic, {kind}", [each for each in outcomes if each.heard.turn.kind == kind])
    ]


def _median(outcomes: Sequence[Outcome]) -> float:
    return distribution([float(each.wait_ms) for each in outcomes if each.wait_ms is not None])["p50"]
