"""Threads for engines that block. Daemons: a model that never returns can't keep the process from ending."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

THREADS = 2
"""Enough for an engine that keeps Python's lock while it works, and for one that does not on a small machine."""
WAITING_THREADS = 16
"""For an engine that waits for a provider: so many transcripts can be due at once."""
SPARE_THREADS = 8
"""Most threads that replace such as hang; after that the engine is broken and every run times out."""


class _Job(NamedTuple):
    work: Callable[[], Any]
    done: Callable[[Any, Exception | None], None]
    loop: asyncio.AbstractEventLoop


class EnginePool:
    """Runs jobs on a few threads; results come back on the event loop that submitted them."""

    def __init__(self, threads: int = THREADS) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._spare = SPARE_THREADS
        for _ in range(threads):
            self._add_thread()

    def submit(self, work: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        """Run ``work`` on a thread, then ``done(result, error)`` on this event loop."""
        self._jobs.put(_Job(work, done, asyncio.get_running_loop()))

    def replace_thread(self) -> None:
        """A job does not come back: let another thread do the work that waits behind it."""
        if self._spare > 0:
            self._spare -= 1
            self._add_thread()

    def close(self) -> None:
        """End the threads after the jobs that wait; those that hang are left behind."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _add_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=f"engine-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Do one job and forget it: what it holds must not live as long as the thread."""
        job = self._jobs.get()
        if job is None:
            return False
        result: Any = None
        error: Exception | None = None
        try:
            result = job.work()
        except Exception as raised:
            error = raised
        # The loop may have ended while the engine was at work; nobody waits for the result then.
        with contextlib.suppress(RuntimeError):
            job.loop.call_soon_threadsafe(job.done, result, error)
        return True
