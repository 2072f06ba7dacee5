"""How many new calls wait for a stage, and how long: its durable consumer is asked every few seconds.

One request of some hundred bytes, which every worker of the stage makes for itself, so that the figures outlive any of
them. The age is found without reading a message, for not every stage may read the record: a call that was pending at
an earlier look and can't have been delivered since has waited at least since then, and so has one that keeps the
consumer's acknowledgements from moving on. It is short by one interval at most.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from bus.errors import BusError
from bus.logs import get_logger
from bus.metrics import workers
from bus.topology import CALLS

log = get_logger(__name__)

INTERVAL_S = 5.0
SPREAD_S = 2.0
LOOKS_KEPT = 128


class Asker(Protocol):
    """The part of a connection that this file needs."""

    async def api(self, name: str, body: dict[str, Any] | None = None, timeout_ms: int = 5000) -> dict[str, Any]: ...


class Look(NamedTuple):
    """The consumer at one moment.

    Attributes:
        at_s: monotonic seconds.
        pending: calls given to nobody yet.
        unacknowledged: calls given to a worker that has not taken them yet.
        delivered: deliveries so far, repeated ones too.
        floor: stream sequence up to which everything is settled.
    """

    at_s: float
    pending: int
    unacknowledged: int
    delivered: int
    floor: int

    @property
    def waiting(self) -> int:
        return self.pending + self.unacknowledged

    def waits_still(self, now: Look) -> bool:
        """Whether a call that waited here is sure to wait at the later look ``now``, too."""
        same_floor = self.waiting > 0 and self.floor == now.floor
        return now.waiting > 0 and (self.pending > now.delivered - self.delivered or same_floor)


class QueueWatch:
    """Keeps the figures of one consumer. What can't be asked now is not told: an old figure would be a wrong one."""

    def __init__(self, server: Asker, consumer: str, now: Callable[[], float] = time.monotonic) -> None:
        self.state: Look | None = None
        self._server = server
        self._consumer = consumer
        self._now = now
        self._looks: list[Look] = []
        workers.QUEUE_PENDING.read_each(lambda: self._told(lambda look: look.pending))
        workers.QUEUE_UNACKNOWLEDGED.read_each(lambda: self._told(lambda look: look.unacknowledged))
        workers.QUEUE_OLDEST.read_each(lambda: self._told(lambda _: self.oldest_s))

    async def watch_forever(self) -> None:
        """The task that asks."""
        while True:
            try:
                await self.look()
            except (BusError, KeyError) as error:
                if self.state is not None:
                    log.info("queue_unknown", message=f"consumer {self._consumer} can't be asked now: {error}")
                self.state = None
            await asyncio.sleep(INTERVAL_S + SPREAD_S * random.random())

    async def look(self) -> None:
        """Ask now. Raises ``BusError``; ``KeyError`` where the answer lacks what it should hold."""
        found = await self._server.api(f"CONSUMER.INFO.{CALLS}.{self._consumer}")
        now = Look(
            self._now(),
            int(found["num_pending"]),
            int(found["num_ack_pending"]),
            int(found["delivered"]["consumer_seq"]),
            int(found["ack_floor"]["stream_seq"]),
        )
        if self._looks and (now.delivered < self._looks[-1].delivered or now.floor < self._looks[-1].floor):
            self._looks = []  # the consumer was made anew
        self._looks = [look for look in self._looks if look.waits_still(now)][: LOOKS_KEPT - 1]
        self._looks.append(now)
        self.state = now

    @property
    def oldest_s(self) -> float:
        """How long the oldest call has waited at least; 0 where none waits."""
        return self._now() - self._looks[0].at_s if self._looks and self._looks[-1].waiting else 0.0

    def _told(self, field: Callable[[Look], float]) -> list[tuple[tuple[str, ...], float]]:
        state = self.state
        return [] if state is None else [((self._consumer,), float(field(state)))]
