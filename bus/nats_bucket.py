"""A KV bucket of a real server, on the wire format that every NATS client shares (ADR-8), without nats-py's KV traps.

* An expired key leaves a marker where the bucket asks for it; here it reads as absent, and ``create`` writes over it.
* A deletion leaves a marker that goes by itself: a bucket refuses writes once it is full, and a deletion that stays as
  long as a value fills it with keys that are gone (54,000 calls filled ``owners`` for the rest of the day).
* A watch is made anew after each reconnect, and makes no consumer: nats-py's own resumes after 20 s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from bus.errors import BusUnavailable, RevisionConflict, StaleWrite, StoreUnavailable
from bus.fencing import EXPECTED_SUBJECT_SEQUENCE
from bus.interface import BucketEntry, Handler, Headers, StoreAck, StoredMessage, Subscription
from bus.jetstream import JetStream
from bus.nats_watch import NatsWatch, entry_value
from bus.topology import SHARED_BUCKETS

FORGET_S = 60
"""How long a deletion is told to watchers that were away."""
DELETE = {"KV-Operation": "PURGE"}
ROLLUP = {"Nats-Rollup": "sub"}
"""Takes the key's history with it (ADR-8)."""
EXPIRING = {"Nats-TTL": f"{FORGET_S}s"}
TTL_VERSION = (2, 11)


class BucketOwner(Protocol):
    """The part of a connection that a bucket needs."""

    @property
    def connected(self) -> bool: ...

    @property
    def inbox_prefix(self) -> str: ...

    @property
    def request_timeout_ms(self) -> int: ...

    @property
    def server_version(self) -> tuple[int, int]: ...

    async def store(
        self, subject: str, data: bytes, headers: Headers | None = None, timeout_ms: int = 2000
    ) -> StoreAck: ...

    async def ready(self, timeout_ms: float) -> None: ...

    async def attach(self, subject: str, handler: Handler, queue: str = "") -> int: ...

    async def detach(self, number: int) -> None: ...

    async def api(self, name: str, body: dict[str, Any] | None = None, timeout_ms: int = 5000) -> dict[str, Any]: ...

    def on_reconnected(self, listener: Callable[[], None]) -> None: ...

    def forget_listener(self, listener: Callable[[], None]) -> None: ...


class NatsBucket:
    """A bound bucket. Every call raises ``BusUnavailable`` or ``BusTimeout`` where the server does not answer."""

    def __init__(self, owner: BucketOwner, jetstream: JetStream, name: str) -> None:
        self._owner = owner
        self._jetstream = jetstream
        self._name = name

    async def get(self, key: str) -> BucketEntry | None:
        message = await self._last(key)
        value = entry_value(message) if message is not None else None
        return None if message is None or value is None else BucketEntry(key, value, message.stream_sequence)

    async def put(self, key: str, value: bytes) -> int:
        return await self._write(key, value, {})

    async def create(self, key: str, value: bytes) -> int:
        try:
            return await self.update(key, value, 0)
        except RevisionConflict:
            message = await self._last(key)
            if message is None or entry_value(message) is not None:
                raise
        return await self.update(key, value, message.stream_sequence)  # over a deletion or the marker of an expiry

    async def update(self, key: str, value: bytes, revision: int) -> int:
        try:
            return await self._write(key, value, {EXPECTED_SUBJECT_SEQUENCE: str(revision)})
        except StaleWrite as error:
            raise RevisionConflict(self._name, key, revision) from error

    async def delete(self, key: str) -> None:
        expiring = EXPIRING if self._owner.server_version >= TTL_VERSION else {}
        history = ROLLUP if self._name not in SHARED_BUCKETS else {}
        await self._write(key, b"", {**DELETE, **history, **expiring})

    async def keys(self) -> list[str]:
        present: dict[str, bool] = {}
        prefix, timeout_ms = f"$KV.{self._name}.", self._owner.request_timeout_ms
        async for message in self._jetstream.read(f"{prefix}>", 1, f"KV_{self._name}", timeout_ms):
            present[message.subject[len(prefix) :]] = entry_value(message) is not None
        return sorted(key for key, is_there in present.items() if is_there)

    async def watch(self, handler: Callable[[BucketEntry], None], pattern: str = ">") -> Subscription:
        watch = NatsWatch(self._owner, self._jetstream, self._name, handler, pattern)
        await watch.open()
        return watch

    async def _last(self, key: str) -> StoredMessage | None:
        return await self._jetstream.last(f"$KV.{self._name}.{key}", f"KV_{self._name}")

    async def _write(self, key: str, value: bytes, headers: Headers) -> int:
        timeout_ms = self._owner.request_timeout_ms
        await self._owner.ready(timeout_ms)
        try:
            ack = await self._owner.store(f"$KV.{self._name}.{key}", value, headers, timeout_ms)
        except StoreUnavailable as error:
            raise BusUnavailable(f"bucket {self._name!r} takes no write now: {error}") from error
        return ack.sequence
