"""Judge a call by its audio: a recogniser hears what the caller received, and nothing else.

The recogniser listens for what should have been said and for everything that might have been said instead, so that a
wrong answer, a cut one, or noise is not heard as the right one.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from config.load import ConfigError
from config.settings import AsrSection
from schemas.llm import ListenFor
from services.asr.engine import Engine
from services.asr.engines.pocketsphinx import PocketSphinxEngine
from services.asr.grammar import RULES
from services.audio.g711 import PCM_SAMPLE_BYTES, SAMPLE_RATE_HZ
from services.audio.level import VOICED_THRESHOLD, rms
from services.audio.resample import Resampler

WINDOW_MS = 20
PAUSE_MS = 250
"""Silence that separates two sentences; at a comma a voice pauses for less."""
MARGIN_MS = 120
"""Silence kept around a sentence, so that the recogniser hears its first and last sound."""
SHIFTS = (0, 27, 53)
MORE_SHIFTS = (16, 69)
"""Samples that are left out before a sentence, each time that it is heard. The recogniser looks at windows that begin
every 10 ms, and where they begin decides about one sentence in twenty, "eight eight" most of all. A call in which it
hears everything at once is not heard again: nothing else sounds like all of it. Where something is missing, what it
hears most often is what was said; where it is of two minds it listens twice more."""


class EventGoal(NamedTuple):
    """What a call's events must show where no recogniser can judge the words.

    Attributes:
        turns: so often at least the caller was understood.
        answers: so many sentences at least were played to the caller each time.
        failures: failure events, at most.
        ended: reasons for which the call may have ended.
    """

    turns: int
    answers: int
    failures: int
    ended: tuple[str, ...]


class Demonstration(NamedTuple):
    """A file of config/demos: what the caller says, and what it must hear. ``name``: the agent that it was made for."""

    name: str
    caller_voice: str
    say: tuple[str, ...]
    heard: tuple[str, ...]
    instead: tuple[str, ...]
    events: EventGoal


class Utterance(NamedTuple):
    """One sentence of the agent as heard, with its start in the audio."""

    start_ms: int
    text: str


class Verdict(NamedTuple):
    """``missing``: phrases of the goal that were not heard in their order; empty: the goal was reached."""

    utterances: tuple[Utterance, ...]
    missing: tuple[str, ...]

    @property
    def reached(self) -> bool:
        return not self.missing


def load_demonstration(path: Path) -> Demonstration:
    """Read a demonstration.

    Raises:
        ConfigError: the file can't be read, or a key is missing.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        goal, events = data["goal"], data["goal"]["events"]
        return Demonstration(
            path.stem,
            data.get("caller_voice", "en-us+klatt4"),
            tuple(data["say"]),
            tuple(goal["heard"]),
            tuple(goal["instead"]),
            EventGoal(int(events["turns"]), int(events["answers"]), int(events["failures"]), tuple(events["ended"])),
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"demonstration {path}: {error!r}; it needs say, [goal] heard, [goal] instead, and [goal.events] turns, "
            "answers, failures and ended"
        ) from error


class Judge:
    """Hears with PocketSphinx and its bundled model. Loading takes about a second; ``warm`` does it ahead."""

    def __init__(self, demonstration: Demonstration) -> None:
        self._demonstration = demonstration
        # The last pass gives garbled speech other words than the right ones.
        self._engine: Engine = PocketSphinxEngine(AsrSection(), last_pass=True)
        self._listen_for = ListenFor(state="judge", phrases=(*demonstration.heard, *demonstration.instead))

    def warm(self) -> None:
        """Load the model."""
        self._engine.warm()

    def judge(self, pcm: bytes) -> Verdict:
        """Hear 16-bit PCM at 8,000 Hz: the agent's side as the caller received it."""
        stretches = [(start_ms, part, self._hear_once(part, SHIFTS[0])) for start_ms, part in utterances_of(pcm)]
        verdict = self._verdict((start_ms, text) for start_ms, _, text in stretches)
        if verdict.reached:
            return verdict
        return self._verdict((start_ms, self._hear_again(part, text)) for start_ms, part, text in stretches)

    def _verdict(self, heard: Iterable[tuple[int, str]]) -> Verdict:
        utterances = tuple(Utterance(start_ms, text) for start_ms, text in heard if text)
        said = " ".join(utterance.text for utterance in utterances)
        return Verdict(utterances, missing_in_order(said, self._demonstration.heard))

    def _hear_again(self, pcm: bytes, first: str) -> str:
        heard = Counter([first, *(self._hear_once(pcm, shift) for shift in SHIFTS[1:])])
        if len(heard) > 1:
            heard.update(self._hear_once(pcm, shift) for shift in MORE_SHIFTS)
        return heard.most_common(1)[0][0]

    def _hear_once(self, pcm: bytes, shift: int) -> str:
        pcm = pcm[shift * PCM_SAMPLE_BYTES :]
        run = self._engine.open(self._listen_for)
        rates = self._engine.capabilities.sample_rates_hz
        if SAMPLE_RATE_HZ not in rates:
            resampler = Resampler(SAMPLE_RATE_HZ, rates[0])
            pcm = resampler.feed(pcm) + resampler.finish()
        step = WINDOW_MS * SAMPLE_RATE_HZ // 1000 * PCM_SAMPLE_BYTES
        for start in range(0, len(pcm), step):
            run.accept(pcm[start : start + step])
        return run.finish().text


def utterances_of(pcm: bytes) -> list[tuple[int, bytes]]:
    """Cut audio at its pauses: (start in ms, PCM) of each stretch of sound."""
    window = SAMPLE_RATE_HZ * WINDOW_MS // 1000 * PCM_SAMPLE_BYTES
    stretches: list[list[int]] = []
    for index in range(len(pcm) // window):
        if rms(pcm[index * window : (index + 1) * window]) < VOICED_THRESHOLD:
            continue
        if stretches and (index - stretches[-1][1]) * WINDOW_MS < PAUSE_MS:
            stretches[-1][1] = index
        else:
            stretches.append([index, index])
    margin = MARGIN_MS // WINDOW_MS
    return [
        (first * WINDOW_MS, pcm[max(0, first - margin) * window : (last + 1 + margin) * window])
        for first, last in stretches
    ]


def missing_in_order(said: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """The phrases of ``wanted`` that ``said`` does not hold, each searched after the one before."""
    missing = []
    position = 0
    for phrase in wanted:
        found = re.compile(_pattern(phrase)).search(said, position)
        if found is None:
            missing.append(phrase)
        else:
            position = found.end()
    return tuple(missing)


def _pattern(phrase: str) -> str:
    """A phrase as a regular expression; ``<digit>`` and ``<weekday>`` stand for their words."""

    def rule(match: re.Match[str]) -> str:
        return "(" + RULES[match[1]].replace(" | ", "|") + ")"

    return r"\b" + re.sub(r"<([a-z_]+)>", rule, phrase) + r"\b"
