"""The one timer of all media: a chain of ``call_later`` over the wheel's absolute deadlines, 5 ms apart.

Each tick: the calls whose turn it is send their packet and take back what waited too long for order; one in fifty of
them, a different one each revolution, does what is due once a second; then everything for the bus leaves in one write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from bus.logs import get_logger
from edge.media.wheel import Lateness, PacerWheel

log = get_logger(__name__)

SWEEP_REVOLUTIONS = 50
"""Revolutions of 20 ms between two sweeps of a call: one second."""


class Paced(Protocol):
    """A call as the pacer sees it."""

    def __hash__(self) -> int:
        """By identity."""

    def turn(self, now: float, late_ms: float, skipped: int) -> None:
        """Send the packet that is due. ``skipped``: turns that were given up since the last one."""

    def sweep(self, now: float) -> None:
        """About once a second: reports and time limits."""


class PacerFigures(NamedTuple):
    """Lateness of turns over a window, milliseconds; ``turns`` counted, ``skipped`` given up.

    ``buckets``: turns by lateness, see ``edge.media.wheel.LATENESS_BOUNDS_MS``; ``total_ms``: of all of them together.
    """

    p50_ms: float
    p99_ms: float
    max_ms: float
    turns: int
    skipped: int
    buckets: tuple[int, ...] = ()
    total_ms: float = 0.0


class Pacer:
    """Runs from :meth:`start` to :meth:`stop` on the event loop's thread."""

    def __init__(self, flush: Callable[[], None], now: Callable[[], float] = time.monotonic) -> None:
        """``flush``: called at the end of each tick. ``now``: seconds."""
        self._flush = flush
        self._now = now
        self._wheel: PacerWheel[Paced] = PacerWheel(now())
        self._timer: asyncio.TimerHandle | None = None
        self.failures = 0

    def start(self) -> None:
        """Begin to tick."""
        self._wheel = PacerWheel(self._now())
        self._arm()

    def stop(self) -> None:
        """No tick any more; flush what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()

    def add(self, member: Paced) -> None:
        """From its next turn on the member is served."""
        self._wheel.add(member)

    def remove(self, member: Paced) -> None:
        """Serve it no more; a member may still get the turn of the tick that runs."""
        self._wheel.remove(member)

    def hasten(self, member: Paced) -> None:
        """Its next turn is the next tick: it has something to say after silence."""
        self._wheel.hasten(member)

    def relax(self, member: Paced) -> None:
        """It is silent again: back to its own turn."""
        self._wheel.relax(member)

    def __len__(self) -> int:
        return len(self._wheel)

    def take_figures(self) -> PacerFigures:
        """Lateness since the last call, and begin a new window."""
        seen, self._wheel.lateness = self._wheel.lateness, Lateness()
        return PacerFigures(
            seen.quantile_ms(0.5),
            seen.quantile_ms(0.99),
            seen.max_ms,
            seen.count,
            seen.skipped,
            tuple(seen.buckets),
            seen.total_ms,
        )

    def tick(self) -> None:
        """Serve what is due now."""
        now = self._now()
        for members, late_s, skipped, revolution in self._wheel.due(now):
            late_ms = late_s * 1000
            for member in members:
                try:
                    member.turn(now, late_ms, skipped)
                except Exception:
                    self._failed(member)
            for member in members[revolution % SWEEP_REVOLUTIONS :: SWEEP_REVOLUTIONS]:
                try:
                    member.sweep(now)
                except Exception:
                    self._failed(member)
        self._flush()

    def _failed(self, member: Paced) -> None:
        """One call's fault is not another's: said once in a hundred, for it may come back 50 times a second."""
        if self.failures % 100 == 0:
            log.exception("pacer_turn_failed", message=f"a turn failed ({self.failures} before it); pacing goes on")
        self.failures += 1

    def _run(self) -> None:
        try:
            self.tick()
        finally:
            self._arm()

    def _arm(self) -> None:
        delay = self._wheel.next_deadline() - self._now()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, delay), self._run)
