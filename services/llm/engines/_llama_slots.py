"""Who answers next: slots, each a context with a thread, lent out in the order in which they are asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from services.llm.engines._llama_library import Context, common_length

SAME_TOKENS = 32
"""Slots whose common beginning with a prompt differs by less are equally good."""


class Slot:
    """A context that answers one prompt at a time, and remembers it.

    Attributes:
        call_id: whose prompt it remembers.
        used: the number of the last answer that it was lent for; 0: none yet.
    """

    def __init__(self, context: Context, number: int) -> None:
        self.context = context
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"llama-{number}")
        self.call_id = ""
        self.used = 0


class _Waiting(NamedTuple):
    slot: asyncio.Future[Slot]
    call_id: str
    prompt: Sequence[int]


class Slots:
    """All slots of a model.

    A prompt goes to the slot that holds its call; else to one that was never used; else to the one whose remembered
    text begins like the prompt for longest, and among equals to the one that has rested for longest.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = tuple(slots)
        self._free = list(slots)
        self._waiting: deque[_Waiting] = deque()
        self._lent = 0

    async def lend(self, call_id: str, prompt: Sequence[int]) -> Slot:
        """Wait for a slot. To be given back with :meth:`give_back`."""
        if self._free and not self._waiting:
            return self._take(call_id, prompt)
        waiting = _Waiting(asyncio.get_running_loop().create_future(), call_id, prompt)
        self._waiting.append(waiting)
        try:
            return await waiting.slot
        except asyncio.CancelledError:
            if waiting.slot.done() and not waiting.slot.cancelled():
                self.give_back(waiting.slot.result())
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def give_back(self, slot: Slot) -> None:
        """A slot is free again; who waits for longest gets one."""
        self._free.append(slot)
        while self._free and self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.slot.done():
                waiting.slot.set_result(self._take(waiting.call_id, waiting.prompt))

    def forget_calls(self) -> None:
        """Whatever the slots remember, it is no call's: they count as never used."""
        for slot in self.slots:
            slot.call_id, slot.used = "", 0

    def _take(self, call_id: str, prompt: Sequence[int]) -> Slot:
        lengths = {slot: common_length(slot.context.tokens, prompt) for slot in self._free}
        best = max(lengths.values())
        slot = min(
            self._free,
            key=lambda slot: (
                not (call_id and slot.call_id == call_id and lengths[slot]),
                slot.used > 0,
                lengths[slot] + SAME_TOKENS <= best,
                slot.used,
            ),
        )
        self._free.remove(slot)
        self._lent += 1
        slot.call_id, slot.used = call_id, self._lent
        return slot

    def close(self) -> None:
        """Stop all work and let go of the contexts."""
        for slot in self.slots:
            slot.context.stop()
            slot.thread.submit(slot.context.close)
            slot.thread.shutdown(wait=True)
