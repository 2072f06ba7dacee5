"""What every process tells of itself: its readiness, its event loop, its connection, what it has not stored yet."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from bus import metrics, publish, tracing
from bus.client import NatsConnection
from bus.health import Health
from bus.metrics import process, workers
from bus.queue_watch import QueueWatch

SAMPLE_S = 0.25


class Vitals:
    """From the first page served until the process ends."""

    def __init__(self, service: str, version: str, health: Health) -> None:
        self._service = service
        self._tasks: list[asyncio.Task[None]] = []
        metrics.begin(service, version)
        process.READY.read(lambda: float(health.ready()["ready"]))
        process.STORE_PENDING.read(publish.pending_of_all)
        process.STORE_DROPPED.read(lambda: publish.figures.dropped)
        process.HANDLER_SECONDS.read_each(_handler_times)
        process.HANDLER_ERRORS.read_each(_handler_errors)
        self._spawn(sample_lag(), "loop-lag")

    def connected(self, connection: NatsConnection) -> None:
        """There is a connection: tell of it, and of the stage's queue where the process is a worker."""
        process.BUS_CONNECTED.read(lambda: float(connection.connected))
        process.DROPPED_PUBLISHES.read_each(connection.drops.values)
        connection.on_reconnected(process.BUS_RECONNECTS.inc)
        consumer = f"{self._service}-assign"
        if consumer in workers.CONSUMERS:
            self._spawn(QueueWatch(connection, consumer).watch_forever(), "queue-watch")

    def end(self) -> None:
        """Measure no more."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work, name=name))


async def sample_lag() -> None:
    """How much later than asked a timer comes: what every message, packet and command waits for, too."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + SAMPLE_S
        await asyncio.sleep(SAMPLE_S)
        process.LOOP_LAG.observe(max(0.0, loop.time() - due))


def _handlers() -> Iterable[tuple[str, tracing.HandlerFigures]]:
    """Subject template and figures; what else is kept among them has no template behind its name."""
    for name, figures in list(tracing.all_figures().items()):
        subject = name.partition(" ")[2]
        if "." in subject:
            yield subject, figures


def _handler_times() -> Iterable[tuple[tuple[str, ...], Sequence[int], float]]:
    return [((subject,), tuple(figures.buckets), figures.total_ms / 1000) for subject, figures in _handlers()]


def _handler_errors() -> Iterable[tuple[tuple[str, ...], float]]:
    return [((subject,), float(figures.errors)) for subject, figures in _handlers()]
