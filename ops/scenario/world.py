"""Virtual time: what is due next happens next, and what is said on the bus is heard a moment later. Pure.

No clock, no coroutine, no chance: the same scenario gives the same events to the millisecond.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from ops.scenario.document import Faults
from ops.scenario.expectations import CALL_ID, SeenEvent, seen
from schemas.base import Event, type_name

BUS_MS = 2
"""From one process to another."""
DUPLICATE_MS = 40
"""A message that comes twice comes again so much later."""

E = TypeVar("E", bound=Event)
Handler = Callable[[Event], None]


class World:
    """Time, and the bus of one call.

    Attributes:
        now_ms: media time of the call.
        events: all that was said, in order.
        quiet_since_ms: when something was said last.
    """

    def __init__(self, faults: Faults = Faults()) -> None:  # noqa: B008
        self.now_ms = 0
        self.events: list[SeenEvent] = []
        self.quiet_since_ms = 0
        self._faults = faults
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._followers: list[tuple[Handler, bool, bool]] = []
        self._said: Counter[str] = Counter()

    # Time.

    def at(self, at_ms: int, action: Callable[[], None]) -> None:
        """Do this then; what is due at the same time is done in the order in which it was asked for."""
        heapq.heappush(self._due, (max(at_ms, self.now_ms), self._order, action))
        self._order += 1

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Do this in so long."""
        self.at(self.now_ms + delay_ms, action)

    def run(self, over: Callable[[], bool], limit_ms: int) -> None:
        """Let time pass until it is over, or nothing is due any more, or ``limit_ms``."""
        while self._due and not over():
            at_ms, _, action = heapq.heappop(self._due)
            if at_ms > limit_ms:
                return
            self.now_ms = at_ms
            action()

    # The bus.

    def follow(self, handler: Handler, *, at_once: bool = False, faulty: bool = False) -> None:
        """Hear what is said. ``at_once``: without the bus between; ``faulty``: with the scenario's faults."""
        self._followers.append((handler, at_once, faulty))

    def say(self, event_type: type[E], **fields: Any) -> E:
        """Record an event of the call, now."""
        event = event_type(call_id=CALL_ID, at_us=self.now_ms * 1000, **fields)
        name = type_name(event_type)
        self._said[name] += 1
        self.events.append(seen(event, self.now_ms))
        self.quiet_since_ms = self.now_ms
        for handler, at_once, faulty in self._followers:
            if at_once:
                handler(event)
                continue
            times = self._times(name) if faulty else 1
            for number in range(times):
                self.after(BUS_MS + number * DUPLICATE_MS, _given(handler, event))
        return event

    def _times(self, name: str) -> int:
        """How often the event that was just said arrives."""
        this = (name, f"{name}#{self._said[name]}")
        if any(fault in this for fault in self._faults.drop):
            return 0
        return 2 if any(fault in this for fault in self._faults.duplicate) else 1


def _given(handler: Handler, event: Event) -> Callable[[], None]:
    return lambda: handler(event)
