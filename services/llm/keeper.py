"""Values in KV buckets, kept in step with the conversation without ever holding it up.

``touch`` marks a value as changed and returns; a task of its own writes it with compare-and-set, joins changes that
follow each other closely, and tries again for as long as the store is away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from bus.clock import Clock
from bus.errors import BusError
from bus.kv import TypedBucket
from bus.logs import get_logger
from services.llm.deadline import Deadline, pause

log = get_logger(__name__)

T = TypeVar("T", bound=msgspec.Struct)

WRITE_INTERVAL_MS = 100
RETRY_FIRST_MS = 100
RETRY_MAX_MS = 2000


class Keeper(Generic[T]):
    """Keeps one key of one bucket.

    Args:
        change: the value to write, made from the value that stands there (None: none does).
    """

    def __init__(self, bucket: TypedBucket[T], key: str, change: Callable[[T | None], T], clock: Clock) -> None:
        self._bucket = bucket
        self._key = key
        self._change = change
        self._clock = clock
        self._touched = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._last: T | None = None
        self._task: asyncio.Task[None] | None = None

    def touch(self) -> None:
        """The value has changed. Returns at once."""
        self._touched.set()
        self._written.clear()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name="kv-keeper")

    async def flush(self, timeout_ms: int) -> bool:
        """Wait until the last change is written; False where the time did not suffice."""
        try:
            async with Deadline(self._clock, timeout_ms):
                await self._written.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Write no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep(self) -> None:
        while True:
            await self._touched.wait()
            self._touched.clear()
            await self._write()
            if not self._touched.is_set():
                self._written.set()
            await pause(self._clock, WRITE_INTERVAL_MS)

    async def _write(self) -> None:
        delay_ms = RETRY_FIRST_MS
        while True:
            try:
                if self._change(self._last) != self._last:
                    self._last = await self._bucket.modify(self._key, self._change)
                return
            except BusError as error:
                log.warning("save_failed", message=f"a value can't be saved yet ({type(error).__name__}); trying again")
            await pause(self._clock, delay_ms)
            delay_ms = min(delay_ms * 2, RETRY_MAX_MS)
