"""Which engine is asked next: the engines of a stage in their order, each with its breaker, and the tries of one piece
of work. Pure.

A piece of work is what a caller waits for: an answer, a sentence, a transcript. An engine that fails before it gave
anything is asked again, after a pause, as often as the settings allow; one that let its time pass is not. One that
broke off after its first output is asked for the rest only when no other engine is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from config.settings import FailoverSection
from services.resilience.backoff import full_jitter_ms
from services.resilience.breaker import Breaker, BreakerState, Permit

FAILED, TIMEOUT, EMPTY, CUT = REASONS = ("failed", "timeout", "empty", "cut")
"""Why a try came to nothing: it raised or gave rubbish, let its time pass, ended without output, broke off after it.

What let its time pass is not asked again, before or after its first output."""


TAKEOVER_HEARD = "nothing: the next engine took over"
"""What the caller hears of a :class:`Takeover`."""


class Figures(Protocol):
    """Takes what is counted of a stage's engines."""

    def state(self, engine: str, state: int) -> None:
        """The breaker of an engine is in this state from now on."""

    def error(self, engine: str, why: str) -> None:
        """A try came to nothing; ``why`` is one of :data:`REASONS`."""

    def failover(self, engine: str) -> None:
        """Another engine went on in place of this one."""

    def hedge(self, result: str) -> None:
        """Two engines were asked at the same time; who was first: ``primary`` or ``hedge``."""


class Failed(NamedTuple):
    """A try that came to nothing. ``kind``: of error, for people; no content."""

    engine: str
    why: str
    kind: str


class Takeover(NamedTuple):
    """Another engine went on with a piece of work. ``next_engine``: which one."""

    failed: Failed
    next_engine: str

    @property
    def code(self) -> str:
        """Of the failure table."""
        return "engine_timeout" if self.failed.why == TIMEOUT else "engine_failed"

    @property
    def detail(self) -> str:
        """For the failure event."""
        return f"engine {self.failed.engine}: {self.failed.kind}; {self.next_engine} took over"


class StageDownError(Exception):
    """No engine of a stage is left for a piece of work; the text names each and why, and no content."""


class Roster:
    """The engines of a stage in one process, shared by all its calls."""

    def __init__(
        self, names: Sequence[str], settings: FailoverSection, chance: Callable[[], float], figures: Figures
    ) -> None:
        """``chance``: as in :func:`full_jitter_ms`."""
        self.names = tuple(names)
        self.settings = settings
        self.figures = figures
        self.chance = chance
        self._breakers = [Breaker(settings.failures, settings.open_ms) for _ in names]
        self._states: list[BreakerState | None] = [None for _ in names]
        self._left_out: set[int] = set()
        for index in range(len(self.names)):
            self._tell(index, 0.0)

    def allows(self, index: int, now_ms: float) -> bool:
        """Whether this engine may be asked now."""
        return index not in self._left_out and self._breakers[index].allows(now_ms)

    def ask(self, index: int, now_ms: float) -> Permit | None:
        """Leave to ask this engine once; None: leave it alone."""
        permit = None if index in self._left_out else self._breakers[index].ask(now_ms)
        self._tell(index, now_ms)
        return permit

    def succeeded(self, index: int, permit: Permit, now_ms: float) -> None:
        """The engine did what it should."""
        self._breakers[index].succeeded(permit)
        self._tell(index, now_ms)

    def failed(self, index: int, permit: Permit, now_ms: float, why: str) -> None:
        """The engine did not."""
        self._breakers[index].failed(permit, now_ms)
        self.figures.error(self.names[index], why)
        self._tell(index, now_ms)

    def dropped(self, index: int, permit: Permit, now_ms: float) -> None:
        """The engine was told to stop before it could show what it does."""
        self._breakers[index].dropped(permit)
        self._tell(index, now_ms)

    def leave_out(self, index: int, now_ms: float) -> None:
        """The engine can't be used at all, until :meth:`let_in`."""
        self._left_out.add(index)
        self._tell(index, now_ms)

    def let_in(self, index: int, now_ms: float) -> None:
        """The engine can be used after all."""
        self._left_out.discard(index)
        self._tell(index, now_ms)

    def state(self, index: int, now_ms: float) -> BreakerState:
        """Of the engine's breaker; open where the engine is left out."""
        return BreakerState.OPEN if index in self._left_out else self._breakers[index].state(now_ms)

    def _tell(self, index: int, now_ms: float) -> None:
        state = self.state(index, now_ms)
        if state is not self._states[index]:
            self._states[index] = state
            self.figures.state(self.names[index], int(state))


class Attempt:
    """One try with one engine. Exactly one verdict counts, the first."""

    def __init__(self, attempts: Attempts, index: int, permit: Permit, pause_ms: float) -> None:
        self.index = index
        self.name = attempts.roster.names[index]
        self.pause_ms = pause_ms
        """To be waited before the engine is asked."""
        self._attempts = attempts
        self._permit: Permit | None = permit

    def succeeded(self, now_ms: float) -> None:
        """It gave all that was wanted of it."""
        if (permit := self._take()) is not None:
            self._attempts.roster.succeeded(self.index, permit, now_ms)

    def failed(self, now_ms: float, why: str, kind: str, *, output: bool = False) -> None:
        """It came to nothing; ``output``: after it had given something."""
        if (permit := self._take()) is not None:
            self._attempts.roster.failed(self.index, permit, now_ms, why)
            self._attempts.note(self.index, Failed(self.name, why, kind), spent=why == TIMEOUT, output=output)

    def let_go(self, now_ms: float, *, waited_ms: float, limit_ms: float, output: bool) -> None:
        """Nothing more is wanted of it. It counts as failed where it had been waited for longer than ``limit_ms``,
        as good where it had given something, and else not at all."""
        if waited_ms >= limit_ms:
            self.failed(now_ms, TIMEOUT, f"nothing for {limit_ms:.0f} ms", output=output)
        elif output:
            self.succeeded(now_ms)
        elif (permit := self._take()) is not None:
            self._attempts.roster.dropped(self.index, permit, now_ms)

    def _take(self) -> Permit | None:
        permit, self._permit = self._permit, None
        return permit


class Attempts:
    """The tries of one piece of work."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self._order = list(range(len(roster.names)))
        self._tries = [0] * len(roster.names)
        self._spent: set[int] = set()
        self._story: list[Failed] = []
        self._untold: list[Failed] = []

    def next(self, now_ms: float, *, beside: int | None = None) -> Attempt | None:
        """The next try; None: nobody is left. ``beside``: another engine than this one, which is at work."""
        for index in self._order:
            if index != beside and self._left(index):
                permit = self.roster.ask(index, now_ms)
                if permit is not None:
                    settings = self.roster.settings
                    pause_ms = full_jitter_ms(self._tries[index], settings.backoff_ms, self.roster.chance)
                    self._tries[index] += 1
                    return Attempt(self, index, permit, pause_ms)
        return None

    def others(self, now_ms: float, index: int) -> bool:
        """Whether an engine other than this one is left to be asked."""
        return any(other != index and self._left(other) and self.roster.allows(other, now_ms) for other in self._order)

    def takeovers(self, winner: Attempt) -> list[Takeover]:
        """``winner`` has output: what it took over from whom. Each failed engine is told, and counted, once."""
        last = {failed.engine: failed for failed in self._untold if failed.engine != winner.name}
        self._untold.clear()
        for engine in last:
            self.roster.figures.failover(engine)
        return [Takeover(failed, winner.name) for failed in last.values()]

    def down(self) -> StageDownError:
        """The error where nobody is left."""
        last = {failed.engine: failed.kind for failed in self._story}
        return StageDownError("; ".join(f"{name}: {last.get(name, 'left alone')}" for name in self.roster.names))

    def note(self, index: int, failed: Failed, *, spent: bool, output: bool) -> None:
        """A try came to nothing. ``spent``: the engine is not asked again; ``output``: only after the others."""
        self._story.append(failed)
        self._untold.append(failed)
        if spent:
            self._spent.add(index)
        if output:
            self._order.remove(index)
            self._order.append(index)

    def _left(self, index: int) -> bool:
        return index not in self._spent and self._tries[index] < self.roster.settings.attempts
