"""A worker of the asr stage as a process of its own: counts in each of its calls, one fenced event every 50 ms.

``python -m tests.bus.worker_process`` runs under ``run_service``, so it takes its settings from the environment.
"""

from __future__ import annotations

import asyncio

from bus.clock import wall_us
from bus.consume import CallFeed, follow_call
from bus.ownership import Claim, StageOwner
from bus.publish import Recorder
from bus.service import ServiceContext, run_service
from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.session import Stage

STEP_S = 0.05


class CountedCall:
    """Says ``asr.final`` for turn 1, 2, 3, ..., going on where the stream stands."""

    def __init__(self, context: ServiceContext, claim: Claim, owner: StageOwner) -> None:
        self._claim = claim
        self._context = context
        self._owner = owner
        self._turn = 0
        self._recorder = Recorder(context.connection, service="asr")
        self._recorder.on_fenced = lambda _: self._stop()
        self._feed: CallFeed | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._feed = await follow_call(
            self._context.connection,
            self._claim.call_id,
            self._claim.tenant,
            self._hear,
            names=("asr.final", "call.ended"),
            service="asr",
        )
        self._task = asyncio.create_task(self._count(self._feed))

    async def release(self, why: str) -> None:
        self._context.log.info("released", message=f"released: {why}", call_id=self._claim.call_id, why=why)
        self._stop()
        await self._recorder.close(0)
        if self._feed is not None:
            await self._feed.close()

    def _hear(self, event: Event) -> None:
        if isinstance(event, AsrFinal):
            self._turn = max(self._turn, event.turn)
        elif self._task is not None:
            self._stop()
            self._ending = asyncio.create_task(self._owner.finished(self._claim.call_id))

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _count(self, feed: CallFeed) -> None:
        await feed.caught_up.wait()
        while True:
            turn = self._turn + 1
            self._recorder.record(
                AsrFinal(
                    call_id=self._claim.call_id,
                    tenant=self._claim.tenant,
                    at_us=wall_us(),
                    epoch=self._claim.epoch,
                    turn=turn,
                    text="",
                    through_sequence=turn,
                    engine=self._context.worker,
                ),
                fenced=True,
            )
            self._turn = turn
            await asyncio.sleep(STEP_S)


async def main(context: ServiceContext) -> None:
    owner: StageOwner

    async def accept(claim: Claim) -> CountedCall:
        call = CountedCall(context, claim, owner)
        await call.start()
        return call

    settings = context.settings
    owner = StageOwner(
        context.connection,
        Stage.ASR,
        context.worker,
        slots=settings.asr.slots,
        settings=settings.ownership,
        accept=accept,
    )
    await owner.start()
    await context.ready()
    await context.stopping.wait()
    await owner.drain(settings.ownership.drain_ms)


if __name__ == "__main__":
    run_service("asr", main)
