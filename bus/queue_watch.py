"""How many new calls wait for a stage, and how long: its durable consumer is asked every few seconds.

One request of some hundred bytes, a second one only where something waits. Every worker of a stage asks for itself and
tells the same, so that the figure outlives any of them; workers that start together spread their questions.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, NamedTuple, Protocol

from bus.errors import BusError
from bus.jetstream import NO_MESSAGE_FOUND, ApiError, parse_time
from bus.logs import get_logger
from bus.metrics import workers
from bus.topology import CALLS
from schemas.call import CallOffered
from schemas.subjects import event_subject

log = get_logger(__name__)

INTERVAL_S = 5.0
SPREAD_S = 2.0
OFFERS = event_subject(CallOffered, "*", "*")


class Asker(Protocol):
    """The part of a connection that this file needs."""

    async def api(self, name: str, body: dict[str, Any] | None = None, timeout_ms: int = 5000) -> dict[str, Any]: ...


class QueueState(NamedTuple):
    """``pending``: given to nobody yet. ``unacknowledged``: given to a worker that has not taken them yet.

    ``oldest_s``: age of the oldest of both by the server's clock, 0.0 where there is none.
    """

    pending: int
    unacknowledged: int
    oldest_s: float


class QueueWatch:
    """Keeps the figures of one consumer. What can't be asked now is not told: an old figure would be a wrong one."""

    def __init__(self, server: Asker, consumer: str) -> None:
        self.state: QueueState | None = None
        self._server = server
        self._consumer = consumer
        for figure, field in (
            (workers.QUEUE_PENDING, "pending"),
            (workers.QUEUE_UNACKNOWLEDGED, "unacknowledged"),
            (workers.QUEUE_OLDEST, "oldest_s"),
        ):
            figure.read_each(lambda field=field: self._told(field))  # type: ignore[misc]

    def _told(self, field: str) -> list[tuple[tuple[str, ...], float]]:
        state = self.state
        return [] if state is None else [((self._consumer,), float(getattr(state, field)))]

    async def watch_forever(self) -> None:
        """The task that asks."""
        while True:
            try:
                self.state = await self.look()
            except (BusError, KeyError, ValueError) as error:
                if self.state is not None:
                    log.info("queue_unknown", message=f"consumer {self._consumer} can't be asked now: {error}")
                self.state = None
            await asyncio.sleep(INTERVAL_S + SPREAD_S * random.random())

    async def look(self) -> QueueState:
        """Ask now. Raises ``BusError``; ``KeyError`` or ``ValueError`` where the answer lacks what it should hold."""
        found = await self._server.api(f"CONSUMER.INFO.{CALLS}.{self._consumer}")
        pending, unacknowledged = int(found["num_pending"]), int(found["num_ack_pending"])
        oldest_s = 0.0
        if pending or unacknowledged:
            # Everything up to the floor is settled: the first offer behind it is the oldest that is not.
            oldest_s = await self._age(int(found["ack_floor"]["stream_seq"]) + 1, parse_time(found["ts"]))
        return QueueState(pending, unacknowledged, oldest_s)

    async def _age(self, sequence: int, now_us: int) -> float:
        try:
            answer = await self._server.api(f"STREAM.MSG.GET.{CALLS}", {"seq": sequence, "next_by_subj": OFFERS})
        except ApiError as error:
            if error.code == NO_MESSAGE_FOUND:
                return 0.0  # it was taken, or forgotten by the stream, between the two questions
            raise
        return max(0, now_us - parse_time(answer["message"]["time"])) / 1_000_000
