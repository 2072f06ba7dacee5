"""Spans are made a moment after what they tell of: nothing of a turn waits for its own trace.

Sixteen callers that stop at once have sixteen answers made in the same milliseconds, and a fold between two events of
one delays all others. What is said and heard waits here for :data:`DELAY_S`, in order, and is folded in slices with
room for the event loop between them. Times are those of the events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from bus.logs import get_logger
from bus.spans import Attributes
from bus.tracing import Observer
from schemas.base import Event
from schemas.call import CallOffered

log = get_logger(__name__)

DELAY_S = 0.1
SLICE = 16
"""Events folded in a row, half a millisecond or so."""
BREATH_S = 0.005
"""Between two slices."""


class LaterObserver:
    """Tells ``observer`` what it is told itself, a little later and in the same order. Of one event loop."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """What was not told yet."""
        return len(self._waiting)

    def claimed(self, offered: CallOffered, epoch: int, takeover: bool, now_us: int) -> None:
        """A call is this process's from ``now_us`` on."""
        self._add(partial(self._observer.claimed, offered, epoch, takeover, now_us))

    def said(self, event: Event) -> None:
        """This process records an event."""
        self._add(partial(self._observer.said, event))

    def heard(self, event: Event, received_us: int, live: bool) -> None:
        """An event has come."""
        self._add(partial(self._observer.heard, event, received_us, live))

    def left(self, call_id: str) -> None:
        """This process has let go of a call."""
        self._add(partial(self._observer.left, call_id))

    def annotate(self, call_id: str, turn: int, attributes: Attributes) -> None:
        """What no event holds."""
        self._add(partial(self._observer.annotate, call_id, turn, attributes))

    def sampled(self, call_id: str) -> bool:
        """Whether a trace goes out, as far as is known now."""
        return self._observer.sampled(call_id)

    def catch_up(self) -> None:
        """Tell everything that waits, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell(len(self._waiting))

    def _add(self, tell: Callable[[], None]) -> None:
        self._waiting.append(tell)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._next)

    def _next(self) -> None:
        self._timer = None
        self._tell(SLICE)
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(BREATH_S, self._next)

    def _tell(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            tell = self._waiting.popleft()
            try:
                tell()
            except Exception:
                log.exception("trace_failed", message="something that happened is missing in the trace")
