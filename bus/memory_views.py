"""What a connection to the in-memory bus hands out: work queue, claimed message, bucket, watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from bus.clock import Clock
from bus.interface import BucketEntry, Claimable, StoredMessage, Subscription
from bus.memory_stream import MemoryConsumer, MemoryStore
from schemas.subjects import matches


class Owner(Protocol):
    """The part of a memory connection that the views need."""

    @property
    def connected(self) -> bool: ...

    async def ready(self, timeout_ms: int = 2000) -> None: ...

    def handle(self, call: Callable[[], None], what: str) -> None: ...

    def on_reconnected(self, listener: Callable[[], None]) -> None: ...

    def forget_listener(self, listener: Callable[[], None]) -> None: ...


class MemoryClaim:
    """One delivery out of a work queue."""

    def __init__(self, owner: Owner, consumer: MemoryConsumer, message: StoredMessage, deliveries: int) -> None:
        self._owner = owner
        self._consumer = consumer
        self._message = message
        self._deliveries = deliveries

    @property
    def message(self) -> StoredMessage:
        return self._message

    @property
    def deliveries(self) -> int:
        return self._deliveries

    async def acknowledge(self) -> None:
        await self._owner.ready()
        self._consumer.settle(self._message.stream_sequence)

    async def refuse(self, delay_ms: int = 0) -> None:
        await self._owner.ready()
        self._consumer.refuse(self._message.stream_sequence, delay_ms)

    async def terminate(self) -> None:
        await self._owner.ready()
        self._consumer.settle(self._message.stream_sequence)


class MemoryWorkQueue:
    """A bound pull consumer."""

    def __init__(self, owner: Owner, consumer: MemoryConsumer, clock: Clock) -> None:
        self._owner = owner
        self._consumer = consumer
        self._clock = clock

    async def fetch(self, count: int, timeout_ms: int, *, wait: bool = True) -> list[Claimable]:
        await asyncio.sleep(0)
        found = self._take(count)
        if found or timeout_ms <= 0 or not wait:
            return found
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        self._consumer.wait(wake)
        timer = self._clock.call_later(timeout_ms, wake)
        try:
            await woken
        finally:
            timer.cancel()
            self._consumer.stop_waiting(wake)
        return self._take(count)

    def _take(self, count: int) -> list[Claimable]:
        found: list[Claimable] = []
        while self._owner.connected and len(found) < count and (taken := self._consumer.take()):
            found.append(MemoryClaim(self._owner, self._consumer, *taken))
        return found


class MemoryBucket:
    """A bound bucket."""

    def __init__(self, owner: Owner, store: MemoryStore) -> None:
        self._owner = owner
        self._store = store

    async def get(self, key: str) -> BucketEntry | None:
        await self._owner.ready()
        return self._store.get(key)

    async def put(self, key: str, value: bytes) -> int:
        await self._owner.ready()
        return self._store.write(key, bytes(value))

    async def create(self, key: str, value: bytes) -> int:
        await self._owner.ready()
        return self._store.create(key, bytes(value))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        await self._owner.ready()
        return self._store.update(key, bytes(value), revision)

    async def delete(self, key: str) -> None:
        await self._owner.ready()
        self._store.write(key, None)

    async def keys(self) -> list[str]:
        await self._owner.ready()
        return sorted(entry.key for entry in self._store.present())

    async def watch(self, handler: Callable[[BucketEntry], None], pattern: str = ">") -> Subscription:
        await self._owner.ready()
        return MemoryWatch(self._owner, self._store, handler, pattern)


class MemoryWatch:
    """Present values, then changes; after an interruption what changed meanwhile."""

    def __init__(self, owner: Owner, store: MemoryStore, handler: Callable[[BucketEntry], None], pattern: str) -> None:
        self._owner = owner
        self._store = store
        self._handler = handler
        self._pattern = pattern
        self._seen: dict[str, int] = {}
        self._closed = False
        store.watchers.append(self._offer)
        owner.on_reconnected(self._catch_up)
        self._catch_up()

    @property
    def dropped(self) -> int:
        return 0

    async def close(self) -> None:
        self._closed = True
        self._owner.forget_listener(self._catch_up)
        if self._offer in self._store.watchers:
            self._store.watchers.remove(self._offer)

    def _catch_up(self) -> None:
        for entry in self._store.newest():
            self._offer(entry)

    def _offer(self, entry: BucketEntry) -> None:
        if self._owner.connected and not self._closed and matches(self._pattern, entry.key):
            asyncio.get_running_loop().call_soon(self._deliver, entry)

    def _deliver(self, entry: BucketEntry) -> None:
        seen = self._seen.get(entry.key, 0)
        if self._closed or entry.revision <= seen or (seen == 0 and entry.value is None and not seen):
            return
        self._seen[entry.key] = entry.revision
        self._owner.handle(lambda: self._handler(entry), f"watch {self._pattern}")
