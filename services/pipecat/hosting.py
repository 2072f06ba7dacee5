"""An event loop in a thread of its own, in which services run.

A service of the catalogue is anybody's code: it may load a model in its constructor, or compute between two awaits. In
this thread it holds up nothing but other services.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from bus.logs import get_logger
from services.pipecat.quiet import THREAD_PREFIX

log = get_logger(__name__)

T = TypeVar("T")


class Host:
    """The loop and its thread, begun with the first work. Every method may be called from any thread."""

    def __init__(self, stage: str) -> None:
        self._name = f"{THREAD_PREFIX}-{stage}"
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run it; to cancel the future cancels the work."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call it soon, after what was asked for before."""
        self._running().call_soon_threadsafe(function, *arguments)

    def stream(self, work: Callable[[Giver[T]], Coroutine[Any, Any, None]]) -> Stream[T]:
        """What ``work`` gives, for the event loop that runs here."""
        return Stream(self, work)

    def close(self) -> None:
        """End the thread, with whatever still runs in it."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_exception_handler(_tell_exception)
                self._loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix=f"{self._name}-work"))
                threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True).start()
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=1) if tasks else asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Stream(Generic[T]):
    """Items made in a host's thread, taken on another event loop, in order. Iterate it once.

    It ends when the work ends, raises what the work raised, and ends at once where it is cancelled.
    """

    def __init__(self, host: Host, work: Callable[[Giver[T]], Coroutine[Any, Any, None]]) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Queue[T | None] = asyncio.Queue()
        self._waited_for: asyncio.Event | None = None
        self._cancelled = False
        self._work = host.start(work(Giver(self)))
        self._work.add_done_callback(lambda _: self.do(self._ready.put_nowait, None))

    def cancel(self) -> None:
        """Stop the work and forget what is ready."""
        if not self._cancelled:
            self._cancelled = True
            self._work.cancel()
            self._ready.put_nowait(None)

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        item = None if self._cancelled else await self._ready.get()
        self._tell_taken()
        if self._cancelled:
            raise StopAsyncIteration
        if item is not None:
            return item
        # Whoever asks again is told the same again.
        self._ready.put_nowait(None)
        if not self._work.cancelled() and (error := self._work.exception()) is not None:
            raise error
        raise StopAsyncIteration

    def give(self, item: T) -> None:
        """In the host's thread."""
        self.do(self._ready.put_nowait, item)

    def wait_for_taking(self, taken: asyncio.Event) -> None:
        """On this loop. ``taken``, an event of the host's, is set once nothing is ready."""
        self._waited_for = taken
        self._tell_taken()

    def do(self, function: Callable[..., object], *arguments: Any) -> None:
        """On this loop, soon, from any thread."""
        # Nobody waits on a loop that has ended.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _tell_taken(self) -> None:
        if self._waited_for is not None and self._ready.empty():
            self._host.call(self._waited_for.set)
            self._waited_for = None


class Giver(Generic[T]):
    """The end of a stream in the host's thread."""

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream

    def __call__(self, item: T) -> None:
        self._stream.give(item)

    async def taken(self) -> None:
        """Wait until everything given so far has been taken."""
        event = asyncio.Event()
        self._stream.do(self._stream.wait_for_taking, event)
        await event.wait()


def _tell_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Something that nobody awaited: its kind only, for its text may quote a caller."""
    if (error := context.get("exception")) is not None:
        log.info("pipecat_task_failed", message=f"a task of a service ended with {type(error).__name__}")
