"""A connection to a real NATS server: ``bus.interface.Connection`` on top of :class:`bus.link.Link`.

While the server is away, live messages are dropped and counted, not kept: audio that is late is wrong. What waits for
an answer fails at once when the connection breaks; what is asked while it is away waits for it within its own deadline.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from bus.acks import read_answer
from bus.clock import uuid7_hex
from bus.drops import Drops
from bus.errors import BusError, BusTimeout, BusUnavailable, NoResponders, StoreRefused, StoreUnavailable
from bus.fencing import own_retry
from bus.handlers import plain
from bus.interface import Bucket, Handler, Headers, Message, StoreAck, StoredMessage, Subscription, WorkQueue
from bus.jetstream import JetStream
from bus.link import Link
from bus.logs import about_subject, get_logger
from bus.nats_bucket import NatsBucket
from bus.work_queue import NatsWorkQueue
from config.settings import NatsSection
from schemas.subjects import template_of

log = get_logger(__name__)


async def connect(name: str, settings: NatsSection, *, wait: bool = True) -> NatsConnection:
    """Connect as ``name``; what stands before its first ``-`` is the service, and names the reply inbox.

    With ``wait`` it tries for ever and says so in the log; without, one round over the servers.

    Raises:
        BusUnavailable: ``wait`` is false and no server answers.
        BusError: the credentials file can't be used.
    """
    connection = NatsConnection(Link(name, settings), settings.request_timeout_ms)
    await connection.open(wait)
    return connection


class NatsSubscription:
    """A subscription whose handler runs as its message is read: nothing queues on this side, so nothing is dropped.

    A process that does not read at all is the server's affair: beyond ``max_pending`` of nats.conf it cuts the
    connection, which then comes back by itself.
    """

    def __init__(self, connection: NatsConnection, number: int) -> None:
        self._connection = connection
        self._number = number

    @property
    def dropped(self) -> int:
        return 0

    async def close(self) -> None:
        await self._connection.detach(self._number)


class NatsConnection:
    """One connection; ``bus.interface.Connection`` says what each method promises."""

    def __init__(self, link: Link, request_timeout_ms: int = 2000) -> None:
        self.drops = Drops()
        self.handler_errors = 0
        self.request_timeout_ms = request_timeout_ms
        self._link = link
        self._wire = link.wire
        self._jetstream = JetStream(self)
        # Who was asked may answer below `ask`, and only JetStream below `js`: nobody may forge an acknowledgement.
        self._reply_prefix = f"{link.inbox_prefix}.js.{uuid7_hex()}"
        self._ask_prefix = f"{link.inbox_prefix}.ask.{uuid7_hex()}"
        self._replies: dict[str, Handler] = {}
        self._numbers = itertools.count(1)
        self._attached: set[int] = set()

    @property
    def name(self) -> str:
        return self._link.name

    @property
    def inbox_prefix(self) -> str:
        """What every reply subject of this service begins with: permissions of one user name it."""
        return self._link.inbox_prefix

    @property
    def user(self) -> str:
        """Who the server takes this process for."""
        return self._link.user

    @property
    def forbidden(self) -> str:
        """The server's words when it last refused this user a subject; empty: it never did. It answers such a request
        with nothing else, so that whoever asked waits in vain."""
        return self._link.forbidden

    @property
    def connected(self) -> bool:
        return self._link.connected

    @property
    def server_version(self) -> tuple[int, int]:
        """Major and minor version of the server, for example (2, 15)."""
        version = self._wire.connected_server_version
        return int(version.major), int(version.minor)

    async def open(self, wait: bool = True) -> None:
        """Connect; see :func:`connect`."""
        await self._link.open(wait)
        for prefix in (self._reply_prefix, self._ask_prefix):
            await self._wire.attach(f"{prefix}.*", self._on_reply)

    def publish(self, subject: str, data: bytes, headers: Headers | None = None, reply: str = "") -> None:
        command = self._wire.command(subject, data, headers, reply)
        if not (self._link.connected and self._wire.send(command)):
            self.drops.add(subject)

    def publish_many(self, messages: Iterable[tuple[str, bytes]]) -> None:
        block, count = self._wire.block(messages)
        if count and not (self._link.connected and self._wire.send_now(block)):
            self.drops.add_audio(count)

    async def flush(self, timeout_ms: int = 2000) -> None:
        deadline = time.monotonic() + timeout_ms / 1000
        try:
            await self._link.ready(timeout_ms)
            await self._link.within(self._wire.ping(), _left_ms(deadline))
        except BusUnavailable as error:
            raise BusTimeout(f"the server has not read everything: {error}") from error
        except TimeoutError:
            raise BusTimeout(f"NATS at {self._link.url} did not answer a ping within {timeout_ms} ms") from None

    async def request(
        self, subject: str, data: bytes, *, timeout_ms: int = 2000, headers: Headers | None = None
    ) -> Message:
        asks = self.open_reply if subject.startswith("$JS.") else self.open_ask
        return await self._request(subject, data, timeout_ms, headers, asks)

    async def _request(
        self, subject: str, data: bytes, timeout_ms: int, headers: Headers | None, asks: Callable[[Handler], str]
    ) -> Message:
        deadline = time.monotonic() + timeout_ms / 1000
        await self._link.ready(timeout_ms)
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        reply = asks(lambda message: None if answered.done() else answered.set_result(message))
        try:
            if not self._wire.send(self._wire.command(subject, data, headers, reply)):
                raise BusUnavailable(f"{subject!r} was not sent: NATS at {self._link.url} takes nothing now")
            message: Message = await self._link.within(answered, _left_ms(deadline))
        except TimeoutError:
            raise BusTimeout(f"no answer on {subject!r} within {timeout_ms} ms") from None
        finally:
            self.close_reply(reply)
        if not message.data and message.headers.get("Status") == "503":
            raise NoResponders(subject)
        return message

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", pending_limit: int = 65_536
    ) -> Subscription:
        return NatsSubscription(self, await self.attach(subject, handler, queue))

    async def attach(self, subject: str, handler: Handler, queue: str = "") -> int:
        """Subscribe through reconnects; an exception in ``handler`` is logged and counted. The number detaches it."""
        if self._link.closed:
            raise BusUnavailable(f"the connection {self.name!r} is closed")
        plain(handler)
        number = await self._wire.attach(subject, lambda message: self._handle(handler, message), queue)
        self._attached.add(number)
        return number

    async def detach(self, number: int) -> None:
        """End what :meth:`attach` began."""
        self._attached.discard(number)
        await self._wire.detach(number)

    async def store(
        self, subject: str, data: bytes, headers: Headers | None = None, timeout_ms: int = 2000
    ) -> StoreAck:
        if not self.connected:
            raise StoreUnavailable(f"not connected to NATS at {self._link.url}: {subject!r} is not stored")
        try:
            answer = read_answer(await self._request(subject, data, timeout_ms, headers, self.open_reply))
        except ValueError as error:
            raise StoreRefused(str(error)) from error
        except BusError as error:
            raise StoreUnavailable(f"{subject!r} is not known to be stored: {error}") from error
        if isinstance(answer, StoreAck):
            return answer
        ack = await self._lost_ack(answer, subject, data, headers or {}, timeout_ms)
        if ack is None:
            raise answer
        return ack

    def read(
        self, subject: str, *, from_sequence: int = 1, stream: str = "CALLS", timeout_ms: int = 5000
    ) -> AsyncIterator[StoredMessage]:
        return self._jetstream.read(subject, from_sequence, stream, timeout_ms)

    async def last(self, subject: str, stream: str = "CALLS") -> StoredMessage | None:
        return await self._jetstream.last(subject, stream)

    async def work_queue(self, consumer: str, stream: str = "CALLS") -> WorkQueue:
        await self._jetstream.check_consumer(consumer, stream)
        queue = NatsWorkQueue(self, consumer, stream)
        await queue.open()
        return queue

    async def bucket(self, name: str) -> Bucket:
        await self._jetstream.check_bucket(name)
        return NatsBucket(self, self._jetstream, name)

    async def api(self, name: str, body: dict[str, Any] | None = None, timeout_ms: int = 5000) -> dict[str, Any]:
        """One request of JetStream's management API, decoded. Raises ``bus.jetstream.ApiError``."""
        return await self._jetstream.api(name, body, timeout_ms)

    def on_disconnected(self, listener: Callable[[], None]) -> None:
        self._link.on_disconnected(listener)

    def on_reconnected(self, listener: Callable[[], None]) -> None:
        self._link.on_reconnected(listener)

    def forget_listener(self, listener: Callable[[], None]) -> None:
        self._link.forget_listener(listener)

    async def ready(self, timeout_ms: float) -> None:
        """Wait until connected. Raises ``BusUnavailable``: not within ``timeout_ms``, or closed."""
        await self._link.ready(timeout_ms)

    async def within(self, awaited: asyncio.Future[Any], timeout_ms: float) -> Any:
        """A future's result; ``TimeoutError`` where it is late, ``BusUnavailable`` once the connection is lost."""
        return await self._link.within(awaited, timeout_ms)

    def open_reply(self, handler: Handler) -> str:
        """A fresh reply subject for JetStream, whose answers go to ``handler`` until :meth:`close_reply`."""
        reply = f"{self._reply_prefix}.{next(self._numbers)}"
        self._replies[reply] = handler
        return reply

    def open_ask(self, handler: Handler) -> str:
        """One for other processes: nobody who answered a request before can tell the next one's."""
        reply = f"{self._ask_prefix}.{secrets.token_hex(8)}"
        self._replies[reply] = handler
        return reply

    def close_reply(self, reply: str) -> None:
        self._replies.pop(reply, None)

    async def close(self, drain_ms: int = 2000) -> None:
        if self._link.closed:
            return
        try:
            if self.connected:
                for number in sorted(self._attached):
                    self._wire.send(b"UNSUB %d\r\n" % number)
                await self.flush(drain_ms)
        except BusError as error:
            log.warning("bus_drain_failed", message=f"closing although not everything was sent: {error}")
        finally:
            await self._link.close()

    async def _lost_ack(
        self, answer: BusError, subject: str, data: bytes, headers: Headers, timeout_ms: int
    ) -> StoreAck | None:
        """Where a refusal is about one's own earlier message: the acknowledgement that got lost."""
        if own_retry(answer, StoredMessage(subject, data, headers, 0, 0), "", data, headers) is None:
            return None
        try:
            stream = await self._jetstream.stream_of(subject, timeout_ms)
            newest = await self._jetstream.last(subject, stream, timeout_ms)
        except BusError as error:
            raise StoreUnavailable(f"{subject!r}: can't tell a retry from a stale write now: {error}") from error
        return own_retry(answer, newest, stream, data, headers)

    def _on_reply(self, message: Message) -> None:
        handler = self._replies.get(message.subject)
        if handler is not None:
            self._handle(handler, message)

    def _handle(self, handler: Handler, message: Message) -> None:
        try:
            handler(message)
        except Exception:
            self.handler_errors += 1
            with about_subject(message.subject):
                log.exception("bus_handler_failed", message=f"the handler of {template_of(message.subject)} failed")


def _left_ms(deadline: float) -> float:
    return (deadline - time.monotonic()) * 1000
