"""The seam below everything else in ``bus``: what a connection can do, on a real server or in memory.

Two implementations, one behaviour suite: ``bus.client.NatsConnection`` and ``bus.memory.MemoryConnection``.
Everything above this file (publish, consume, ownership, kv, control, service) is written against it once.

Handlers are plain functions, called in the order of arrival on the event loop. They must return at once: slow work goes
to a queue and a task of its own. An exception in a handler is logged and counted, and never ends a subscription.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

Headers = Mapping[str, str]

INBOXES = ("_INBOX", "_R_.")
"""How the reply subject of every NATS client begins, ours with the service's name behind it; and how the server names
the one of a client of another account."""


class Message(NamedTuple):
    """A message as it came from the bus. ``reply`` is empty where nobody waits for an answer."""

    subject: str
    data: bytes
    headers: Headers
    reply: str


class StoredMessage(NamedTuple):
    """A message out of a stream. ``stored_us``: when the server stored it, microseconds since 1970."""

    subject: str
    data: bytes
    headers: Headers
    stream_sequence: int
    stored_us: int


class StoreAck(NamedTuple):
    """The server's word that a message is stored. ``duplicate``: its dedupe id was stored before."""

    stream: str
    sequence: int
    duplicate: bool


class BucketEntry(NamedTuple):
    """A value of a KV bucket; ``value`` None means deleted or expired (watchers only)."""

    key: str
    value: bytes | None
    revision: int


Handler = Callable[[Message], None]


class Subscription(Protocol):
    """A subscription that lives until ``close`` or the connection's end."""

    @property
    def dropped(self) -> int:
        """Messages lost because this side was too slow."""

    async def close(self) -> None:
        """Stop receiving; messages already here are dropped."""


class Claimable(Protocol):
    """A message of a work queue; exactly one of the three must be called."""

    @property
    def message(self) -> StoredMessage: ...

    @property
    def deliveries(self) -> int:
        """1 at the first delivery."""

    async def acknowledge(self) -> None:
        """Done: never again."""

    async def refuse(self, delay_ms: int = 0) -> None:
        """Not by me, not now: deliver again, to anyone."""

    async def terminate(self) -> None:
        """Never deliver again: it can't be handled."""


class WorkQueue(Protocol):
    """A durable pull consumer, bound, not created."""

    async def fetch(self, count: int, timeout_ms: int, *, wait: bool = True) -> list[Claimable]:
        """Up to ``count`` messages; an empty list when nothing came in time. ``wait`` False: only what is there, and
        ``timeout_ms`` is how long the server may take to say so."""


class Bucket(Protocol):
    """A KV bucket, bound, not created."""

    async def get(self, key: str) -> BucketEntry | None: ...

    async def put(self, key: str, value: bytes) -> int:
        """Write whatever was there; the new revision."""

    async def create(self, key: str, value: bytes) -> int:
        """Write only where the key is absent, deleted or expired; raises ``RevisionConflict`` otherwise."""

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write only where the key stands at ``revision``; raises ``RevisionConflict`` otherwise."""

    async def delete(self, key: str) -> None: ...

    async def keys(self) -> list[str]: ...

    async def watch(self, handler: Callable[[BucketEntry], None], pattern: str = ">") -> Subscription:
        """Call ``handler`` for each present value of ``pattern``, then for each change, through reconnects."""


class Connection(Protocol):
    """One connection to the bus. Every wait has a deadline; errors are those of ``bus.errors``."""

    @property
    def name(self) -> str: ...

    @property
    def connected(self) -> bool: ...

    def publish(self, subject: str, data: bytes, headers: Headers | None = None, reply: str = "") -> None:
        """Send without waiting and without acknowledgement. While disconnected: dropped and counted."""

    def publish_many(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """As :meth:`publish`, many at once with one write to the socket: the edge's 5 ms tick."""

    async def flush(self, timeout_ms: int = 2000) -> None:
        """Wait until the server has read everything sent so far. Raises ``BusTimeout``."""

    async def request(
        self, subject: str, data: bytes, *, timeout_ms: int = 2000, headers: Headers | None = None
    ) -> Message:
        """Ask and wait for one answer. Raises ``NoResponders`` at once where nobody listens, else ``BusTimeout``."""

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", pending_limit: int = 65_536
    ) -> Subscription:
        """Receive from now on, through reconnects. Newest messages beyond ``pending_limit`` are dropped and counted."""

    async def store(
        self, subject: str, data: bytes, headers: Headers | None = None, timeout_ms: int = 2000
    ) -> StoreAck:
        """Publish to a stream, wait for its word.

        Raises ``StoreUnavailable`` (retry) or ``StoreRefused`` (never retry), of which ``StaleWrite`` is one kind. The
        retry of a fenced message whose acknowledgement got lost is a duplicate, not a stale write (``bus.fencing``).
        """

    def read(
        self, subject: str, *, from_sequence: int = 1, stream: str = "CALLS", timeout_ms: int = 5000
    ) -> AsyncIterator[StoredMessage]:
        """Everything a stream holds now under ``subject``, in order, then stop."""

    async def last(self, subject: str, stream: str = "CALLS") -> StoredMessage | None:
        """The newest message of exactly this subject."""

    async def work_queue(self, consumer: str, stream: str = "CALLS") -> WorkQueue:
        """Bind a durable pull consumer. Raises ``NotProvisioned`` where it does not exist."""

    async def bucket(self, name: str) -> Bucket:
        """Bind a KV bucket. Raises ``NotProvisioned`` where it does not exist."""

    def on_disconnected(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` each time the connection is lost."""

    def on_reconnected(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` each time the connection is back."""

    def forget_listener(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` no more."""

    async def close(self, drain_ms: int = 2000) -> None:
        """Drain: finish what came in, send what is queued, then close. Never raises, never hangs."""
