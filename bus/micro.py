"""Every process as a NATS micro service: ``nats service ls``, ``info``, ``stats`` and ``ping`` see it.

Speaks the protocol itself (NATS ADR-32), through the connection seam, so that it is the same on the in-memory bus.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from bus.interface import Connection, Message, Subscription
from bus.tracing import all_figures

PREFIX = "$SRV"
VERBS = ("PING", "INFO", "STATS")
HEALTH = "health"
QUEUE_GROUP = "q"

_ENCODER = msgspec.json.Encoder()


class MicroService:
    """Answers ``$SRV.*`` for one process and serves its endpoint ``health``.

    ``health`` gives the body of a health answer; its key ``ok`` says whether the process can work. ``metadata`` may be
    changed until and after :meth:`start`; values are text (ADR-32).
    """

    def __init__(
        self,
        connection: Connection,
        *,
        name: str,
        version: str,
        instance: str,
        description: str = "",
        metadata: Mapping[str, str] | None = None,
        health: Callable[[], Mapping[str, Any]] = lambda: {"ok": True},
    ) -> None:
        self.metadata: dict[str, str] = dict(metadata or {})
        self._connection = connection
        self._name = name.replace(".", "-")
        self._version = version
        self._instance = instance
        self._description = description
        self._health = health
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._subject = f"{self._name}.{instance}.{HEALTH}"
        self._subscriptions: list[Subscription] = []
        self._requests = 0
        self._errors = 0
        self._took_ns = 0
        self._last_error = ""

    async def start(self) -> None:
        """Answer from now on. Raises ``BusError`` where subscribing fails."""
        for verb, body in zip(VERBS, (self._ping, self._info, self._stats), strict=True):
            for subject in (
                f"{PREFIX}.{verb}",
                f"{PREFIX}.{verb}.{self._name}",
                f"{PREFIX}.{verb}.{self._name}.{self._instance}",
            ):
                self._subscriptions.append(await self._connection.subscribe(subject, self._answer(body)))
        self._subscriptions.append(await self._connection.subscribe(self._subject, self._serve_health))

    async def stop(self) -> None:
        """Answer no more."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.close()

    def _answer(self, body: Callable[[], dict[str, Any]]) -> Callable[[Message], None]:
        def answer(message: Message) -> None:
            if message.reply:
                self._connection.publish(message.reply, _ENCODER.encode(body()))

        return answer

    def _serve_health(self, message: Message) -> None:
        begun = time.perf_counter_ns()
        self._requests += 1
        try:
            data = _ENCODER.encode(dict(self._health()))
        except Exception as error:
            self._errors += 1
            self._last_error = type(error).__name__
            data = _ENCODER.encode({"ok": False, "error": type(error).__name__})
        self._took_ns += time.perf_counter_ns() - begun
        if message.reply:
            self._connection.publish(message.reply, data)

    def _identity(self, kind: str) -> dict[str, Any]:
        return {
            "type": f"io.nats.micro.v1.{kind}_response",
            "name": self._name,
            "id": self._instance,
            "version": self._version,
            "metadata": self.metadata,
        }

    def _ping(self) -> dict[str, Any]:
        return self._identity("ping")

    def _info(self) -> dict[str, Any]:
        endpoint = {"name": HEALTH, "subject": self._subject, "queue_group": QUEUE_GROUP, "metadata": {}}
        return {**self._identity("info"), "description": self._description, "endpoints": [endpoint]}

    def _stats(self) -> dict[str, Any]:
        """The endpoint, then every handler of the process: ADR-32 leaves it open what counts as an endpoint."""
        health = {
            "name": HEALTH,
            "subject": self._subject,
            "queue_group": QUEUE_GROUP,
            "num_requests": self._requests,
            "num_errors": self._errors,
            "last_error": self._last_error,
            "processing_time": self._took_ns,
            "average_processing_time": self._took_ns // self._requests if self._requests else 0,
        }
        handlers = [
            {
                "name": name.replace(" ", "-").replace(".", "_").replace("*", "any").replace(">", "all"),
                "subject": name.split(" ", 1)[-1],
                "queue_group": "",
                "num_requests": figures.count,
                "num_errors": figures.errors,
                "last_error": figures.last_error,
                "processing_time": round(figures.total_ms * 1e6),
                "average_processing_time": round(figures.mean_ms * 1e6),
                "data": {"max_ms": round(figures.max_ms, 3)},
            }
            for name, figures in sorted(all_figures().items())
        ]
        return {**self._identity("stats"), "started": self._started, "endpoints": [health, *handlers]}
