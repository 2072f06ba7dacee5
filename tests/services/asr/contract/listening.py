"""Runs of an engine for tests: as a worker drives them, watched, slowed and broken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Literal

from bus.clock import ManualClock
from schemas.llm import ListenFor
from services.asr.engine import Engine, Run, Transcript
from services.asr.hearing import Piece
from services.asr.pool import EnginePool
from services.asr.recognition import Outcome, Recognition
from services.audio.resample import resample
from tests.services.asr.contract.cases import RATE_HZ

DEADLINE_MS = 500
WAIT_S = 20.0
"""So long the suite waits for a thread before it says that the thread hangs; no engine here needs a second."""
FRAME_BYTES = RATE_HZ // 50 * 2
Step = Literal["open", "accept", "finish"]


class Watched:
    """An engine, and on which thread which of its methods was called, in order."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.name
        self.capabilities = engine.capabilities
        self.calls: list[tuple[str, str]] = []

    def warm(self) -> None:
        self.engine.warm()

    def open(self, listen_for: ListenFor) -> Run:
        self.note("open")
        return WatchedRun(self, self.engine.open(listen_for))

    def note(self, what: str) -> None:
        self.calls.append((what, threading.current_thread().name))

    def count(self, what: str) -> int:
        return sum(name == what for name, _ in self.calls)


class WatchedRun:
    """A run whose calls are noted."""

    def __init__(self, watched: Watched, run: Run) -> None:
        self._watched = watched
        self._run = run

    def accept(self, pcm: bytes) -> str | None:
        self._watched.note("accept")
        return self._run.accept(pcm)

    def finish(self) -> Transcript:
        self._watched.note("finish")
        return self._run.finish()

    def cancel(self) -> None:
        self._watched.note("cancel")
        self._run.cancel()


class Faulty(Watched):
    """An engine that at one step of its first run raises, or does not come back until :attr:`free` is set."""

    def __init__(self, engine: Engine, step: Step, *, hang: bool) -> None:
        super().__init__(engine)
        self._step = step
        self._hang = hang
        self.entered = threading.Event()
        self.free = threading.Event()

    def note(self, what: str) -> None:
        super().note(what)
        if what != self._step or self.count(what) > 1:
            return
        self.entered.set()
        if not self._hang:
            raise RuntimeError("out of memory")
        self.free.wait(WAIT_S)


class Listener:
    """One run as a worker drives it, on a pool and a clock of its own; what it said."""

    def __init__(self, engine: Engine, listen_for: ListenFor, pool: EnginePool) -> None:
        self.clock = ManualClock()
        self.said: list[str | Outcome] = []
        """Partials, and at the end the outcome, in order."""
        self.idle = False
        self._fed = 0
        self.recognition = Recognition(
            engine,
            listen_for,
            pool=pool,
            clock=self.clock,
            deadline_ms=DEADLINE_MS,
            on_partial=self.said.append,
            on_outcome=self.said.append,
            on_idle=self._on_idle,
        )

    @property
    def outcomes(self) -> list[Outcome]:
        return [each for each in self.said if isinstance(each, Outcome)]

    @property
    def partials(self) -> list[str]:
        return [each for each in self.said if isinstance(each, str)]

    def _on_idle(self) -> None:
        self.idle = True

    def feed(self, pcm: bytes) -> None:
        """Audio at 8,000 Hz, frame by frame, without waiting."""
        for at in range(0, len(pcm), FRAME_BYTES):
            self.recognition.feed(Piece(self._fed * 20.0, self._fed, pcm[at : at + FRAME_BYTES]))
            self._fed += 1

    async def hear(self, pcm: bytes) -> Outcome:
        """All of it, then the end; the outcome."""
        self.feed(pcm)
        self.recognition.finish()
        await until(lambda: self.outcomes)
        return self.outcomes[0]


async def until(done: Callable[[], object]) -> None:
    """Wait for what threads do."""
    async with asyncio.timeout(WAIT_S):
        while not done():
            await asyncio.sleep(0.001)


async def free(pool: EnginePool) -> None:
    """Wait until a thread of the pool takes work."""
    answers: list[object] = []
    pool.submit(lambda: None, lambda result, error: answers.append(result))
    await until(lambda: answers)


def at_rate_of(engine: Engine, pcm: bytes, from_hz: int = RATE_HZ) -> bytes:
    """Audio as the engine takes it."""
    rates = engine.capabilities.sample_rates_hz
    return pcm if from_hz in rates else resample(pcm, from_hz, rates[0])


def transcribe(engine: Engine, listen_for: ListenFor, pcm: bytes, *, step_bytes: int = 3200) -> Transcript:
    """The transcript of audio at the engine's rate, without a pool."""
    run = engine.open(listen_for)
    for at in range(0, len(pcm), step_bytes):
        run.accept(pcm[at : at + step_bytes])
    return run.finish()
