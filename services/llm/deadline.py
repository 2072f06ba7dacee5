"""Waits that end, on a clock that a test can drive."""

from __future__ import annotations

import asyncio
from types import TracebackType

from bus.clock import Clock


class Deadline:
    """``async with Deadline(clock, 500):`` raises ``TimeoutError`` in the block where it takes longer than 500 ms."""

    def __init__(self, clock: Clock, timeout_ms: float) -> None:
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._expired = False

    async def __aenter__(self) -> Deadline:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = self._clock.call_later(self._timeout_ms, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError(f"no answer within {self._timeout_ms:g} ms") from error

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()


async def pause(clock: Clock, milliseconds: float) -> None:
    """Let time pass."""
    over = asyncio.Event()
    timer = clock.call_later(milliseconds, over.set)
    try:
        await over.wait()
    finally:
        timer.cancel()
