"""The caller in virtual time: a scenario's steps as windows of voice, words, keys and holds. Pure.

A word is :data:`WORD_MS` of voice. Sounds without words are voiced for as long as they last; a recording is voiced
where it is loud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ops.caller.recording import SAMPLE_BYTES, SAMPLE_RATE_HZ
from ops.caller.speech import file_pcm
from ops.scenario.document import Scenario, Step
from ops.scenario.expectations import StepTimes
from ops.scenario.world import World
from schemas.base import Event
from schemas.call import CallHeld, DtmfIn
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutStarted
from services.audio.level import dbfs

WORD_MS = 300
WINDOW_MS = 32
"""One window of the voice activity detector."""
KEY_MS = 100
"""How long a key is held down."""
SILENCE_DBFS = -70.0
SILENCE_PROBABILITY = 0.02
LOUD_DBFS = -45.0
"""A window of a recording counts as voice from here on."""

PROBABILITIES = {
    "say": 0.95,
    "wav": 0.95,
    "cough_ms": 0.9,
    "noise_ms": 0.3,
    "mumble_ms": 0.9,
    "hum_ms": 0.9,
    "echo_ms": 0.95,
}
"""How likely the detector takes each sound for speech."""
FINISHED = 0.98
UNFINISHED = 0.1


class Voice(NamedTuple):
    """Sound without a hole in it. ``done``: what the turn model says after it."""

    start_ms: int
    end_ms: int
    probability: float
    level_dbfs: float
    done: float


class SpokenWord(NamedTuple):
    """What the recogniser can make of the sound between two times."""

    text: str
    start_ms: int
    end_ms: int


class Caller:
    """Does one step after the other.

    Attributes:
        steps: times of the steps that were begun, by name; the end may lie in the future.
        words: everything that was or will be said in the steps that were begun.
        holding: the call is on hold.
        finished: the last step is over.
    """

    def __init__(self, world: World, scenario: Scenario, *, speaking: Callable[[], bool], hang_up: Callable[[], None]):
        self.steps: dict[str, StepTimes] = {}
        self.words: list[SpokenWord] = []
        self.holding = False
        self.finished = False
        self._world = world
        self._scenario = scenario
        self._speaking = speaking
        self._hang_up = hang_up
        self._todo = iter(scenario.caller)
        self._voices: list[Voice] = []
        self._waiting: tuple[Step, bool] | None = None
        self._presses = self._holds = 0

    @property
    def waiting(self) -> bool:
        """The next step waits for the agent."""
        return self._waiting is not None

    def begin(self) -> None:
        """The call is answered."""
        self._world.follow(self._hear, at_once=True)
        self._next()

    def window(self, start_ms: int) -> tuple[float, float]:
        """Speech probability and level (dBFS) of the window that begins then."""
        end_ms = start_ms + WINDOW_MS
        for voice in reversed(self._voices):
            if voice.end_ms <= start_ms:
                break
            if 2 * (min(voice.end_ms, end_ms) - max(voice.start_ms, start_ms)) >= WINDOW_MS:
                return voice.probability, voice.level_dbfs
        return SILENCE_PROBABILITY, SILENCE_DBFS

    def done_at(self, at_ms: int) -> float:
        """What the turn model says of a caller who has been silent since then."""
        spoken = [voice for voice in self._voices if voice.start_ms <= at_ms]
        if not spoken:
            return FINISHED
        return UNFINISHED if spoken[-1].end_ms > at_ms + 2 * WINDOW_MS else spoken[-1].done

    # One step after the other.

    def _next(self) -> None:
        step = next(self._todo, None)
        if step is None:
            self.finished = True
        elif step.when == "now":
            self._world.after(step.after_ms, lambda: self._act(step))
        elif step.when == "call begins":
            self._world.at(step.after_ms, lambda: self._act(step))
        elif step.when == "agent speaks" and self._speaking():
            self._world.after(step.after_ms, lambda: self._act(step))
        else:
            self._waiting = (step, self._speaking())

    def _hear(self, event: Event) -> None:
        """The agent begins or falls silent: is that what the next step waits for?"""
        if self._waiting is None:
            return
        step, has_spoken = self._waiting
        if isinstance(event, PlayoutStarted):
            self._waiting = (step, True)
            met = step.when == "agent speaks"
        else:
            met = step.when == "agent silent" and has_spoken and isinstance(event, PlayoutFinished | PlayoutFlushed)
        if met:
            self._waiting = None
            self._world.after(step.after_ms, lambda: self._act(step))

    def _act(self, step: Step) -> None:
        now = self._world.now_ms
        if step.hang_up:
            self.steps[step.name] = StepTimes(now, now)
            self.finished = True
            self._hang_up()
            return
        if step.keys is not None:
            length = self._press(step.keys, step.key_gap_ms)
        elif step.hold_ms is not None:
            length = step.hold_ms
            self._hold(held=True)
            self._world.after(length, lambda: self._hold(held=False))
        elif step.wait_ms is not None:
            length = step.wait_ms
        else:
            length = self._sound(step, now)
        self.steps[step.name] = StepTimes(now, now + length)
        self._world.after(length, self._next)

    def _sound(self, step: Step, now: int) -> int:
        """Make the sound of a step; how long it lasts."""
        before = len(self._voices)
        self._voices += self._spoken(step, now) if step.say is not None else self._unspoken(step, now)
        voices = self._voices[before:]
        end = voices[-1].end_ms if voices else now
        if step.hears is not None:
            texts = step.hears.split()
            places = [now + (end - now) * number // max(1, len(texts)) for number in range(len(texts) + 1)]
            self.words += [SpokenWord(text, *places[n : n + 2]) for n, text in enumerate(texts)]
        return end - now

    def _spoken(self, step: Step, at_ms: int) -> Iterator[Voice]:
        for phrase in step.phrases:
            texts = phrase.text.split()
            if step.hears is None:
                self.words += [
                    SpokenWord(text, at_ms + n * WORD_MS, at_ms + (n + 1) * WORD_MS) for n, text in enumerate(texts)
                ]
            done = UNFINISHED if phrase.unfinished else FINISHED
            if texts:
                end_ms = at_ms + len(texts) * WORD_MS
                yield Voice(at_ms, end_ms, PROBABILITIES["say"], step.level, done if step.done is None else step.done)
            at_ms += len(texts) * WORD_MS + phrase.pause_ms

    def _unspoken(self, step: Step, at_ms: int) -> Iterator[Voice]:
        done = FINISHED if step.done is None else step.done
        probability = PROBABILITIES[step.action]
        if step.wav is None:
            yield Voice(at_ms, at_ms + int(getattr(step, step.action)), probability, step.level, done)
            return
        file = self._scenario.file(step.wav)
        for start_ms, end_ms in _loud(file_pcm(file) if file is not None else b""):
            yield Voice(at_ms + start_ms, at_ms + end_ms, probability, step.level, done)

    # Keys and holds.

    def _press(self, keys: str, gap_ms: int) -> int:
        for number, key in enumerate(keys):
            self._world.after(number * gap_ms, lambda key=key: self._key(key))  # type: ignore[misc]
        return (len(keys) - 1) * gap_ms + KEY_MS

    def _key(self, key: str) -> None:
        now = self._world.now_ms
        self._world.say(DtmfIn, press=self._presses, digit=key, duration_ms=KEY_MS, media_time_ms=now)
        self._presses += 1

    def _hold(self, *, held: bool) -> None:
        self.holding = held
        self._holds += 1
        direction = "sendonly" if held else "sendrecv"
        self._world.say(CallHeld, change=self._holds, held=held, direction=direction)


def _loud(pcm: bytes) -> Iterator[tuple[int, int]]:
    """The stretches (ms) of a recording that are voice."""
    size = WINDOW_MS * SAMPLE_RATE_HZ // 1000 * SAMPLE_BYTES
    start: int | None = None
    count = len(pcm) // size
    for number in range(count):
        loud = dbfs(pcm[number * size : (number + 1) * size]) >= LOUD_DBFS
        if loud and start is None:
            start = number
        elif not loud and start is not None:
            yield start * WINDOW_MS, number * WINDOW_MS
            start = None
    if start is not None:
        yield start * WINDOW_MS, count * WINDOW_MS
