"""Engines that are asked one after the other, or two at once: whoever has output first does the work.

What llm and tts have in common: the run of an engine that is iterated by a task of its own (:class:`Reader`), and the
race for the first output (:class:`Race`). Which engine is next says ``services.resilience``. Time is the event loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from bus.logs import get_logger
from services.resilience.attempts import CUT, EMPTY, FAILED, TIMEOUT, Attempt, Attempts

log = get_logger(__name__)

T = TypeVar("T")

STOP_S = 2.0
"""An engine may take so long to stop; nobody waits for it."""


class EmptyError(Exception):
    """An engine ended and gave nothing."""


class RubbishError(Exception):
    """An engine gave something that is none of what it is to give; the text says what, and never quotes it."""


class StalledError(Exception):
    """An engine gave nothing for too long, after its first output."""

    def __init__(self, limit_ms: float) -> None:
        super().__init__(f"nothing for {limit_ms:.0f} ms")


def broken_off(error: Exception) -> tuple[str, str]:
    """Why an engine did not go on after its first output, and the kind of error."""
    if isinstance(error, StalledError):
        return TIMEOUT, str(error)
    return CUT, type(error).__name__


def explain(own: type[Exception], error: Exception) -> str:
    """What the log may say of an error: somebody else's text may quote the caller, or what was to be said.

    ``own``: the stage's error, whose text never does.
    """
    return str(error) if isinstance(error, own | RubbishError | StalledError | EmptyError) else type(error).__name__


def now_ms() -> float:
    """The event loop's time."""
    return asyncio.get_running_loop().time() * 1000


class Reader(Generic[T]):
    """An engine's run, iterated from its first step to its last by one task, whoever waits for the steps.

    So a wait that is given up, or goes on in another task, leaves the engine's own code in peace. The next step is
    asked for only when somebody waits for it.
    """

    _stopping: set[asyncio.Task[None]] = set()

    def __init__(self, steps: AsyncIterable[T], stop: Callable[[], Awaitable[None] | None], name: str) -> None:
        """``stop`` ends the engine's work; :meth:`close` calls it. ``name``: of the engine, for the log."""
        self._steps = steps
        self._stop = stop
        self._name = name
        self._wanted = asyncio.Event()
        self._step: asyncio.Future[T | None] | None = None
        self._closed = False
        self.waiting_since_ms: float | None = None
        """Since when the next step is waited for; None: it is not."""
        self._task = asyncio.get_running_loop().create_task(self._read(), name="engine-reader")

    @property
    def waited_ms(self) -> float:
        """How long the next step has been waited for by now."""
        return 0.0 if self.waiting_since_ms is None else now_ms() - self.waiting_since_ms

    async def next(self) -> T | None:
        """The next step; None: it was the last one, or the reader is closed. Raises what the engine raises. A wait that
        is given up is not to be taken up again: close the reader."""
        if self._closed or self._task.done():
            return None
        self.waiting_since_ms = now_ms()
        self._step = asyncio.get_running_loop().create_future()
        self._wanted.set()
        step = await self._step
        self.waiting_since_ms = None
        return step

    def close(self) -> None:
        """Stop the engine. What takes it time it does by itself."""
        if self._closed:
            return
        self._closed = True
        try:
            stopping = self._stop()
        except Exception as error:
            stopping = None
            self._tell(error)
        if stopping is not None:
            self._keep(asyncio.get_running_loop().create_task(self._await(stopping), name="engine-stop"))
        if not self._task.done():
            self._task.cancel()
            self._keep(self._task)
        self._give(None)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _read(self) -> None:
        iterator = None
        try:
            iterator = aiter(self._steps)
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                self._give(await anext(iterator))
        except StopAsyncIteration:
            self._give(None)
        except asyncio.CancelledError:
            if not self._closed:
                self._raise(RubbishError("it cancelled the task that reads it"))
            raise
        except Exception as error:
            self._raise(error)
        finally:
            if isinstance(iterator, AsyncGenerator):
                with contextlib.suppress(Exception):
                    await iterator.aclose()

    def _give(self, step: T | None) -> None:
        if self._step is not None and not self._step.done():
            self._step.set_result(step)

    def _raise(self, error: Exception) -> None:
        if self._step is not None and not self._step.done():
            self._step.set_exception(error)

    async def _await(self, stopping: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await stopping
        except Exception as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        log.warning("engine_stop_failed", message=f"engine {self._name}: {type(error).__name__} when it was stopped")


class Runner(Protocol):
    """An engine at work on a piece of work."""

    async def first(self) -> None:
        """Returns when it has output. Raises :class:`EmptyError` where it ended without, else what the engine
        raises."""

    def close(self) -> None:
        """Stop it, now."""


R = TypeVar("R", bound=Runner)


class _Entry(Generic[R]):
    """A runner in the race."""

    def __init__(self, attempt: Attempt, begun_ms: float, *, hedge: bool) -> None:
        self.attempt = attempt
        self.begun_ms = begun_ms
        self.hedge = hedge
        self.runner: R | None = None
        self.task: asyncio.Task[None]


class Race(Generic[R]):
    """Finds who does a piece of work, or the rest of one: the first engine that has output."""

    def __init__(
        self,
        attempts: Attempts,
        start: Callable[[int], R],
        *,
        attempt_ms: float,
        hedge_ms: float = 0.0,
        explain: Callable[[Exception], str],
    ) -> None:
        """Args:
        start: has the engine of this index begin.
        attempt_ms: all tries of one engine together have so long while another engine is left to be asked.
        hedge_ms: after so long without output the next engine is asked as well; 0: never.
        explain: what the log may say of an error.
        """
        self._attempts = attempts
        self._start = start
        self._attempt_ms = attempt_ms
        self._hedge_ms = hedge_ms
        self._explain = explain
        self._entries: list[_Entry[R]] = []
        self._first_ms: dict[int, float] = {}
        self._hedged = False
        self._closed = False

    async def winner(self) -> tuple[R, Attempt] | None:
        """Who has output first. The others are stopped. None: the race was closed.

        Raises:
            StageDownError: nobody is left.
        """
        self._begun_ms = now_ms()
        try:
            while not self._closed:
                self._send_off()
                if not self._entries:
                    raise self._attempts.down()
                tasks = [entry.task for entry in self._entries]
                await asyncio.wait(tasks, timeout=self._wait_s(), return_when=asyncio.FIRST_COMPLETED)
                if (won := self._finished()) is not None:
                    return won
                self._expire()
            return None
        finally:
            self.close()

    def close(self) -> None:
        """Stop everybody who is still in it."""
        self._closed = True
        for entry in self._entries:
            waited_ms = now_ms() - self._first_ms[entry.attempt.index]
            entry.attempt.let_go(now_ms(), waited_ms=waited_ms, limit_ms=self._attempt_ms, output=False)
            self._stop(entry)
        self._entries.clear()

    def _send_off(self) -> None:
        """Whoever is next begins: where nobody is at work, or one is and the time of the hedge has come."""
        if not self._entries:
            self._enter(self._attempts.next(now_ms()), hedge=False)
        elif (due_ms := self._hedge_due_ms()) is not None and now_ms() >= due_ms:
            attempt = self._attempts.next(now_ms(), beside=self._entries[0].attempt.index)
            self._hedge_ms = 0.0
            self._hedged = attempt is not None
            self._enter(attempt, hedge=True)

    def _hedge_due_ms(self) -> float | None:
        if not self._hedge_ms or len(self._entries) != 1:
            return None
        return self._begun_ms + self._hedge_ms

    def _enter(self, attempt: Attempt | None, *, hedge: bool) -> None:
        if attempt is None:
            return
        entry: _Entry[R] = _Entry(attempt, now_ms(), hedge=hedge)
        self._first_ms.setdefault(attempt.index, entry.begun_ms)
        entry.task = asyncio.get_running_loop().create_task(self._try(entry), name="engine-attempt")
        # A loser's error is nobody's: it is not to be missed by the event loop.
        entry.task.add_done_callback(_error_of)
        self._entries.append(entry)

    async def _try(self, entry: _Entry[R]) -> None:
        if entry.attempt.pause_ms:
            await asyncio.sleep(entry.attempt.pause_ms / 1000)
        entry.runner = self._start(entry.attempt.index)
        await entry.runner.first()

    def _wait_s(self) -> float | None:
        """Until something is to be done though nobody has finished."""
        due = [due for entry in self._entries if (due := self._due_ms(entry)) > now_ms()]
        if (hedge_ms := self._hedge_due_ms()) is not None:
            due.append(hedge_ms)
        return max(0.0, min(due) - now_ms()) / 1000 if due else None

    def _due_ms(self, entry: _Entry[R]) -> float:
        return self._first_ms[entry.attempt.index] + self._attempt_ms

    def _finished(self) -> tuple[R, Attempt] | None:
        for entry in [entry for entry in self._entries if entry.task.done()]:
            self._entries.remove(entry)
            error = _error_of(entry.task)
            if error is None:
                assert entry.runner is not None
                if self._hedged:
                    self._attempts.roster.figures.hedge("hedge" if entry.hedge else "primary")
                return entry.runner, entry.attempt
            why = EMPTY if isinstance(error, EmptyError) else FAILED
            self._failed(entry, why, type(error).__name__, self._explain(error))
        return None

    def _expire(self) -> None:
        """Those whose time is over are out of it, if somebody else is at work or left to be asked."""
        for entry in list(self._entries):
            others = len(self._entries) > 1 or self._attempts.others(now_ms(), entry.attempt.index)
            if now_ms() >= self._due_ms(entry) and others:
                self._entries.remove(entry)
                kind = f"nothing for {self._attempt_ms:.0f} ms"
                self._failed(entry, TIMEOUT, kind, kind)

    def _failed(self, entry: _Entry[R], why: str, kind: str, text: str) -> None:
        name = entry.attempt.name
        log.warning("engine_error", message=f"engine {name}: {text}", engine=name, why=why)
        entry.attempt.failed(now_ms(), why, kind)
        self._stop(entry)

    def _stop(self, entry: _Entry[R]) -> None:
        entry.task.cancel()
        if entry.runner is not None:
            entry.runner.close()


def _error_of(task: asyncio.Task[None]) -> Exception | None:
    """What a task ended with. One that was cancelled by nobody here was cancelled by its engine."""
    if task.cancelled():
        return RubbishError("it cancelled the task that waits for it")
    error = task.exception()
    return error if error is None or isinstance(error, Exception) else RubbishError(type(error).__name__)
