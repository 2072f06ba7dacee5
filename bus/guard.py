"""A process that stood still checks that it still owns its calls before it says anything more.

After SIGCONT, or after its event loop was blocked, a worker may have been replaced without knowing. Recorders ask the
guard of their connection before each event; the owner of the stage beats it, and opens it again once it has looked.
Processes that own nothing have a guard that never closes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from bus.interface import Connection


class LagGuard:
    """Closes by itself when it was not beaten for ``limit_s``; opens by :meth:`open` alone."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._limit_s = 0.0
        self._beaten_at = 0.0
        self._closed = False
        self._listeners: list[Callable[[], None]] = []

    def arm(self, limit_s: float) -> None:
        """From now on the guard wants beats at least every ``limit_s`` seconds; 0: it never closes."""
        self._limit_s = limit_s
        self._beaten_at = self._now()

    def passes(self) -> bool:
        """Whether something may leave now."""
        if self._limit_s and not self._closed and self._now() - self._beaten_at > self._limit_s:
            self._closed = True
        return not self._closed

    def beat(self) -> bool:
        """The event loop runs; False where it stood still so long that ownership must be checked."""
        passes = self.passes()
        self._beaten_at = self._now()
        return passes

    def open(self) -> None:
        """Ownership was checked; what was held back may leave."""
        self._beaten_at = self._now()
        if self._closed:
            self._closed = False
            for listener in list(self._listeners):
                listener()

    def on_open(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)


_GUARDS: WeakKeyDictionary[Connection, LagGuard] = WeakKeyDictionary()


def guard_of(connection: Connection) -> LagGuard:
    """The guard of everything that leaves through ``connection``."""
    guard = _GUARDS.get(connection)
    if guard is None:
        guard = _GUARDS[connection] = LagGuard()
    return guard
