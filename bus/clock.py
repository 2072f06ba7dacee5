"""The wall clock, identifiers made from it, and timers that a test can drive."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import time
from collections.abc import Callable
from typing import Protocol


def wall_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def uuid7_hex(at_us: int | None = None, entropy: bytes | None = None) -> str:
    """A UUIDv7 as 32 hexadecimal digits: sorts by time of creation (RFC 9562, section 5.7).

    ``at_us`` and ``entropy`` (10 bytes) are for tests; else wall clock and the system's random source.
    """
    milliseconds = (wall_us() if at_us is None else at_us) // 1000
    random_bits = int.from_bytes(os.urandom(10) if entropy is None else entropy, "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | random_bits
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return f"{value:032x}"


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Now, and later."""

    def now_us(self) -> int:
        """Microseconds since 1970."""

    def elapsed_us(self) -> int:
        """Microseconds since some moment: durations, which nobody who sets the wall clock can change."""

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once on the event loop after ``delay_ms``."""


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    def now_us(self) -> int:
        return wall_us()

    def elapsed_us(self) -> int:
        return time.monotonic_ns() // 1000

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_ms / 1000, callback)


class _ManualTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A clock that stands still until it is told to go on: timing tests without waiting."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = start_us
        self._timers: list[tuple[int, int, _ManualTimer]] = []
        self._numbers = itertools.count()

    def now_us(self) -> int:
        return self._now_us

    def elapsed_us(self) -> int:
        return self._now_us

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (self._now_us + round(delay_ms * 1000), next(self._numbers), timer))
        return timer

    async def advance(self, milliseconds: float) -> None:
        """Let time pass: due timers fire in order, and after each of them the tasks that it woke run."""
        end_us = self._now_us + round(milliseconds * 1000)
        await settle()
        while self._timers and self._timers[0][0] <= end_us:
            due_us, _, timer = heapq.heappop(self._timers)
            if timer.callback is None:
                continue
            self._now_us = max(self._now_us, due_us)
            timer.callback()
            await settle()
        self._now_us = end_us
        await settle()

    def stall(self, milliseconds: float) -> None:
        """Let time pass in which nothing runs, as in a process that gets none: timers due meanwhile fire late."""
        self._now_us += round(milliseconds * 1000)


async def settle(turns: int = 20) -> None:
    """Give every task that is ready its turn on the event loop, ``turns`` times."""
    for _ in range(turns):
        await asyncio.sleep(0)
