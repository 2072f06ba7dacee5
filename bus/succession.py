"""Sees workers of the stage die or leave, and takes their calls: the part of ownership that watches others."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from bus import codec
from bus.errors import BusError, BusTimeout, DecodeError, NoResponders
from bus.guard import guard_of
from bus.heartbeat import Heartbeat, ping_subject
from bus.interface import Bucket, BucketEntry, Connection, Message, Subscription
from bus.liveness import Liveness, allocate, standby_ms
from bus.logs import get_logger
from bus.sharing import Load
from config.settings import OwnershipSection
from schemas import subjects
from schemas.session import Owner, Stage, WorkerRecord

log = get_logger(__name__)

SERVER_BACK_GRACE_MS = 1500.0
"""After this worker's own reconnect every other one gets this long to reconnect as well."""

FORGOTTEN_MS = 1000.0
"""A key that names this worker, for a call that it knows nothing of, is looked at again after this long."""


class Holder(Protocol):
    """The part of the owner that succession needs."""

    def free_slots(self) -> int: ...

    def holds(self, call_id: str) -> bool: ...

    def keeps(self, call_id: str) -> bool:
        """Whether the call is held here, or is on its way in or out."""

    def lost(self, call_id: str, owner: Owner | None) -> None:
        """The bucket names another worker for a call that is held here."""

    def take_over(self, owner: Owner, revision: int, silence_ms: float | None) -> Coroutine[Any, Any, None]:
        """Become the owner after ``owner``. ``silence_ms`` None: it asked for that, being about to stop."""

    def verify(self) -> Coroutine[Any, Any, None]:
        """Look whether the calls held here are still owned."""

    def loads_changed(self) -> None:
        """Another worker has more or less to do than before, or is not there any more."""


class _DisconnectedClient(msgspec.Struct, frozen=True):
    name: str = ""


class _DisconnectEvent(msgspec.Struct, frozen=True):
    """The part of the server's ``io.nats.server.advisory.v1.client_disconnect`` that matters."""

    client: _DisconnectedClient = _DisconnectedClient()


class Succession:
    """Watches the stage for one worker. ``start`` and ``stop``; everything else happens by itself."""

    def __init__(
        self,
        connection: Connection,
        stage: Stage,
        worker: str,
        *,
        settings: OwnershipSection,
        heartbeat: Heartbeat,
        holder: Holder,
    ) -> None:
        self.owners: dict[str, tuple[Owner, int]] = {}
        self.avoid: dict[str, float] = {}
        self._connection = connection
        self._stage = stage
        self._worker = worker
        self._heartbeat = heartbeat
        self._holder = holder
        self._guard = guard_of(connection)
        self._liveness = Liveness(settings)
        self._settings = settings
        self._tick_s = min(0.05, max(0.01, settings.heartbeat_ms / 4000))
        self._lag_limit_s = max(0.1, (settings.suspect_ms - settings.heartbeat_ms + settings.confirm_ms - 50) / 1000)
        self._owning: set[str] = set()
        self._owners_changed = False
        self._orphan_since: dict[str, float] = {}
        self._taking: set[str] = set()
        self._forgotten: set[str] = set()
        self._looked_at = 0.0
        self._subscriptions: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._verifying = False

    async def start(self, owners: Bucket) -> None:
        """Listen to the stage. Raises ``BusError``."""
        stage = self._stage.value
        self._subscriptions = [
            await self._connection.subscribe(subjects.heartbeat(stage, "*"), self._on_heartbeat),
            await self._connection.subscribe(subjects.DISCONNECT_SUBJECT, self._on_disconnect),
            await owners.watch(self._on_owner, f"{stage}.*"),
        ]
        self._connection.on_reconnected(self._on_reconnected)
        self._guard.arm(self._lag_limit_s)
        self._ticking = asyncio.get_running_loop().create_task(self._tick_forever(), name="succession")

    @property
    def has_ended(self) -> bool:
        """Whether nobody is watched over any more although nobody stopped it."""
        return self._ticking is not None and self._ticking.done()

    async def stop(self) -> None:
        """Take no more calls; what is being taken is finished first."""
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
            self._ticking = None
        self._guard.arm(0)
        self._guard.open()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions = []

    def note(self, owner: Owner, revision: int) -> None:
        """What this worker wrote itself, known before the watch tells it."""
        known = self.owners.get(owner.call_id)
        if known is None or known[1] < revision:
            self.owners[owner.call_id] = (owner, revision)
            self._owners_changed = True

    def loads(self) -> list[Load]:
        """What the other workers have to do that could take a call. Who owns what is known sooner than by heartbeat."""
        calls = Counter(owner.worker for owner, _ in self.owners.values())
        return [Load(calls[worker], slots) for worker, slots in self._liveness.slots().items()]

    def _on_heartbeat(self, message: Message) -> None:
        try:
            record = codec.decode(message.data, WorkerRecord)
        except DecodeError as error:
            log.warning("bad_heartbeat", message=f"a heartbeat can't be read: {error}")
            return
        if record.worker != self._worker:
            self._liveness.heard(record.worker, record, _now_ms())
            if record.draining and self._ticking is not None:
                self._holder.loads_changed()
                self._look_for_orphans(_now_ms())

    def _on_disconnect(self, message: Message) -> None:
        with contextlib.suppress(DecodeError):
            event = codec.decode(message.data, _DisconnectEvent)
            self._liveness.connection_ended(event.client.name, _now_ms())

    def _on_reconnected(self) -> None:
        self._liveness.everybody_reconnects(_now_ms(), SERVER_BACK_GRACE_MS)

    def _on_owner(self, entry: BucketEntry) -> None:
        call_id = entry.key.split(".", 1)[1]
        self._owners_changed = True
        self._holder.loads_changed()
        if entry.value is None:
            self.owners.pop(call_id, None)
            self._orphan_since.pop(call_id, None)
            self.avoid.pop(call_id, None)
            return
        try:
            owner = codec.decode(entry.value, Owner)
        except DecodeError as error:
            log.error("bad_owner", message=f"key {entry.key} of bucket owners can't be read: {error}")
            return
        known = self.owners.get(call_id)
        if known is not None and known[1] > entry.revision:
            return
        self.owners[call_id] = (owner, entry.revision)
        if owner.worker != self._worker:
            self._orphan_since.pop(call_id, None)
            if self._holder.holds(call_id):
                self._holder.lost(call_id, owner)

    async def _tick_forever(self) -> None:
        before = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(self._tick_s)
            now = asyncio.get_running_loop().time()
            late_s = now - before - self._tick_s
            before = now
            if late_s > self._tick_s:
                self._liveness.away(late_s * 1000)
            if not self._guard.beat() and not self._verifying:
                log.warning(
                    "stood_still",
                    message=f"this worker stood still for {late_s * 1000:.0f} ms; it checks what it still owns",
                )
                self._verifying = True
                self._spawn(self._verify())
            if self._connection.connected and not self._verifying:
                try:
                    self._judge(now * 1000)
                except Exception:
                    log.exception("succession_failed", message="looking after the other workers failed; going on")

    async def _verify(self) -> None:
        try:
            await self._holder.verify()
        finally:
            self._verifying = False
            self._guard.open()

    def _judge(self, now: float) -> None:
        if self._owners_changed:
            self._owners_changed = False
            self._owning = {owner.worker for owner, _ in self.owners.values()} - {self._worker}
            self._liveness.forget_dead(self._owning, now)
        for worker in self._owning:
            self._liveness.expect(worker, now)
        due = self._liveness.due(now)
        for worker in due.ask:
            self._spawn(self._ask(worker))
        for worker in due.dead:
            self._buried(worker, "does not answer")
        self._look_for_orphans(now)
        if now - self._looked_at >= FORGOTTEN_MS:
            self._looked_at = now
            self._look_for_forgotten(now)

    async def _ask(self, worker: str) -> None:
        subject = ping_subject(self._stage.value, worker)
        try:
            answer = await self._connection.request(subject, b"", timeout_ms=self._settings.confirm_ms)
            self._liveness.heard(worker, codec.decode(answer.data, WorkerRecord), _now_ms())
        except NoResponders:
            self._liveness.nobody_there(worker)
            self._buried(worker, "is gone")
            self._look_for_orphans(_now_ms())
        except (BusTimeout, DecodeError):
            return  # silence is judged by the clock
        except BusError:
            self._liveness.unasked(worker, _now_ms())

    def _buried(self, worker: str, how: str) -> None:
        self._holder.loads_changed()
        calls = sum(1 for owner, _ in self.owners.values() if owner.worker == worker)
        if calls:
            log.warning("worker_lost", message=f"worker {worker} {how}; it owned {calls} calls", worker=worker)

    def _look_for_orphans(self, now: float) -> None:
        leaving = self._liveness.leaving()
        if self._heartbeat.draining or not leaving:
            return
        orphans: dict[str, tuple[Owner, int]] = {
            call_id: (owner, revision)
            for call_id, (owner, revision) in self.owners.items()
            if owner.worker in leaving and call_id not in self._taking
        }
        if not orphans:
            self._orphan_since.clear()
            return
        free_slots = self._liveness.free_slots()
        free_slots[self._worker] = self._holder.free_slots()
        chosen = allocate(orphans, free_slots)
        for call_id, (owner, revision) in orphans.items():
            since = self._orphan_since.setdefault(call_id, now)
            wait = standby_ms(call_id, self._worker, free_slots, chosen.get(call_id))
            if now - since >= wait and self.avoid.get(call_id, 0.0) <= now:
                self._taking.add(call_id)
                self._spawn(self._take(call_id, owner, revision, now))

    def _look_for_forgotten(self, now: float) -> None:
        """A write whose acknowledgement was lost took effect all the same: the call is this worker's and nobody else
        will ever take it. The key of a call that has ended, which could not be deleted, is found here too."""
        if self._heartbeat.draining:
            return
        forgotten = {
            call_id: (owner, revision)
            for call_id, (owner, revision) in self.owners.items()
            if owner.worker == self._worker and call_id not in self._taking and not self._holder.keeps(call_id)
        }
        known, self._forgotten = self._forgotten, set(forgotten)
        for call_id in known & self._forgotten:
            if self.avoid.get(call_id, 0.0) <= now:
                self._taking.add(call_id)
                self._spawn(self._take(call_id, *forgotten[call_id], now))

    async def _take(self, call_id: str, owner: Owner, revision: int, now: float) -> None:
        leaves = not self._liveness.is_dead(owner.worker)
        try:
            await self._holder.take_over(
                owner, revision, None if leaves else self._liveness.silence_ms(owner.worker, now)
            )
        finally:
            self._taking.discard(call_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error(
                "succession_failed", message="looking after other workers failed; going on", exc_info=task.exception()
            )


def _now_ms() -> float:
    return asyncio.get_running_loop().time() * 1000
