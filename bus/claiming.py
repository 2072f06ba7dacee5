"""The task of a worker that takes new calls: what one attempt fails with ends none of those that follow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from bus.errors import BusError
from bus.logs import get_logger

log = get_logger(__name__)

ERROR_PAUSE_S = 0.2
SAY_AGAIN_S = 5.0
LACKING_S = 5.0
"""A server that restarts or elects is back sooner: until then a worker that gets no calls is well."""


class Claiming:
    """Does ``attempt`` again and again until ``over``.

    Args:
        stage: whose calls, for people.
        attempt: waits for a call and takes it; returns after a moment where none came.
        over: no more calls are taken.
    """

    def __init__(self, stage: str, attempt: Callable[[], Awaitable[None]], over: Callable[[], bool]) -> None:
        self._stage = stage
        self._attempt = attempt
        self._over = over
        self._task: asyncio.Task[None] | None = None
        self._fails_since: float | None = None
        self._why = ""

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._claim_forever(), name="claims")

    def cancel(self) -> None:
        """Stop in the middle of whatever is done: a call that was just about to come is lost for 3 s."""
        if self._task is not None:
            self._task.cancel()

    async def end(self, wait_s: float) -> None:
        """Let the last attempt end by itself; cancel it after ``wait_s``."""
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=wait_s)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def lacks(self) -> str:
        """Why no calls are taken, and what to do; empty where they are. Asked by the event loop."""
        if self._task is not None and self._task.done() and not self._over():
            return f"{self._stage} takes no calls any more: its task that claims them has ended; restart the process"
        if self._fails_since is None or asyncio.get_running_loop().time() - self._fails_since < LACKING_S:
            return ""
        return f"{self._stage} can't claim new calls: {self._why}; see its log and that of nats-server"

    async def _claim_forever(self) -> None:
        said_at = -SAY_AGAIN_S
        while not self._over():
            try:
                await self._attempt()
                self._fails_since = None
                continue
            except BusError as error:
                self._why, unexpected = str(error), None
            except Exception as error:
                self._why, unexpected = type(error).__name__, error
            now = asyncio.get_running_loop().time()
            if self._fails_since is None:
                self._fails_since = now
            if now - said_at >= SAY_AGAIN_S:
                said_at = now
                log.warning("no_offers", message=f"new calls can't be claimed now: {self._why}", exc_info=unexpected)
            await asyncio.sleep(ERROR_PAUSE_S)
