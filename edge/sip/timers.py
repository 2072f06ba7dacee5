"""Named deadlines in a heap: set, cancel, run what is due. `now` comes from outside."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable

Action = Callable[[float], None]
"""Called with `now` when the deadline has passed."""

_COMPACT_ABOVE = 256
"""Cancelled entries stay in the heap until it holds this many and they are the majority."""


class Deadlines:
    """At most one deadline per key."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._live: dict[Hashable, tuple[int, Action]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: Hashable, when: float, action: Action) -> None:
        """Run `action` at `when`; replaces what was set under this key."""
        self._number += 1
        self._live[key] = (self._number, action)
        heapq.heappush(self._heap, (when, self._number, key))
        if len(self._heap) > _COMPACT_ABOVE and len(self._heap) > 2 * len(self._live):
            self._heap = [entry for entry in self._heap if self._is_live(entry)]
            heapq.heapify(self._heap)

    def cancel(self, key: Hashable) -> None:
        """Forget the deadline; nothing happens where there is none."""
        self._live.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline; None where there is none."""
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Run everything due, earliest first. What an action sets for `now` or earlier runs too."""
        while (when := self.next()) is not None and when <= now:
            _, _, key = heapq.heappop(self._heap)
            _, action = self._live.pop(key)
            action(now)

    def _is_live(self, entry: tuple[float, int, Hashable]) -> bool:
        live = self._live.get(entry[2])
        return live is not None and live[0] == entry[1]
