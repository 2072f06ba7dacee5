"""A circuit breaker: an engine that fails again and again is left alone for a while, then tried with one run. Pure.

Closed, every run is allowed; so many failures in a row open it. Open, none is allowed until the rest is over. Then it
is half-open: exactly one run is allowed, the trial, and what becomes of it closes the breaker or opens it again.

A run asks for a :class:`Permit` and gives its verdict on it. What a run says that began before the breaker last changed
is not counted: an engine is judged by what it does now.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class BreakerState(IntEnum):
    """The numbers are those of the metric ``callbus_engine_breaker_state``."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Permit(NamedTuple):
    """Leave to run once. ``period`` counts the breaker's changes."""

    period: int
    trial: bool


class Breaker:
    """Of one engine in one process. Times are milliseconds of a clock that never goes back."""

    def __init__(self, failures: int, open_ms: float) -> None:
        """``failures``: so many in a row open it. ``open_ms``: how long it rests, and how long a trial may take."""
        self._limit = failures
        self._open_ms = open_ms
        self._open = False
        self._failures = 0
        self._period = 0
        self._rest_until_ms = 0.0
        self._trial_until_ms: float | None = None

    def state(self, now_ms: float) -> BreakerState:
        """Half-open from the end of the rest to the verdict on the trial."""
        if not self._open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_ms < self._rest_until_ms else BreakerState.HALF_OPEN

    def allows(self, now_ms: float) -> bool:
        """Whether :meth:`ask` would give leave now."""
        if not self._open:
            return True
        tried = self._trial_until_ms is not None and now_ms < self._trial_until_ms
        return now_ms >= self._rest_until_ms and not tried

    def ask(self, now_ms: float) -> Permit | None:
        """Leave for one run; None: leave the engine alone. A trial that gave no verdict in time is replaced by
        another one."""
        if not self.allows(now_ms):
            return None
        if self._open:
            self._period += 1
            self._trial_until_ms = now_ms + self._open_ms
        return Permit(self._period, trial=self._open)

    def succeeded(self, permit: Permit) -> None:
        """The run did what it should."""
        if permit.period == self._period:
            self._failures = 0
            if self._open:
                self._change(is_open=False)

    def failed(self, permit: Permit, now_ms: float) -> None:
        """The run did not."""
        if permit.period == self._period:
            self._failures += 1
            if self._open or self._failures >= self._limit:
                self.trip(now_ms)

    def dropped(self, permit: Permit) -> None:
        """Nobody wants to know any more what becomes of the run: it says nothing about the engine."""
        if permit.period == self._period and self._open:
            self._trial_until_ms = None

    def trip(self, now_ms: float) -> None:
        """Open now, whatever went before."""
        self._rest_until_ms = now_ms + self._open_ms
        self._change(is_open=True)

    def _change(self, *, is_open: bool) -> None:
        self._open = is_open
        self._period += 1
        self._failures = 0
        self._trial_until_ms = None
