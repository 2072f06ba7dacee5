"""Services kept ready: to connect one costs a caller's time, so it is done before somebody needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar, cast

from bus.logs import get_logger
from services.pipecat.errors import ServiceChoiceError, ServiceError
from services.pipecat.harness import Harness

log = get_logger(__name__)

IDLE_S = 60.0
"""A service beyond the spare ones is closed when nobody needed it for this long."""
CLOSING_S = 20.0
STARTS_AT_ONCE = 8
"""To make a service is work, such as reading certificates; more at once would all be late."""

H = TypeVar("H", bound=Harness)


class _Idle(NamedTuple, Generic[H]):
    harness: H
    since: float


class ServicePool(Generic[H]):
    """Services of one recipe. All of it runs in a host's thread."""

    def __init__(self, make: Callable[[], H], *, spare: int, most: int) -> None:
        """``spare``: so many wait ready beside those in use. ``most``: no more exist at once; 0: no limit."""
        self._make = make
        self._spare = spare
        self._most = most
        self._idle: list[_Idle[H]] = []
        self._open = 0
        self._starting = 0
        self._freed = asyncio.Event()
        self._doorway = asyncio.Semaphore(STARTS_AT_ONCE)
        self._borrowers: set[asyncio.Task[Any]] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> int:
        """Services that wait ready."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """Services that exist: ready, in use, starting or closing."""
        return self._open

    @contextlib.asynccontextmanager
    async def lend(self, *, interruptible: bool, reusable: Callable[[H], bool] = lambda _: True) -> AsyncIterator[H]:
        """A connected service for one piece of work.

        Args:
            interruptible: where the work is cancelled, the service is interrupted, and kept if it stops.
            reusable: asked when the work has ended well: may the service be kept?

        Raises as :meth:`Harness.start`.
        """
        harness = await self._take()
        self._fill()
        borrower = cast("asyncio.Task[Any]", asyncio.current_task())
        self._borrowers.add(borrower)
        try:
            yield harness
        except asyncio.CancelledError:
            self._do(self._stop(harness) if interruptible else self._drop(harness))
            raise
        except BaseException:
            self._do(self._drop(harness))
            raise
        finally:
            self._borrowers.discard(borrower)
        harness.take = None
        if reusable(harness):
            self._keep(harness)
        else:
            self._do(self._drop(harness))

    async def fill(self) -> None:
        """Have the spare services ready. Raises as :meth:`Harness.start`."""
        while self.idle < self._spare and not self._full:
            self._keep(await self._start())

    async def close(self) -> None:
        """End all services, and the work that is done with them; waits for that, within bounds."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._do(self._drop(self._idle.pop().harness))
        for borrower in self._borrowers:
            borrower.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                while self._open:
                    self._freed.clear()
                    await self._freed.wait()

    @property
    def _full(self) -> bool:
        return 0 < self._most <= self._open

    async def _take(self) -> H:
        while True:
            while self._idle:
                harness = self._idle.pop().harness
                if harness.alive:
                    return harness
                self._do(self._drop(harness))
            if self._full:
                self._freed.clear()
                await self._freed.wait()
                continue
            async with self._doorway:
                # While somebody waited in the doorway, a service may have come back.
                if not self._idle and not self._full:
                    return await self._start()

    async def _start(self) -> H:
        self._open += 1
        self._starting += 1
        try:
            harness = self._make()
            await harness.start()
        except BaseException:
            self._open -= 1
            self._freed.set()
            raise
        finally:
            self._starting -= 1
        return harness

    def _fill(self) -> None:
        """Replace the spare service that was taken. Where that fails, the next piece of work tries it again."""
        if self.idle + self._starting < self._spare and not self._full and not self._closed:
            self._do(self._add_spare())

    async def _add_spare(self) -> None:
        try:
            self._keep(await self._start())
        except (ServiceError, ServiceChoiceError) as error:
            log.warning("pipecat_spare_failed", message=str(error))

    def _keep(self, harness: H) -> None:
        if self._closed or not harness.alive:
            self._do(self._drop(harness))
            return
        now = asyncio.get_running_loop().time()
        self._idle.append(_Idle(harness, now))
        self._freed.set()
        if self._sweep is None and self.idle > self._spare:
            self._sweep = asyncio.get_running_loop().call_later(IDLE_S, self._close_idle)

    def _close_idle(self) -> None:
        """The oldest come first: what is given back last is lent first."""
        self._sweep = None
        loop = asyncio.get_running_loop()
        while self.idle > self._spare and loop.time() - self._idle[0].since >= IDLE_S:
            self._do(self._drop(self._idle.pop(0).harness))
        if self.idle > self._spare:
            self._sweep = loop.call_later(IDLE_S, self._close_idle)

    async def _stop(self, harness: H) -> None:
        harness.take = _ignore
        stopped = False
        try:
            stopped = await harness.interrupt()
        finally:
            harness.take = None
            if stopped:
                self._keep(harness)
            else:
                await self._drop(harness)

    async def _drop(self, harness: H) -> None:
        try:
            await harness.close()
        finally:
            self._open -= 1
            self._freed.set()

    def _do(self, chore: Coroutine[Any, Any, None]) -> None:
        """Behind the scenes; the reference keeps the task alive."""
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def _ignore(_: Any) -> None:
    """What a service still says while it stops."""
