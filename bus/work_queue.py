"""A durable pull consumer of a real server: claim a message, settle it, give back what nobody waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from bus.errors import BusUnavailable
from bus.interface import Claimable, Handler, Headers, Message, StoredMessage
from bus.logs import get_logger

log = get_logger(__name__)

RETRY_S = 0.2


class Puller(Protocol):
    """The part of a connection that a work queue needs."""

    @property
    def inbox_prefix(self) -> str: ...

    async def attach(self, subject: str, handler: Handler, queue: str = "") -> int: ...

    def publish(self, subject: str, data: bytes, headers: Headers | None = None, reply: str = "") -> None: ...

    async def request(
        self, subject: str, data: bytes, *, timeout_ms: int = 2000, headers: Headers | None = None
    ) -> Message: ...

    async def ready(self, timeout_ms: float) -> None: ...

    async def within(self, awaited: asyncio.Future[Any], timeout_ms: float) -> Any: ...


class NatsClaim:
    """One delivery. Each way of settling it waits until the server has taken note."""

    def __init__(self, puller: Puller, message: Message) -> None:
        self._puller = puller
        self._reply = message.reply
        self._deliveries, sequence, stored_us = delivery_of(message.reply)
        self._message = StoredMessage(message.subject, message.data, message.headers, sequence, stored_us)

    @property
    def message(self) -> StoredMessage:
        return self._message

    @property
    def deliveries(self) -> int:
        return self._deliveries

    async def acknowledge(self) -> None:
        await self._puller.request(self._reply, b"+ACK")

    async def refuse(self, delay_ms: int = 0) -> None:
        delay = b" " + msgspec.json.encode({"delay": delay_ms * 1_000_000}) if delay_ms else b""
        await self._puller.request(self._reply, b"-NAK" + delay)

    async def terminate(self) -> None:
        await self._puller.request(self._reply, b"+TERM")


class NatsWorkQueue:
    """A bound consumer. One ``fetch`` at a time."""

    def __init__(self, puller: Puller, consumer: str, stream: str) -> None:
        self._puller = puller
        self._name = f"{consumer} on {stream}"
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = ""
        self._receive: Callable[[Message], None] | None = None

    async def open(self) -> None:
        """Make the inbox that messages are delivered to."""
        self._inbox = f"{self._puller.inbox_prefix}.pull.{id(self):x}{time.monotonic_ns():x}"
        await self._puller.attach(f"{self._inbox}.*", self._on_message)

    async def fetch(self, count: int, timeout_ms: int, *, wait: bool = True) -> list[Claimable]:
        """What is there at once, up to ``count``; else, unless ``wait`` is False, the first that comes in time; else
        nothing, at the deadline."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            try:
                await self._puller.ready(_left_ms(deadline))
                found = await self._pull({"batch": count, "no_wait": True}, count, deadline)
                if found or not wait or _left_ms(deadline) < 1:
                    return found
                # One only: a second would come to a fetch that has ended.
                found = await self._pull({"batch": 1, "expires": int(_left_ms(deadline) * 1e6)}, 1, deadline)
                if found or _left_ms(deadline) < 1:
                    return found
            except BusUnavailable:
                if _left_ms(deadline) < 1:
                    return []
            await asyncio.sleep(min(RETRY_S, max(_left_ms(deadline) / 1000, 0)))

    async def _pull(self, wanted: dict[str, Any], count: int, deadline: float) -> list[Claimable]:
        """Ask once. Returns when ``count`` came, or the server says that no more will, or at the deadline."""
        found: list[Claimable] = []
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        inbox = f"{self._inbox}.{time.monotonic_ns():x}"

        def receive(message: Message) -> None:
            if is_delivery(message):
                found.append(NatsClaim(self._puller, message))
            elif message.subject != inbox:
                return  # a word about an earlier request
            elif message.headers.get("Status") == "503":
                log.warning("work_queue_away", message=f"consumer {self._name} does not answer")
            if (len(found) >= count or not is_delivery(message)) and not ended.done():
                ended.set_result(None)

        self._receive = receive
        try:
            self._puller.publish(self._subject, msgspec.json.encode(wanted), reply=inbox)
            await self._puller.within(ended, _left_ms(deadline) + 20)
        except TimeoutError:
            pass  # the deadline is an answer too: nothing came
        except BusUnavailable:
            if not found:
                raise
        finally:
            self._receive = None
        return found

    def _on_message(self, message: Message) -> None:
        if self._receive is not None:
            self._receive(message)
        elif is_delivery(message):
            self._puller.publish(message.reply, b"-NAK")  # its fetch is over: somebody else shall have it now


def is_delivery(message: Message) -> bool:
    """Whether this is a message of the stream and not a word about the request."""
    return message.reply.startswith("$JS.ACK.")


def delivery_of(reply: str) -> tuple[int, int, int]:
    """Deliveries, stream sequence and storing time (microseconds since 1970) out of an acknowledgement subject.

    ``$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time ns>.<pending>``, or the longer form
    with domain and account in front (NATS ADR-15).
    """
    tokens = reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    return int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 3]) // 1000


def _left_ms(deadline: float) -> float:
    return (deadline - time.monotonic()) * 1000
