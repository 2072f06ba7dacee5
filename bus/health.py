"""Whether a process lives and takes work, and in one sentence what is wrong and what to do.

The event loop writes down every quarter of a second that it turns, and what the process lacks; whoever asks (the pages
of ``bus.pages`` from their own thread, the micro service) only reads that. So an answer never waits for the loop, and a
loop that is stuck is seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

BEAT_S = 0.25
STUCK_S = 2.0
"""A loop that has not turned for so long is stuck: no audio of any call has moved meanwhile."""

Check = Callable[[], str]
"""What is lacking now and what to do about it; empty: nothing."""


class Health:
    """What one process says of itself.

    Attributes:
        waits_for: before it takes work: what it waits for, as a sentence.
        is_ready: it has begun to take work.
        draining: it hands its work over and takes no more.
        checks: asked by the loop at every beat, so they must be cheap; the first that lacks something is told.
    """

    def __init__(self, service: str, instance: str, now: Callable[[], float] = time.monotonic) -> None:
        self.service = service
        self.instance = instance
        self.waits_for = f"{service} is starting"
        self.is_ready = False
        self.draining = False
        self.checks: list[Check] = []
        self._now = now
        self._turned_at = now()
        self._lacks = ""

    def beat(self) -> None:
        """The loop turns. Called by the loop alone."""
        self._lacks = next(filter(None, (check() for check in self.checks)), "")
        self._turned_at = self._now()

    async def beat_forever(self) -> None:
        """The task of the loop that says so."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_S)

    def live(self) -> dict[str, Any]:
        """Does it live? ``ok``: its loop turns. ``why`` is empty where it does."""
        stuck = self._stuck()
        return self._answer(not stuck, stuck)

    def ready(self) -> dict[str, Any]:
        """Does it take work? ``why`` is empty where it does."""
        return self._answer(not self._stuck(), self._why())

    def _answer(self, ok: bool, why: str) -> dict[str, Any]:
        ready = not self._why()
        return {"ok": ok, "ready": ready, "why": why, "service": self.service, "instance": self.instance}

    def _why(self) -> str:
        """Why it takes no work; empty where it does."""
        if stuck := self._stuck():
            return stuck
        if self.draining:
            return f"{self.service} is draining: running calls end or move, new ones go to another process"
        return self._lacks if self.is_ready else self.waits_for

    def _stuck(self) -> str:
        still_s = self._now() - self._turned_at
        if still_s < STUCK_S:
            return ""
        return (
            f"the event loop of {self.service} has not turned for {still_s:.1f} s: the machine is overloaded or an "
            "engine blocks it; restart the process if this stays"
        )
