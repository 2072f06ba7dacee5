"""New calls go to the worker of a stage that has least to do: one that has more leaves them to it for a moment.

A work queue serves those who wait in the order in which they came, which shares calls by chance. So a worker that is
ahead of another does not wait at the queue: it looks now and then whether a call lies there that nobody waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bus.interface import Claimable, WorkQueue

STEP_MS = 5.0
"""How long a call is left to others for each call that this worker has more than they."""
LONGEST_MS = 25.0
IDLE_MS = 50.0
"""Where nothing comes, a worker that stands back looks no more often than this."""
ASIDE_S = 2.0
"""How long a worker that could not take a call leaves all to others: having none, it would be offered every one."""
ROUNDING = 1e-6


class Load(NamedTuple):
    """What a worker has to do, and how much it may have."""

    calls: int
    slots: int


def patience_ms(mine: Load, others: Iterable[Load]) -> float:
    """How long a new call is left to others; 0: nobody who has room is a whole call behind this worker.

    Workers of different size are compared by how full they are.
    """
    least = min((other.calls / other.slots for other in others if other.calls < other.slots), default=None)
    if least is None:
        return 0.0
    ahead = mine.calls - least * mine.slots
    return min(STEP_MS * ahead, LONGEST_MS) if ahead > 1 - ROUNDING else 0.0


class FairShare:
    """Fetches new calls for one worker.

    Args:
        mine: its load.
        others: that of the other workers of the stage that could take a call.
    """

    def __init__(self, mine: Callable[[], Load], others: Callable[[], Iterable[Load]]) -> None:
        self._mine = mine
        self._others = others
        self._changed = asyncio.Event()
        self._empty = 0
        self._aside_until = 0.0

    def failed(self) -> None:
        """This worker could not take a call."""
        self._aside_until = asyncio.get_running_loop().time() + ASIDE_S

    def changed(self) -> None:
        """A load is another one than before."""
        self._changed.set()

    async def fetch(self, queue: WorkQueue, timeout_ms: int) -> list[Claimable]:
        """The next call; nothing where none comes in time, or where it is worth asking anew. Raises ``BusError``."""
        aside_s = self._aside_until - asyncio.get_running_loop().time()
        if aside_s > 0 and any(other.calls < other.slots for other in self._others()):
            await asyncio.sleep(min(aside_s, timeout_ms / 1000))
            return []
        patience = self._patience_ms()
        if not patience:
            self._empty = 0
            return await queue.fetch(1, timeout_ms)
        if not await self._stands_back(min(patience * 2**self._empty, IDLE_MS)):
            return []
        found = await queue.fetch(1, timeout_ms, wait=False)
        self._empty = 0 if found else min(self._empty + 1, 10)
        return found

    async def _stands_back(self, wait_ms: float) -> bool:
        """Wait; False where this worker is not ahead any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1000
        while (left := deadline - loop.time()) > ROUNDING:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
            if not self._patience_ms():
                return False
        return True

    def _patience_ms(self) -> float:
        return patience_ms(self._mine(), self._others())
