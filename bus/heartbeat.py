"""A worker says that it lives, and hears who else does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from bus import codec
from bus.clock import wall_us
from bus.errors import BusError, DecodeError
from bus.interface import Bucket, Connection, Message, Subscription
from bus.logs import get_logger
from bus.metrics import workers
from config.settings import OwnershipSection
from schemas import subjects
from schemas.session import Stage, WorkerRecord

log = get_logger(__name__)

RECORD_INTERVAL_MS = 1000
PING_SUFFIX = "ping"


def ping_subject(stage: str, worker: str) -> str:
    """Where a worker answers whether it lives."""
    return f"{subjects.heartbeat(stage, worker)}.{PING_SUFFIX}"


class Heartbeat:
    """``hb.<stage>.<worker>`` every ``heartbeat_ms``, the same record in bucket ``workers`` once a second, and an
    answer to pings. Set ``calls``, ``slots``, ``draining`` and ``figures`` at will; the next beat carries them."""

    def __init__(
        self,
        connection: Connection,
        stage: Stage,
        worker: str,
        *,
        settings: OwnershipSection,
        slots: int = 0,
        engine: str = "",
    ) -> None:
        self.calls = 0
        self.slots = slots
        self.draining = False
        self.figures: dict[str, float] = {}
        self._connection = connection
        self._stage = stage
        self._worker = worker
        self._engine = engine
        self._interval_s = settings.heartbeat_ms / 1000
        self._started_us = wall_us()
        self._subject = subjects.heartbeat(stage.value, worker)
        self._bucket: Bucket | None = None
        self._ping: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def has_ended(self) -> bool:
        """Whether nothing is said any more although nobody stopped it."""
        return any(task.done() for task in self._tasks)

    def record(self) -> WorkerRecord:
        """The worker as it stands."""
        return WorkerRecord(
            stage=self._stage,
            worker=self._worker,
            calls=self.calls,
            slots=self.slots,
            draining=self.draining,
            engine=self._engine,
            host=socket.gethostname(),
            process_id=os.getpid(),
            started_us=self._started_us,
            at_us=wall_us(),
            figures=dict(self.figures),
        )

    async def start(self) -> None:
        """Begin. Raises ``NotProvisioned`` where bucket ``workers`` is missing."""
        self._bucket = await self._connection.bucket("workers")
        self._ping = await self._connection.subscribe(ping_subject(self._stage.value, self._worker), self._answer)
        self._tell_load()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._beat_forever()), loop.create_task(self._write_forever())]

    async def stop(self) -> None:
        """Stop, and take the record out of the bucket: the worker leaves, it did not die."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        if self._ping is not None:
            await self._ping.close()
        if self._bucket is not None:
            with contextlib.suppress(BusError):
                await self._bucket.delete(f"{self._stage.value}.{self._worker}")

    def _tell_load(self) -> None:
        stage = (self._stage.value,)
        workers.CALLS.read_each(lambda: [(stage, float(self.calls))])
        workers.SLOTS.read_each(lambda: [(stage, float(self.slots))])
        workers.UTILIZATION.read_each(lambda: [(stage, self.calls / self.slots)] if self.slots else [])

    def beat(self) -> None:
        """Say it now."""
        self._connection.publish(self._subject, codec.encode(self.record()))

    def _answer(self, message: Message) -> None:
        if message.reply:
            self._connection.publish(message.reply, codec.encode(self.record()))

    async def _beat_forever(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(self._interval_s)

    async def _write_forever(self) -> None:
        key = f"{self._stage.value}.{self._worker}"
        while self._bucket is not None:
            try:
                await self._bucket.put(key, codec.encode(self.record()))
            except BusError as error:
                log.debug("worker_record_failed", message=f"bucket workers does not take the record: {error}")
            await asyncio.sleep(RECORD_INTERVAL_MS / 1000)


class WorkerDirectory:
    """Who is alive, by heartbeat: ``free_slots`` tells whether a stage can take another call."""

    def __init__(self, connection: Connection, *, stale_ms: int = 1000) -> None:
        self._connection = connection
        self._stale_s = stale_ms / 1000
        self._heard: dict[tuple[str, str], tuple[float, WorkerRecord]] = {}
        self._subscription: Subscription | None = None

    async def start(self, stage: str = "*") -> None:
        """Listen to the heartbeats of ``stage``, or of all."""
        self._subscription = await self._connection.subscribe(subjects.heartbeat(stage, "*"), self._hear)

    async def close(self) -> None:
        if self._subscription is not None:
            await self._subscription.close()

    def workers(self, stage: str) -> list[WorkerRecord]:
        """Those of a stage that were heard lately."""
        now = asyncio.get_running_loop().time()
        return [record for (of, _), (at, record) in self._heard.items() if of == stage and now - at <= self._stale_s]

    def free_slots(self, stage: str) -> int:
        """Calls that the stage can still take, over all of its workers."""
        return sum(max(0, record.slots - record.calls) for record in self.workers(stage) if not record.draining)

    def _hear(self, message: Message) -> None:
        try:
            record = codec.decode(message.data, WorkerRecord)
        except DecodeError as error:
            log.warning("bad_heartbeat", message=f"a heartbeat can't be read: {error}")
            return
        now = asyncio.get_running_loop().time()
        if (record.stage.value, record.worker) not in self._heard:
            self._heard = {key: heard for key, heard in self._heard.items() if now - heard[0] <= self._stale_s}
        self._heard[(record.stage.value, record.worker)] = (now, record)
