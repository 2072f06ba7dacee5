"""Threads for engines that block. Daemons: a model that never returns can't keep the process from ending."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

THREADS = 2
"""Enough for an engine that keeps Python's lock while it works, and for one that does not on a small machine."""
WAITING_THREADS = 16
"""For an engine that waits for a provider: so many transcripts can be due at once."""
SPARE_THREADS = 8
"""Most threads that replace such as hang; while they hang, the engine is broken and every run times out."""


class Job:
    """Work for a thread, and who waits for it. ``at_work``: a thread is in it now."""

    def __init__(self, work: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        self.work = work
        self.done = done
        self.context = contextvars.copy_context()
        self.at_work = self.replaced = False


class EnginePool:
    """Runs jobs on a few threads; results come back on the event loop that submitted them."""

    def __init__(self, threads: int = THREADS) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, asyncio.AbstractEventLoop] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._spare = SPARE_THREADS
        for _ in range(threads):
            self._add_thread()

    @property
    def threads(self) -> int:
        """How many there are, those that hang among them."""
        return self._threads

    def submit(self, work: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> Job:
        """Run ``work`` on a thread, then ``done(result, error)`` on this event loop."""
        job = Job(work, done)
        self._jobs.put((job, asyncio.get_running_loop()))
        return job

    async def call(self, work: Callable[[], None]) -> None:
        """Run ``work`` on a thread, and wait for it. Raises what it raises."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(_: None, error: Exception | None) -> None:
            if error is not None and not ended.done():
                ended.set_exception(error)
            elif not ended.done():
                ended.set_result(None)

        self.submit(work, end)
        await ended

    def replace_thread(self, job: Job) -> None:
        """Where a thread is in this job still, have another one do the work that waits behind it; the one that was
        replaced goes when it comes back."""
        with self._lock:
            if job.at_work and not job.replaced and self._spare > 0:
                job.replaced = True
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
        taken = self._jobs.get()
        if taken is None:
            return False
        job, loop = taken
        with self._lock:
            job.at_work = True
        result: Any = None
        error: Exception | None = None
        try:
            result = job.context.run(job.work)
        except Exception as raised:
            error = raised
        with self._lock:
            job.at_work = False
            if job.replaced:
                self._spare += 1
                self._threads -= 1
        # The loop may have ended while the engine was at work; nobody waits for the result then.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(job.done, result, error, context=job.context)
        return not job.replaced
