"""JetStream's management and reading API as plain requests: JSON in, JSON out, errors mapped once.

KV values are read from the stream's leader (``STREAM.MSG.GET``): a replica that answers a direct get may be behind, and
a write that compares with an old revision would be refused its rightful owner. The last message of an event is got by
subject (``DIRECT.GET.CALLS.<subject>``), because only there a permission can say which events a service may look up; a
recorder that learns an old sequence from a replica is refused once more, and asks again. Whole calls are read by
direct-get batches (server 2.11 and later), which make no consumer.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Protocol

import msgspec

from bus.errors import BusError, BusTimeout, BusUnavailable, NoResponders, NotProvisioned
from bus.interface import Handler, Headers, Message, StoredMessage

STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
NO_MESSAGE_FOUND = 10037
BUCKET_PREFIX = "KV_"
BATCH_MESSAGES = 512
BATCH_BYTES = 1_048_576
"""Upper end of one batch: the server's answer stays far below what it lets wait for one client."""


class ApiError(BusError):
    """JetStream answered with an error. ``code``: nats-server's errors.json; ``status``: as in HTTP."""

    def __init__(self, what: str, status: int, code: int, text: str) -> None:
        super().__init__(f"{what}: {text} (error {code})")
        self.status = status
        self.code = code
        self.text = text


class Asker(Protocol):
    """The part of a connection that this file needs."""

    @property
    def request_timeout_ms(self) -> int: ...

    async def request(
        self, subject: str, data: bytes, *, timeout_ms: int = 2000, headers: Headers | None = None
    ) -> Message: ...

    def publish(self, subject: str, data: bytes, headers: Headers | None = None, reply: str = "") -> None: ...

    def open_reply(self, handler: Handler) -> str: ...

    def close_reply(self, reply: str) -> None: ...

    async def ready(self, timeout_ms: float) -> None: ...

    async def within(self, awaited: asyncio.Future[Any], timeout_ms: float) -> Any: ...


class JetStream:
    """Requests of one connection."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def api(self, name: str, body: dict[str, Any] | None = None, timeout_ms: int = 0) -> dict[str, Any]:
        """One request, ``name`` without ``$JS.API.``.

        Raises:
            ApiError: the server refused.
            BusUnavailable: JetStream does not answer (no leader, or not enabled).
        """
        data = msgspec.json.encode(body) if body is not None else b""
        try:
            timeout_ms = timeout_ms or self._asker.request_timeout_ms
            message = await self._asker.request(f"$JS.API.{name}", data, timeout_ms=timeout_ms)
        except NoResponders:
            raise BusUnavailable(
                "JetStream does not answer: it has no leader now, or nats-server runs without it"
            ) from None
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        error = answer.get("error")
        if error:
            raise ApiError(name, error.get("code", 0), error.get("err_code", 0), error.get("description", ""))
        return answer

    async def check_consumer(self, consumer: str, stream: str) -> None:
        """Raises ``NotProvisioned`` where it does not exist."""
        try:
            await self.api(f"CONSUMER.INFO.{stream}.{consumer}")
        except ApiError as error:
            if error.code in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
                raise NotProvisioned("consumer", f"{consumer} on {stream}") from error
            raise

    async def check_bucket(self, name: str) -> None:
        """Raises ``NotProvisioned`` where it does not exist, or says no changes (made by an older version)."""
        info = await self._stream_info(f"{BUCKET_PREFIX}{name}", "bucket", name)
        if not info["config"].get("republish"):
            raise NotProvisioned("bucket", f"{name} that says its changes")

    async def stream_of(self, subject: str, timeout_ms: int = 0) -> str:
        """The stream that captures a subject. Raises ``NotProvisioned``."""
        names = (await self.api("STREAM.NAMES", {"subject": subject}, timeout_ms)).get("streams") or []
        if not names:
            raise NotProvisioned("stream for", subject)
        return str(names[0])

    async def last(self, subject: str, stream: str, timeout_ms: int = 0) -> StoredMessage | None:
        """The newest message of exactly this subject: of a bucket by its leader, of any other stream by a replica."""
        if not stream.startswith(BUCKET_PREFIX):
            return await self._last_direct(subject, stream, timeout_ms)
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}, timeout_ms)
        except ApiError as error:
            if error.code == NO_MESSAGE_FOUND:
                return None
            if error.code == STREAM_NOT_FOUND:
                raise NotProvisioned("stream", stream) from error
            raise
        found = answer["message"]
        return StoredMessage(
            found["subject"],
            base64.b64decode(found.get("data", "")),
            parse_headers(base64.b64decode(found.get("hdrs", ""))),
            found["seq"],
            parse_time(found["time"]),
        )

    async def _last_direct(self, subject: str, stream: str, timeout_ms: int) -> StoredMessage | None:
        timeout_ms = timeout_ms or self._asker.request_timeout_ms
        try:
            message = await self._asker.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", timeout_ms=timeout_ms)
        except NoResponders:
            await self._stream_info(stream, "stream", stream)
            raise BusUnavailable(f"stream {stream} has no leader now") from None
        if "Nats-Sequence" in message.headers:
            return stored_copy(message)
        status = message.headers.get("Status", "")
        if status == "404":
            return None
        raise BusError(f"reading {subject!r} from {stream}: {status} {message.headers.get('Description', '')}")

    async def read(
        self, subject: str, from_sequence: int, stream: str, timeout_ms: int
    ) -> AsyncIterator[StoredMessage]:
        """Everything under ``subject`` that the stream holds when reading begins, in order; see the interface."""
        sequence, left = max(1, from_sequence), -1
        deadline = time.monotonic() + timeout_ms / 1000
        while left:
            try:
                batch, pending = await self._batch(subject, sequence, stream, deadline)
            except BusUnavailable:
                # Reading changes nothing: go on where it broke, as long as there is time.
                await self._asker.ready((deadline - time.monotonic()) * 1000)
                await asyncio.sleep(0.02)
                continue
            if not batch:
                return
            left = pending + len(batch) if left < 0 else left
            for message in batch[:left]:
                yield message
            left -= min(left, len(batch))
            sequence = batch[-1].stream_sequence + 1
            deadline = time.monotonic() + timeout_ms / 1000

    async def _batch(
        self, subject: str, sequence: int, stream: str, deadline: float
    ) -> tuple[list[StoredMessage], int]:
        """Messages from ``sequence`` on, and how many more there are after them."""
        batch: list[StoredMessage] = []
        done: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def receive(message: Message) -> None:
            if "Nats-Sequence" in message.headers:
                batch.append(stored_copy(message))
            elif not done.done():
                done.set_result(message)

        wanted = {"seq": sequence, "batch": BATCH_MESSAGES, "max_bytes": BATCH_BYTES, "next_by_subj": subject}
        await self._asker.ready((deadline - time.monotonic()) * 1000)
        reply = self._asker.open_reply(receive)
        try:
            self._asker.publish(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(wanted), reply=reply)
            end: Message = await self._asker.within(done, (deadline - time.monotonic()) * 1000)
        except TimeoutError:
            raise BusTimeout(f"reading {subject!r} from {stream}: nothing came in time") from None
        finally:
            self._asker.close_reply(reply)
        status = end.headers.get("Status", "")
        if status == "503":
            await self._stream_info(stream, "stream", stream)
            raise BusUnavailable(f"stream {stream} has no leader now")
        if status not in ("204", "404"):
            raise BusError(f"reading {subject!r} from {stream}: {status} {end.headers.get('Description', '')}")
        return batch, int(end.headers.get("Nats-Num-Pending", "0"))

    async def _stream_info(self, stream: str, kind: str, name: str) -> dict[str, Any]:
        try:
            return await self.api(f"STREAM.INFO.{stream}")
        except ApiError as error:
            if error.code == STREAM_NOT_FOUND:
                raise NotProvisioned(kind, name) from error
            raise


def parse_headers(block: bytes) -> dict[str, str]:
    """The headers of a stored message (``NATS/1.0`` block)."""
    headers: dict[str, str] = {}
    for line in block.split(b"\r\n")[1:]:
        name, separator, value = line.partition(b":")
        if separator:
            headers[name.decode("ascii", "replace").strip()] = value.decode("utf-8", "replace").strip()
    return headers


def parse_time(text: str) -> int:
    """RFC 3339 with up to nine digits of fraction -> microseconds since 1970."""
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def stored_copy(message: Message) -> StoredMessage:
    """A stored message as a direct get or a republishing stream sends it: where it stood is said in headers."""
    headers = dict(message.headers)
    subject = headers.pop("Nats-Subject")
    sequence = int(headers.pop("Nats-Sequence"))
    stored_us = parse_time(headers.pop("Nats-Time-Stamp"))
    for name in ("Nats-Stream", "Nats-Last-Sequence", "Nats-Num-Pending", "Nats-UpTo-Sequence"):
        headers.pop(name, None)
    return StoredMessage(subject, message.data, headers, sequence, stored_us)
