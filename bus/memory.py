"""The bus in memory: the same behaviour as a real server, in one process, in virtual time if wanted.

``MemoryServer`` is the server with its streams and buckets; ``connect`` gives a connection to it. Delivery is never
inside ``publish``: a handler runs on a later turn of the event loop, in order per subscription, as on a socket.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

from bus.clock import Clock, SystemClock, Timer
from bus.drops import Drops
from bus.errors import BusError, BusTimeout, BusUnavailable, NoResponders, NotProvisioned, StoreUnavailable
from bus.fencing import own_retry
from bus.handlers import plain
from bus.interface import (
    Bucket,
    Handler,
    Headers,
    Message,
    StoreAck,
    StoredMessage,
    Subscription,
    WorkQueue,
)
from bus.logs import get_logger
from bus.memory_stream import MemoryConsumer, MemoryStore, MemoryStream
from bus.memory_views import MemoryBucket, MemoryWorkQueue
from bus.topology import Topology, topology
from config.settings import StreamsSection
from schemas.subjects import DISCONNECT_SUBJECT, matches, template_of

log = get_logger(__name__)
Result = TypeVar("Result")


class MemorySubscription:
    """One subscription: a bounded queue that the event loop empties."""

    def __init__(self, owner: MemoryConnection, subject: str, handler: Handler, queue: str, pending_limit: int) -> None:
        self.owner = owner
        self.subject = subject
        self.queue = queue
        self._handler = handler
        self._pending: deque[Message] = deque()
        self._pending_limit = pending_limit
        self._dropped = 0

    @property
    def dropped(self) -> int:
        return self._dropped

    def offer(self, message: Message) -> None:
        if len(self._pending) >= self._pending_limit:
            self._dropped += 1
            return
        self._pending.append(message)
        asyncio.get_running_loop().call_soon(self._deliver)  # one turn per message: one order over all subscriptions

    async def close(self) -> None:
        self._pending.clear()
        self.owner.server.unsubscribe(self)

    def _deliver(self) -> None:
        if not self._pending:
            return
        message = self._pending.popleft()
        self.owner.handle(lambda: self._handler(message), template_of(self.subject))


class MemoryServer:
    """The server that connections share. ``running`` false: as if its process were gone; what is stored remains."""

    def __init__(self, settings: StreamsSection | None = None, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.running = True
        self.connections: list[MemoryConnection] = []
        self.streams: dict[str, MemoryStream] = {}
        self.consumers: dict[tuple[str, str], MemoryConsumer] = {}
        self.stores: dict[str, MemoryStore] = {}
        self._subscriptions: list[MemorySubscription] = []
        self._routes: dict[str, list[MemorySubscription]] = {}
        self._turns = itertools.count()
        self.numbers = itertools.count(1)
        self.provision(topology(settings or StreamsSection()))

    def provision(self, wanted: Topology) -> None:
        for stream in wanted.streams:
            self.streams[stream.name] = MemoryStream(stream, self.clock)
            if stream.source:
                self.streams[stream.source].copies.append(self.streams[stream.name])
        for consumer in wanted.consumers:
            key = (consumer.stream, consumer.name)
            self.consumers[key] = MemoryConsumer(consumer, self.streams[consumer.stream], self.clock)
        for bucket in wanted.buckets:
            self.stores[bucket.name] = MemoryStore(bucket, self.clock)

    def connect(self, name: str) -> MemoryConnection:
        connection = MemoryConnection(self, name)
        self.connections.append(connection)
        return connection

    def stop(self) -> None:
        """Every connection is lost; what is stored stays."""
        self.running = False
        for connection in list(self.connections):
            connection.interrupt()

    def start(self) -> None:
        """Up again; every connection that was not interrupted by itself comes back."""
        self.running = True
        for connection in list(self.connections):
            connection.restore()

    def subscribe(self, subscription: MemorySubscription) -> None:
        self._subscriptions.append(subscription)
        self._routes.clear()

    def unsubscribe(self, subscription: MemorySubscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            self._routes.clear()

    def forget(self, connection: MemoryConnection) -> None:
        """A closed connection and its subscriptions are gone."""
        self._subscriptions = [s for s in self._subscriptions if s.owner is not connection]
        self._routes.clear()
        if connection in self.connections:
            self.connections.remove(connection)

    def stream_of(self, subject: str) -> MemoryStream | None:
        return next((stream for stream in self.streams.values() if stream.captures(subject)), None)

    def route(self, message: Message) -> int:
        """Hand a message to every subscription, and to one of each queue group; how many got it."""
        receivers = self._receivers(message.subject)
        for subscription in receivers:
            subscription.offer(message)
        return len(receivers)

    def publish(self, message: Message) -> int:
        """As a PUB on the wire: routed, and stored where a stream captures it. A refusal to store is silent."""
        receivers = self.route(message)
        stream = self.stream_of(message.subject)
        if stream is None:
            if message.reply and not receivers:
                self.route(Message(message.reply, b"", {"Status": "503"}, ""))
            return receivers
        try:
            ack = stream.store(message.subject, message.data, message.headers)
            answer = {"stream": ack.stream, "seq": ack.sequence, **({"duplicate": True} if ack.duplicate else {})}
        except BusError as refusal:
            code = getattr(refusal, "code", 0)
            answer = {"error": {"code": 400, "err_code": code, "description": str(refusal)}, "seq": 0}
        if message.reply:
            self.route(Message(message.reply, json.dumps(answer).encode(), {}, ""))
        return receivers + 1

    def announce_disconnect(self, connection: MemoryConnection, reason: str) -> None:
        """The server's own event of a lost client, as nats.conf imports it."""
        client = {"id": connection.number, "name": connection.name, "lang": "memory", "kind": "Client"}
        body = {"type": "io.nats.server.advisory.v1.client_disconnect", "client": client, "reason": reason}
        self.route(Message(DISCONNECT_SUBJECT, json.dumps(body).encode(), {}, ""))

    def _receivers(self, subject: str) -> list[MemorySubscription]:
        if subject not in self._routes:
            self._routes[subject] = [s for s in self._subscriptions if matches(s.subject, subject)]
        plain: list[MemorySubscription] = []
        groups: dict[tuple[str, str], list[MemorySubscription]] = {}
        for subscription in self._routes[subject]:
            if not subscription.owner.connected:
                continue
            if subscription.queue:
                groups.setdefault((subscription.subject, subscription.queue), []).append(subscription)
            else:
                plain.append(subscription)
        return plain + [members[next(self._turns) % len(members)] for members in groups.values()]


class MemoryConnection:
    """A connection to a :class:`MemoryServer`; ``interrupt`` and ``restore`` are the network's doing."""

    def __init__(self, server: MemoryServer, name: str) -> None:
        self.server = server
        self.number = next(server.numbers)
        self.handler_errors = 0
        self.drops = Drops()
        self._name = name
        self._connected = server.running
        self._closed = False
        self._lost: list[Callable[[], None]] = []
        self._back: list[Callable[[], None]] = []
        self._waking: list[asyncio.Future[None]] = []
        self._waiting: set[asyncio.Future[Message]] = set()

    @property
    def name(self) -> str:
        return self._name

    @property
    def connected(self) -> bool:
        return self._connected

    def interrupt(self, reason: str = "Client Closed") -> None:
        """Lose the connection. What the server would have sent meanwhile is lost, subscriptions are kept."""
        if not self._connected:
            return
        self._connected = False
        if self.server.running:
            self.server.announce_disconnect(self, reason)
        for waiting in list(self._waiting):
            _fail(waiting, BusUnavailable("the connection was lost while waiting"))
        self._call(self._lost)

    def restore(self) -> None:
        """The connection is back, with its subscriptions."""
        if self._connected or self._closed or not self.server.running:
            return
        self._connected = True
        for waking in list(self._waking):
            _resolve(waking, None)
        self._call(self._back)

    def kill(self) -> None:
        """The process died: the connection is gone for good, and nobody in it hears of it."""
        self._lost.clear()
        self._back.clear()
        self.interrupt()
        self._leave()

    def publish(self, subject: str, data: bytes, headers: Headers | None = None, reply: str = "") -> None:
        if not self._connected:
            self.drops.add(subject)
            return
        self.server.publish(Message(subject, bytes(data), dict(headers or {}), reply))

    def publish_many(self, messages: Iterable[tuple[str, bytes]]) -> None:
        for subject, data in messages:
            self.publish(subject, data)

    async def flush(self, timeout_ms: int = 2000) -> None:
        if not self._connected:
            raise BusTimeout(f"the in-memory server did not answer {self._name!r}: the connection is interrupted")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def request(
        self, subject: str, data: bytes, *, timeout_ms: int = 2000, headers: Headers | None = None
    ) -> Message:
        await self.ready(timeout_ms)
        inbox = f"_INBOX.{self.number}.{next(self.server.numbers)}"
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        answer = MemorySubscription(self, inbox, lambda m: _resolve(answered, m), "", 16)
        self.server.subscribe(answer)
        try:
            if not self.server.publish(Message(subject, bytes(data), dict(headers or {}), inbox)):
                raise NoResponders(subject)
            return await self._within(answered, timeout_ms, f"no answer on {subject!r} within {timeout_ms} ms")
        finally:
            self.server.unsubscribe(answer)

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", pending_limit: int = 65_536
    ) -> Subscription:
        if self._closed:
            raise BusUnavailable(f"the connection {self._name!r} is closed")
        subscription = MemorySubscription(self, subject, plain(handler), queue, pending_limit)
        self.server.subscribe(subscription)
        return subscription

    async def store(
        self, subject: str, data: bytes, headers: Headers | None = None, timeout_ms: int = 2000
    ) -> StoreAck:
        await asyncio.sleep(0)
        if not self._connected:
            raise StoreUnavailable(f"not connected: {subject!r} is not stored")
        stream = self.server.stream_of(subject)
        headers = dict(headers or {})
        self.server.route(Message(subject, bytes(data), headers, ""))
        if stream is None:
            raise StoreUnavailable(f"no stream captures {subject!r}; run `callbus provision`")
        try:
            return stream.store(subject, bytes(data), headers)
        except BusError as refusal:
            ack = own_retry(refusal, stream.last(subject), stream.spec.name, data, headers)
            if ack is None:
                raise
            return ack

    async def read(
        self, subject: str, *, from_sequence: int = 1, stream: str = "CALLS", timeout_ms: int = 5000
    ) -> AsyncIterator[StoredMessage]:
        await self.ready(timeout_ms)
        if stream not in self.server.streams:
            raise NotProvisioned("stream", stream)
        for message in self.server.streams[stream].read(subject, from_sequence):
            if not self._connected:
                raise BusUnavailable(f"the connection was lost while reading {subject!r}")
            yield message
            await asyncio.sleep(0)

    async def last(self, subject: str, stream: str = "CALLS") -> StoredMessage | None:
        await self.ready(2000)
        if stream not in self.server.streams:
            raise NotProvisioned("stream", stream)
        return self.server.streams[stream].last(subject)

    async def work_queue(self, consumer: str, stream: str = "CALLS") -> WorkQueue:
        await self.ready(2000)
        found = self.server.consumers.get((stream, consumer))
        if found is None:
            raise NotProvisioned("consumer", f"{consumer} on {stream}")
        return MemoryWorkQueue(self, found, self.server.clock)

    async def bucket(self, name: str) -> Bucket:
        await self.ready(2000)
        if name not in self.server.stores:
            raise NotProvisioned("bucket", name)
        return MemoryBucket(self, self.server.stores[name])

    def on_disconnected(self, listener: Callable[[], None]) -> None:
        self._lost.append(listener)

    def on_reconnected(self, listener: Callable[[], None]) -> None:
        self._back.append(listener)

    def forget_listener(self, listener: Callable[[], None]) -> None:
        self._lost = [known for known in self._lost if known != listener]
        self._back = [known for known in self._back if known != listener]

    async def close(self, drain_ms: int = 2000) -> None:
        if self._closed:
            return
        await asyncio.sleep(0)
        self._lost.clear()
        self._back.clear()
        self.interrupt()
        self._leave()

    def handle(self, call: Callable[[], None], what: str) -> None:
        """Run a handler; an exception in it is logged and counted."""
        try:
            call()
        except Exception:
            self.handler_errors += 1
            log.exception("bus_handler_failed", message=f"the handler of {what} failed")

    def _leave(self) -> None:
        self._closed = True
        self.server.forget(self)

    async def ready(self, timeout_ms: int = 2000) -> None:
        """Wait until connected.

        Raises:
            BusUnavailable: not within ``timeout_ms``, or closed.
        """
        await asyncio.sleep(0)
        if self._connected:
            return
        if self._closed:
            raise BusUnavailable(f"the connection {self._name!r} is closed")
        back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waking.append(back)
        text = f"no connection to the in-memory server within {timeout_ms} ms"
        timer = self.server.clock.call_later(timeout_ms, lambda: _fail(back, BusUnavailable(text)))
        try:
            await back
        finally:
            timer.cancel()
            self._waking.remove(back)

    async def _within(self, awaited: asyncio.Future[Message], timeout_ms: int, text: str) -> Message:
        timer: Timer = self.server.clock.call_later(timeout_ms, lambda: _fail(awaited, BusTimeout(text)))
        self._waiting.add(awaited)
        try:
            return await awaited
        finally:
            timer.cancel()
            self._waiting.discard(awaited)

    def _call(self, listeners: list[Callable[[], None]]) -> None:
        for listener in list(listeners):
            self.handle(listener, "connection state")


def _resolve(future: asyncio.Future[Result], value: Result) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
