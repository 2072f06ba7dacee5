"""Who owns a call in a stage: claiming new calls, letting go of finished ones, taking over from the dead.

A durable pull consumer hands each offered call to one worker with a free slot. The winner writes ``owners`` with epoch
1; a takeover adds 1. Events carry the epoch, and readers and the stream refuse those of an older one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bus import codec, tracing
from bus.claim import Claim, OwnedCall
from bus.claiming import Claiming
from bus.clock import wall_us
from bus.dead_letter import bury
from bus.edges import EdgeWatch
from bus.errors import BusError, DecodeError, RevisionConflict
from bus.heartbeat import Heartbeat
from bus.interface import Bucket, Claimable, Connection, WorkQueue
from bus.logs import about_call, callers_are_heard, get_logger
from bus.metrics.workers import count_readopted, observe_takeover
from bus.publish import Recorder
from bus.sharing import FairShare, Load
from bus.succession import Succession
from config.settings import OwnershipSection
from schemas import subjects
from schemas.call import CallEnded, CallOffered
from schemas.failure import FAILURES, Failure
from schemas.session import Owner, Stage

__all__ = ["Claim", "OwnedCall", "StageOwner"]

log = get_logger(__name__)

FETCH_MS = 500
"""Also the longest that a drain waits for the last fetch."""
FULL_PAUSE_S = 0.02
STALE_OFFER_US = 60_000_000
"""An offer that looks this old, by clocks that may differ, counts where its edge lives."""
CHECK_END_US = 1_000_000
MAX_DELIVERIES = 5
REFUSE_MS = 250
AVOID_MS = 2000.0
"""How long a worker whose ``accept`` failed leaves that call to others."""
OFFER_LOOKS = 20
"""So often, some 100 ms apart, a call is looked up that the stream does not know, before it is let go of."""
VERIFY_ATTEMPTS = 5
DELETE_ATTEMPTS = 5
NOBODY = "nobody"
"""Owner of a call that its worker could not go on with: never heard, so anyone takes it."""


class StageOwner:
    """Claims and keeps calls for one worker of one stage.

    ``accept`` is called with each new claim and returns once the call is being worked on. If it raises, the call goes
    to another worker and a ``failure`` event says so. ``figures`` go out with every heartbeat.
    """

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
        self._connection = connection
        self._stage = stage
        self._worker = worker
        self._slots = slots
        self._accept = accept
        self._calls: dict[str, tuple[Claim, OwnedCall]] = {}
        self._reserved: dict[str, int] = {}
        self._unknown: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming = Claiming(stage.value, self._claim_next, lambda: self.heartbeat.draining)
        self._succession = Succession(
            connection, stage, worker, settings=settings, heartbeat=self.heartbeat, holder=self)  # fmt: skip
        self._share = FairShare(lambda: Load(self.heartbeat.calls, slots), self._succession.loads)
        self._edges = EdgeWatch(connection, stage.value, lambda: [claim.offered for claim, _ in self._calls.values()])
        self._owners: Bucket
        self._queue: WorkQueue

    @property
    def figures(self) -> dict[str, float]:
        return self.heartbeat.figures

    @figures.setter
    def figures(self, values: dict[str, float]) -> None:
        self.heartbeat.figures = values

    @property
    def calls(self) -> dict[str, OwnedCall]:
        """The calls owned now."""
        return {call_id: call for call_id, (_, call) in self._calls.items()}

    async def start(self) -> None:
        """Begin to claim calls and to watch over the stage. Raises ``NotProvisioned`` and other ``BusError``."""
        callers_are_heard()
        self._owners = await self._connection.bucket("owners")
        self._queue = await self._connection.work_queue(f"{self._stage.value}-assign")
        await self.heartbeat.start()
        await self._succession.start(self._owners)
        await self._edges.start()
        self._claiming.start()

    def lacks(self) -> str:
        """Why this worker takes no calls, and what to do, for its health; empty where it takes them."""
        if self.heartbeat.has_ended or self._succession.has_ended:
            return f"{self._stage.value} no longer says that it lives, or hears who else does; restart the process"
        return self._claiming.lacks()

    async def drain(self, timeout_ms: int) -> None:
        """Take no more calls, let others take those owned, and go.

        Calls that nobody takes are kept until they end or the time is over; their keys stay, so that a worker that
        starts later adopts them.
        """
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        self.heartbeat.draining = True
        self.heartbeat.beat()
        while (self._calls or self._reserved) and (left := deadline - asyncio.get_running_loop().time()) > 0:
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        # A fetch that is cancelled loses what it was about to get for 3 s.
        await self._claiming.end(max(deadline - asyncio.get_running_loop().time(), 2 * FETCH_MS / 1000))
        await self._succession.stop()
        await self._edges.stop()
        for call_id in list(self._calls):
            await self._release(call_id, "draining")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        await self.heartbeat.stop()

    async def finished(self, call_id: str) -> None:
        """The call is over: forget it, delete its owners key. Never raises; a key that stays is found again."""
        if self._calls.pop(call_id, None) is None:
            return
        self._reserve(call_id, 1)
        try:
            for attempt in range(DELETE_ATTEMPTS):
                try:
                    await self._owners.delete(self._key(call_id))
                    return
                except BusError as error:
                    log.debug("delete_failed", message=str(error), call_id=call_id)
                    await asyncio.sleep(0.1 * 2**attempt)
        finally:
            self._reserve(call_id, -1)

    # --- what succession asks ----------------------------------------------------------------------------------------

    def free_slots(self) -> int:
        return max(0, self._slots - len(self._calls) - sum(self._reserved.values()))

    def loads_changed(self) -> None:
        self._share.changed()

    def holds(self, call_id: str) -> bool:
        return call_id in self._calls

    def keeps(self, call_id: str) -> bool:
        return call_id in self._calls or call_id in self._reserved

    def lost(self, call_id: str, owner: Owner | None) -> None:
        """Another worker owns a call that is held here."""
        why = "handed_over" if self.heartbeat.draining else "superseded"
        log.info("call_lost", message=f"another worker owns this call now ({why})", call_id=call_id)
        self._spawn(self._release(call_id, why))

    async def verify(self) -> None:
        """Release every call that is not owned any more. What can't be read now is kept: epochs fence it off."""
        for call_id in list(self._calls):
            for _ in range(VERIFY_ATTEMPTS):
                try:
                    entry = await self._owners.get(self._key(call_id))
                    owner = codec.decode(entry.value, Owner) if entry is not None and entry.value else None
                except BusError as error:
                    log.debug("verify_failed", message=str(error), call_id=call_id)
                    await asyncio.sleep(0.1)
                    continue
                if owner is None or owner.worker != self._worker:
                    await self._release(call_id, "superseded")
                break

    async def take_over(self, owner: Owner, revision: int, silence_ms: float | None) -> None:
        """Become the owner after ``owner``, then accept the call."""
        call_id, begun = owner.call_id, asyncio.get_running_loop().time()
        mine = self._owner(call_id, owner.tenant, owner.epoch + 1)
        self._reserve(call_id, 1)
        try:
            offered = await self._offer_of(call_id, owner.tenant)
            if offered is None:
                await self._owners.delete(self._key(call_id))
                self._unknown.pop(call_id, None)
                return
            revision = await self._owners.update(self._key(call_id), codec.encode(mine), revision)
            self._succession.note(mine, revision)
            claim = Claim(call_id, owner.tenant, mine.epoch, True, offered, owner.worker)
            await self._accept_taken(claim, revision, silence_ms, begun)
        except RevisionConflict:
            return  # somebody else was faster
        except BusError as error:
            log.warning("takeover_failed", message=f"a call could not be taken over yet: {error}", call_id=call_id)
            self._succession.avoid[call_id] = asyncio.get_running_loop().time() * 1000 + 100.0
        finally:
            self._reserve(call_id, -1)

    async def _accept_taken(self, claim: Claim, revision: int, silence_ms: float | None, begun: float) -> None:
        if silence_ms is not None and claim.previous_worker != NOBODY:
            self._report(claim, "worker_lost", f"silent for {silence_ms:.0f} ms", round(silence_ms))
        text = f"took over a call from worker {claim.previous_worker}"
        log.info("call_taken", message=text, call_id=claim.call_id, tenant=claim.tenant, epoch=claim.epoch)
        if await self._hand_to_stage(claim, claim.epoch):
            if claim.previous_worker in (NOBODY, self._worker):
                count_readopted(self._stage.value)
            else:
                waited_ms = (asyncio.get_running_loop().time() - begun) * 1000
                observe_takeover(self._stage.value, silence_ms, waited_ms)
            return
        self._succession.avoid[claim.call_id] = asyncio.get_running_loop().time() * 1000 + AVOID_MS
        nobody = Owner(stage=self._stage, call_id=claim.call_id, worker=NOBODY, epoch=claim.epoch, tenant=claim.tenant)
        with contextlib.suppress(RevisionConflict):
            await self._owners.update(self._key(claim.call_id), codec.encode(nobody), revision)

    async def _offer_of(self, call_id: str, tenant: str) -> CallOffered | None:
        """The offer of a call that is still up; None where it ended, or was forgotten by the stream.

        Raises ``BusError`` where nothing is known of it yet: a replica that comes back, and answers, may be far behind.
        """
        offer, end = await asyncio.gather(
            self._connection.last(subjects.event_subject(CallOffered, call_id, tenant)),
            self._connection.last(subjects.event_subject(CallEnded, call_id, tenant)),
        )
        if offer is None and end is None:
            self._unknown[call_id] = looks = self._unknown.get(call_id, 0) + 1
            if looks < OFFER_LOOKS:
                raise BusError("the stream does not know it yet")
        if offer is None or end is not None:
            return None
        self._unknown.pop(call_id, None)
        return codec.decode(offer.data, CallOffered)

    # --- claiming ----------------------------------------------------------------------------------------------------

    async def _claim_next(self) -> None:
        if self.free_slots() == 0:
            await asyncio.sleep(FULL_PAUSE_S)
            return
        for claimable in await self._share.fetch(self._queue, FETCH_MS):
            await self._claim(claimable)

    async def _claim(self, claimable: Claimable) -> None:
        """One offer: take it, drop it, or give it back."""
        if self.heartbeat.draining:
            await claimable.refuse()
            return
        message = claimable.message
        try:
            offered = codec.decode_event(message.subject, message.data)
            if not isinstance(offered, CallOffered):
                raise DecodeError("not an offered call")
        except DecodeError as error:
            bury(self._connection, self._stage.value, message.subject, message.data, str(error))
            await claimable.terminate()
            return
        age_us = wall_us() - message.stored_us
        if (age_us > STALE_OFFER_US and not self._edges.lives(offered.edge)) or (
            (age_us > CHECK_END_US or claimable.deliveries > 1) and await self._ended(offered)
        ):
            await claimable.acknowledge()
            return
        owner = self._owner(offered.call_id, offered.tenant, 1)
        self._reserve(offered.call_id, 1)
        try:
            revision = await self._owners.create(self._key(offered.call_id), codec.encode(owner))
        except Exception as error:
            self._reserve(offered.call_id, -1)
            if not isinstance(error, RevisionConflict):
                raise
            await claimable.acknowledge()
            return
        self._succession.note(owner, revision)
        claim = Claim(offered.call_id, offered.tenant, 1, False, offered, "")
        self._spawn(self._accept_claimed(claim, claimable))

    async def _accept_claimed(self, claim: Claim, claimable: Claimable) -> None:
        try:
            if await self._hand_to_stage(claim, claimable.deliveries):
                await claimable.acknowledge()
                return
            await self._owners.delete(self._key(claim.call_id))
            if claimable.deliveries >= MAX_DELIVERIES:
                await claimable.terminate()
            else:
                await claimable.refuse(REFUSE_MS)
        except BusError as error:
            log.warning("claim_unsettled", message=f"an offer could not be settled: {error}", call_id=claim.call_id)
        finally:
            self._reserve(claim.call_id, -1)

    async def _hand_to_stage(self, claim: Claim, attempt: int) -> bool:
        """Call ``accept``; False where it raised, which is logged and reported."""
        tracing.claimed(claim.offered, claim.epoch, claim.takeover)
        try:
            with about_call(claim.call_id, claim.tenant):
                call = await self._accept(claim)
        except Exception as error:
            log.exception(
                "accept_failed",
                message=f"the {self._stage.value} stage could not take a call: {type(error).__name__}",
                call_id=claim.call_id,
                tenant=claim.tenant,
            )
            self._report(claim, "engine_failed", f"accept raised {type(error).__name__}", number=attempt)
            tracing.left(claim.call_id)
            self._share.failed()
            return False
        self._calls[claim.call_id] = (claim, call)
        self._count()
        known = self._succession.owners.get(claim.call_id)
        if known is not None and known[0].worker != self._worker:
            self.lost(claim.call_id, known[0])
        return True

    async def _ended(self, offered: CallOffered) -> bool:
        return (
            await self._connection.last(subjects.event_subject(CallEnded, offered.call_id, offered.tenant)) is not None
        )

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def _owner(self, call_id: str, tenant: str, epoch: int) -> Owner:
        return Owner(
            stage=self._stage, call_id=call_id, worker=self._worker, epoch=epoch, tenant=tenant, since_us=wall_us()
        )

    def _key(self, call_id: str) -> str:
        return f"{self._stage.value}.{call_id}"

    def _reserve(self, call_id: str, change: int) -> None:
        left = self._reserved.get(call_id, 0) + change
        if left:
            self._reserved[call_id] = left
        else:
            self._reserved.pop(call_id, None)
        self._count()

    def _count(self) -> None:
        self.heartbeat.calls = len(self._calls) + sum(self._reserved.values())
        self._changed.set()
        self._share.changed()

    async def _release(self, call_id: str, why: str) -> None:
        held = self._calls.pop(call_id, None)
        if held is None:
            return
        self._count()
        try:
            await held[1].release(why)
        except Exception:
            log.exception("release_failed", message="letting go of a call failed", call_id=call_id)

    def _report(self, claim: Claim, code: str, detail: str, gap_ms: int = 0, number: int | None = None) -> None:
        spec = FAILURES[code]
        recorder = Recorder(self._connection, service=self._stage.value)
        recorder.record(
            Failure(
                call_id=claim.call_id,
                tenant=claim.tenant,
                at_us=wall_us(),
                epoch=claim.epoch,
                code=code,
                stage=self._stage.value,
                worker=claim.previous_worker if code == "worker_lost" else self._worker,
                number=claim.epoch if number is None else number,
                retryable=spec.retryable,
                caller_hears=spec.caller_hears,
                detail=detail,
                gap_ms=gap_ms,
            )
        )
        self._spawn(recorder.close(10_000))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
