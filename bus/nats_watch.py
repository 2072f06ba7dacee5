"""A watch on a bucket of a real server: present values, then changes, through anything.

The stream below a bucket says each change again once it is stored, on ``kv.<bucket>.<key>`` with the revision in its
headers (``bus.provision``). A watch subscribes there, reads what is stored, and from then on hears. So it makes no
consumer on the server: whoever may make one may have messages delivered to any subject.

A message between two servers may get lost without this connection noticing: every few seconds a watch reads what was
stored since it looked last, which is nearly always nothing. After a reconnect it reads everything anew, and a key that
is there no more is told as deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from bus.errors import BusError, NotProvisioned
from bus.interface import BucketEntry, Message, StoredMessage
from bus.jetstream import JetStream, stored_copy
from bus.logs import get_logger

if TYPE_CHECKING:
    from bus.nats_bucket import BucketOwner

log = get_logger(__name__)

FIRST_LOOK_S = 1.0
"""A replica that answers the first reading may be a moment behind."""
LOOK_S = 5.0
RETRY_S = 0.2


def change_subject(bucket: str, key: str) -> str:
    """Where a change is said once it is stored; ``key`` may be a pattern."""
    return f"kv.{bucket}.{key}"


class NatsWatch:
    """``handler`` gets entries in order of revision; an exception in it is logged and ends nothing."""

    def __init__(
        self,
        owner: BucketOwner,
        jetstream: JetStream,
        bucket: str,
        handler: Callable[[BucketEntry], None],
        pattern: str = ">",
    ) -> None:
        self._owner = owner
        self._jetstream = jetstream
        self._bucket = bucket
        self._handler = handler
        self._pattern = pattern
        self._prefix = f"$KV.{bucket}."
        self._seen: dict[str, BucketEntry] = {}
        self._deleted: dict[str, int] = {}
        self._looked_until = 0
        self._number: int | None = None
        self._generation = 0
        self._held: list[BucketEntry] | None = []
        self._renewing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def dropped(self) -> int:
        return 0

    async def open(self) -> None:
        """Begin.

        Raises:
            NotProvisioned: the bucket does not exist.
            BusError: the server does not answer.
        """
        try:
            await self._begin()
        except BaseException:
            await self._detach()
            raise
        self._owner.on_reconnected(self._renew)
        self._looking = asyncio.get_running_loop().create_task(self._look_forever(), name="bus-kv-watch")

    async def close(self) -> None:
        self._closed = True
        self._owner.forget_listener(self._renew)
        for task in (self._renewing, self._looking):
            if task is not None:
                task.cancel()
        await self._detach()

    async def _begin(self) -> None:
        """Subscribe anew, read all, then go on with what came meanwhile."""
        await self._detach()
        self._generation += 1
        generation = self._generation
        self._held, self._looked_until = [], 0
        subject = change_subject(self._bucket, self._pattern)
        self._number = await self._owner.attach(subject, lambda message: self._hear(message, generation))
        try:
            present = await self._read(1)
        except NotProvisioned as error:
            raise NotProvisioned("bucket", self._bucket) from error
        if generation != self._generation:
            return
        newest = {entry.key: entry for entry in present}
        for key in [key for key in self._seen if key not in newest]:
            self._call(BucketEntry(key, None, self._seen.pop(key).revision))
        for entry in sorted(newest.values(), key=lambda each: each.revision):
            self._tell(entry)
        held, self._held = self._held or [], None
        for entry in held:
            self._tell(entry)

    async def _detach(self) -> None:
        if self._number is not None:
            number, self._number = self._number, None
            await self._owner.detach(number)

    async def _read(self, sequence: int) -> list[BucketEntry]:
        found = []
        timeout_ms = self._owner.request_timeout_ms
        stream = f"KV_{self._bucket}"
        async for message in self._jetstream.read(self._prefix + self._pattern, sequence, stream, timeout_ms):
            found.append(self._entry(message))
            self._looked_until = max(self._looked_until, message.stream_sequence)
        return found

    def _hear(self, message: Message, generation: int) -> None:
        if generation != self._generation or self._closed or "Nats-Sequence" not in message.headers:
            return
        entry = self._entry(stored_copy(message))
        if self._held is not None:
            self._held.append(entry)
        else:
            self._tell(entry)

    def _entry(self, message: StoredMessage) -> BucketEntry:
        return BucketEntry(message.subject[len(self._prefix) :], entry_value(message), message.stream_sequence)

    def _tell(self, entry: BucketEntry) -> None:
        before = self._seen.get(entry.key)
        known = before.revision if before is not None else self._deleted.get(entry.key, 0)
        if entry.revision <= known:
            return
        if entry.value is None:
            self._deleted[entry.key] = entry.revision
            if before is None:
                return  # deleted before anybody here knew it
            del self._seen[entry.key]
        else:
            self._seen[entry.key] = entry
        self._call(entry)

    def _call(self, entry: BucketEntry) -> None:
        try:
            self._handler(entry)
        except Exception:
            log.exception("bus_handler_failed", message=f"the handler of a watch on bucket {self._bucket} failed")

    def _renew(self) -> None:
        if self._closed or (self._renewing is not None and not self._renewing.done()):
            return
        self._generation += 1  # nothing more from the subscription before
        self._renewing = asyncio.get_running_loop().create_task(self._begin_until_done(), name="bus-kv-watch-renewal")

    async def _begin_until_done(self) -> None:
        said = False
        while not self._closed:
            try:
                await self._begin()
                return
            except BusError as error:
                if not said:
                    said = True
                    log.warning("bus_watch_waits", message=f"watch on bucket {self._bucket} can't begin yet: {error}")
                await asyncio.sleep(RETRY_S)

    async def _look_forever(self) -> None:
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            if self._owner.connected and (self._renewing is None or self._renewing.done()):
                await self._look()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        """What was stored since the last look; most of it was heard already, and what was heard is newer."""
        generation = self._generation
        try:
            found = await self._read(self._looked_until + 1)
        except BusError as error:
            log.debug("bus_watch_blind", message=f"bucket {self._bucket} could not be looked at: {error}")
            return
        except Exception:
            log.exception("bus_watch_blind", message=f"bucket {self._bucket} could not be looked at; going on")
            return
        if generation != self._generation or self._closed:
            return
        for entry in found:
            self._tell(entry)
        self._deleted.clear()  # a key that is deleted has no older message left in the stream


def entry_value(message: StoredMessage) -> bytes | None:
    """The value, or None for a deletion (``KV-Operation``) or the marker of an expiry (``Nats-Marker-Reason``)."""
    headers = message.headers
    if headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers:
        return None
    return message.data
