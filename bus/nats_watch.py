"""A watch on a bucket of a real server: present values, then changes, through anything.

It is an ephemeral push consumer that starts with the last value of each key. After a reconnect, a gap in the numbering
or missing heartbeats a new one is made; what it shows again is recognised by revision, and a key that is there no more
is told as deleted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bus.clock import uuid7_hex
from bus.errors import BusError, NotProvisioned
from bus.interface import BucketEntry, Message, StoredMessage
from bus.jetstream import STREAM_NOT_FOUND, ApiError
from bus.logs import get_logger
from bus.work_queue import delivery_of, is_delivery

if TYPE_CHECKING:
    from bus.nats_bucket import BucketOwner

log = get_logger(__name__)

HEARTBEAT_S = 1.0
SILENCE_S = 3.5
RETRY_S = 0.2
FORGOTTEN_S = 10.0
"""The server drops a consumer that nobody listens to after this time."""


class NatsWatch:
    """``handler`` gets entries in order of revision; an exception in it is logged and ends nothing."""

    def __init__(
        self,
        owner: BucketOwner,
        bucket: str,
        handler: Callable[[BucketEntry], None],
        pattern: str = ">",
        on_complete: Callable[[], None] | None = None,
    ) -> None:
        self._owner = owner
        self._bucket = bucket
        self._handler = handler
        self._pattern = pattern
        self._on_complete = on_complete
        self._prefix = f"$KV.{bucket}."
        self._seen: dict[str, BucketEntry] = {}
        self._number: int | None = None
        self._generation = 0
        self._expected = 1
        self._snapshot: set[str] | None = set()
        self._present_count = -1
        self._heard_at = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
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
        await self._begin()
        self._owner.on_reconnected(self._renew)
        self._watching = asyncio.get_running_loop().create_task(self._listen_for_silence(), name="bus-kv-watch")

    async def close(self) -> None:
        self._closed = True
        self._owner.forget_listener(self._renew)
        for task in (self._renewing, self._watching):
            if task is not None:
                task.cancel()
        await self._detach()

    async def _begin(self) -> None:
        """Make a consumer; the one before is forgotten and its late messages with it."""
        await self._detach()
        self._generation += 1
        generation = self._generation
        self._expected, self._snapshot, self._present_count = 1, set(), -1
        inbox = f"{self._owner.inbox_prefix}.watch.{uuid7_hex()}"
        self._number = await self._owner.attach(inbox, lambda message: self._receive(message, generation))
        name = f"watch-{uuid7_hex()}"
        subject = self._prefix + self._pattern
        config = {
            "name": name,
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "max_deliver": 1,
            "filter_subject": subject,
            "mem_storage": True,
            "num_replicas": 1,
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
            "inactive_threshold": int(FORGOTTEN_S * 1e9),
        }
        stream = f"KV_{self._bucket}"
        try:
            body = {"stream_name": stream, "config": config}
            answer = await self._owner.api(f"CONSUMER.CREATE.{stream}.{name}.{subject}", body)
        except ApiError as error:
            if error.code == STREAM_NOT_FOUND:
                raise NotProvisioned("bucket", self._bucket) from error
            raise
        self._heard_at = time.monotonic()
        # What the new consumer has delivered already is no longer pending.
        self._present_count = answer.get("num_pending", 0) + answer.get("delivered", {}).get("consumer_seq", 0)
        self._complete_if_all_came()

    async def _detach(self) -> None:
        if self._number is not None:
            number, self._number = self._number, None
            await self._owner.detach(number)

    def _receive(self, message: Message, generation: int) -> None:
        if generation != self._generation or self._closed:
            return
        self._heard_at = time.monotonic()
        if not is_delivery(message):
            return  # a heartbeat
        _, sequence, stored_us = delivery_of(message.reply)
        number = int(message.reply.split(".")[-3])
        if number != self._expected:
            self._renew()
            return
        self._expected += 1
        stored = StoredMessage(message.subject, message.data, message.headers, sequence, stored_us)
        entry = BucketEntry(message.subject[len(self._prefix) :], entry_value(stored), sequence)
        if self._snapshot is not None:
            self._snapshot.add(entry.key)
        self._tell(entry)
        self._complete_if_all_came()

    def _tell(self, entry: BucketEntry) -> None:
        before = self._seen.get(entry.key)
        if before is not None and entry.revision <= before.revision:
            return
        if entry.value is None and before is None:
            return  # deleted before anybody here knew it
        if entry.value is None:
            del self._seen[entry.key]  # a deletion that is shown again is left out above; keys of calls never come back
        else:
            self._seen[entry.key] = entry
        self._call(entry)

    def _call(self, entry: BucketEntry) -> None:
        try:
            self._handler(entry)
        except Exception:
            log.exception("bus_handler_failed", message=f"the handler of a watch on bucket {self._bucket} failed")

    def _complete_if_all_came(self) -> None:
        if self._snapshot is None or self._present_count < 0 or self._expected <= self._present_count:
            return
        present, self._snapshot = self._snapshot, None
        for key in [key for key in self._seen if key not in present]:
            self._call(BucketEntry(key, None, self._seen.pop(key).revision))
        if self._on_complete is not None:
            self._on_complete()

    def _renew(self) -> None:
        if self._closed or (self._renewing is not None and not self._renewing.done()):
            return
        self._generation += 1  # nothing more from the consumer before
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

    async def _listen_for_silence(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._owner.connected and time.monotonic() - self._heard_at > SILENCE_S:
                self._renew()


def entry_value(message: StoredMessage) -> bytes | None:
    """The value, or None for a deletion (``KV-Operation``) or the marker of an expiry (``Nats-Marker-Reason``)."""
    headers = message.headers
    if headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers:
        return None
    return message.data
