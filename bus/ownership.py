"""Who owns a call in a stage: claiming, heartbeats, takeover, hand-over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from bus import codec
from bus.clock import wall_us
from bus.errors import BusError, RevisionConflict
from bus.heartbeat import Heartbeat
from bus.interface import Claimable, Connection
from bus.logs import get_logger
from config.settings import OwnershipSection
from schemas.call import CallOffered
from schemas.session import Owner, Stage

log = get_logger(__name__)


class Claim(NamedTuple):
    """A call that this worker now owns. ``takeover``: another owned it before (``previous_worker``)."""

    call_id: str
    tenant: str
    epoch: int
    takeover: bool
    offered: CallOffered
    previous_worker: str


class OwnedCall(Protocol):
    """What a stage does for one call."""

    async def release(self, why: str) -> None:
        """Let go at once and say nothing more: ``superseded``, ``handed_over`` or ``draining``."""


class StageOwner:
    """Claims calls for one worker of one stage."""

    def __init__(
        self,
        connection: Connection,
        stage: Stage,
        worker: str,
        *,
        slots: int,
        settings: OwnershipSection,
        accept: Callable[[Claim], Awaitable[OwnedCall]],
        engine: str = "",
    ) -> None:
        self.heartbeat = Heartbeat(connection, stage, worker, settings=settings, slots=slots, engine=engine)
        self.figures = self.heartbeat.figures
        self._connection = connection
        self._stage = stage
        self._worker = worker
        self._slots = slots
        self._accept = accept
        self._calls: dict[str, OwnedCall] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to claim calls. Raises ``NotProvisioned``."""
        self._owners = await self._connection.bucket("owners")
        self._queue = await self._connection.work_queue(f"{self._stage.value}-assign")
        await self.heartbeat.start()
        self._tasks.append(asyncio.get_running_loop().create_task(self._claim_loop()))

    async def drain(self, timeout_ms: int) -> None:
        """Take no more calls and hand over those owned."""
        for task in self._tasks:
            task.cancel()
        for call in list(self._calls.values()):
            await call.release("draining")
        await self.heartbeat.stop()

    async def finished(self, call_id: str) -> None:
        """The call is over: forget it."""
        self._calls.pop(call_id, None)
        with contextlib.suppress(BusError):
            await self._owners.delete(f"{self._stage.value}.{call_id}")

    async def _claim_loop(self) -> None:
        while True:
            if len(self._calls) >= self._slots:
                await asyncio.sleep(0.02)
                continue
            try:
                for claimable in await self._queue.fetch(1, 1000):
                    await self._claim(claimable)
            except BusError as error:
                log.warning("claim_failed", message=str(error))
                await asyncio.sleep(0.2)

    async def _claim(self, claimable: Claimable) -> None:
        offered = codec.decode(claimable.message.data, CallOffered)
        owner = Owner(
            stage=self._stage, call_id=offered.call_id, worker=self._worker, epoch=1, tenant=offered.tenant,
            since_us=wall_us(),
        )  # fmt: skip
        try:
            await self._owners.create(f"{self._stage.value}.{offered.call_id}", codec.encode(owner))
        except RevisionConflict:
            await claimable.acknowledge()
            return
        self._calls[offered.call_id] = await self._accept(Claim(offered.call_id, offered.tenant, 1, False, offered, ""))
        await claimable.acknowledge()
