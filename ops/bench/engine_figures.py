"""What is measured of an engine, under which names, and what is assumed of calls where a figure speaks of calls."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ops.bench.results import Figure, Limit, distribution
from ops.process import resident_mb

BENCH = "engines"
CALLER_SHARE = 0.4
"""Of a call the part in which the caller speaks: speech recognition works then, and rests otherwise."""
AGENT_SHARE = 0.4
"""So too the agent, for speech synthesis."""
ANSWERS_A_MINUTE = 6.0

WORK, MEMORY, CALLS = "work per second of speech", "memory over a bare worker", "calls per core"
PARTIAL, FINAL, WORDS = "first partial after the onset of speech", "final after the end of the audio", "words right"
TOKEN, SENTENCE = "time to the first token", "time to the first sentence"
TOKENS_A_SECOND, ANSWER_WORK = "tokens per second", "work per answer"
AUDIO = "time to the first audio"
READY = "time to load and warm"
NOT_MEASURED = "not measured"
OURS_ALONE = "cpu is that of this process; the model's is the server's"


class Sound(msgspec.Struct, frozen=True):
    """A caller's sentence: 16-bit PCM at 8,000 Hz, ``LEAD_MS`` of silence before it and ``TAIL_MS`` after it."""

    text: str
    pcm: bytes


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of its own measures.

    Attributes:
        label: of the engine and its model, for the figures' names.
        remote: somebody else's machine does the work; each thing is asked for once.
        agent: an agent file to write and to use in place of the setting's; empty: the setting's.
        sounds: for speech recognition.
    """

    stage: str
    engine: str
    label: str
    seconds: float
    remote: bool = False
    agent: str = ""
    sounds: tuple[Sound, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What that process writes. ``reason``: why there are no figures; empty: there are."""

    figures: tuple[Figure, ...] = ()
    reason: str = ""


class Start(NamedTuple):
    """A moment of this process: seconds from any zero, resident memory."""

    at: float
    memory_mb: float

    @classmethod
    def now(cls) -> Start:
        return cls(time.monotonic(), own_memory_mb())


class Figures:
    """Figures of one engine."""

    def __init__(self, task: Task) -> None:
        self.made: list[Figure] = []
        self._subject = f"{task.stage} {task.label}"
        self._remote = task.remote

    def add(
        self, name: str, unit: str, statistics: dict[str, float], *, limits: tuple[Limit, ...] = (), note: str = ""
    ) -> None:
        """One more. Without statistics it is left out: the engine has no such thing, as partials."""
        if statistics:
            full = f"{self._subject}: {name}"
            self.made.append(Figure(bench=BENCH, name=full, unit=unit, statistics=statistics, limits=limits, note=note))

    def loading(self, before: Start, ready: Start) -> None:
        """What it took to be ready, and memory: now, and then."""
        self.add(READY, "s", {"value": ready.at - before.at})
        held_mb, loaded_mb = own_memory_mb() - before.memory_mb, ready.memory_mb - before.memory_mb
        self.add(MEMORY, "MB", {"value": held_mb, "loaded": loaded_mb})

    def spread(self, name: str, values: Sequence[float], *, note: str = "") -> None:
        """Milliseconds of several times the same."""
        self.add(name, "ms", distribution(values) if values else {}, note=note)

    def speech_work(self, cpu_s: float, wall_s: float, speech_s: float, share: float, *, streams: bool) -> None:
        """Seconds of work for so many seconds of speech, and how many calls a core bears."""
        work = {"cpu": cpu_s / speech_s, "wall": wall_s / speech_s, "speech_s": speech_s}
        limits = (Limit(statistic="wall", value=1.0),) if streams else ()
        self.add(WORK, "s", work, limits=limits, note=OURS_ALONE if self._remote else "")
        if cpu_s > 0 and not self._remote:
            self.add(CALLS, "", {"value": speech_s / cpu_s / share}, note=f"speech is {share:.0%} of a call")


def unmeasured(stage: str, label: str, reason: str) -> Figure:
    """The row of an engine that has no figures."""
    return Figure(bench=BENCH, name=f"{stage} {label}: {NOT_MEASURED}", unit="", statistics={}, note=reason)


def own_memory_mb() -> float:
    """Resident memory of this process; 0 where the system does not tell."""
    return resident_mb(os.getpid()) or 0.0
