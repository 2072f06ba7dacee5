"""The stream's word on published messages, without a task, a future or a subscription per message.

A message is published with a numbered reply subject under one inbox per connection; the answer finds the callback by
its number. One timer looks after all deadlines.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from weakref import WeakKeyDictionary

import msgspec

from bus.errors import BusError, StaleWrite, StoreRefused, StoreUnavailable
from bus.interface import Connection, Message, StoreAck
from bus.logs import get_logger

log = get_logger(__name__)

STALE_CODES = (10070, 10071, 10164)
"""nats-server's errors.json: expected last message id, expected last sequence (of the stream or of the subject), and
the latter where a cluster has not settled yet what another writer said behind the same fence."""
IN_PROCESS_CODE = 10158
"""A message of the same dedupe id is on its way to the replicas: whether it gets there is known a moment later."""
SWEEP_S = 0.25
OPEN_RETRY_S = 0.2

Outcome = Callable[[StoreAck | BusError], None]


class _Refusal(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _Refusal | None = None


_DECODER = msgspec.json.Decoder(_Answer)


def read_answer(message: Message) -> StoreAck | BusError:
    """What the stream said: stored, or why not."""
    if not message.data:
        status = message.headers.get("Status", "no data")
        return StoreUnavailable(f"no stream answers now (status {status})")
    try:
        answer = _DECODER.decode(message.data)
    except msgspec.DecodeError as error:
        return StoreUnavailable(f"the stream's answer can't be read: {error}")
    refusal = answer.error
    if refusal is None:
        return StoreAck(answer.stream, answer.seq, answer.duplicate)
    if refusal.err_code in STALE_CODES:
        return StaleWrite(refusal.description, refusal.err_code)
    if refusal.code >= 500 or refusal.err_code == IN_PROCESS_CODE:
        return StoreUnavailable(refusal.description)
    return StoreRefused(refusal.description, refusal.err_code)


class AckInbox:
    """One per connection; :func:`ack_inbox` finds it. ``ready`` once its subscription stands."""

    def __init__(self, connection: Connection) -> None:
        self.ready = False
        self._connection = connection
        self._prefix = f"{getattr(connection, 'inbox_prefix', '_INBOX')}.ack.{os.urandom(8).hex()}"
        self._number = 0
        self._waiting: dict[str, tuple[Outcome, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._on_ready: list[Callable[[], None]] = []
        self._on_connected: list[Callable[[], None]] = []
        self._opening: asyncio.Task[None] | None = None
        connection.on_disconnected(self._disconnected)
        connection.on_reconnected(self._reconnected)

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def open(self, on_ready: Callable[[], None]) -> None:
        """Subscribe if that is still to do; call ``on_ready`` then."""
        self._on_ready.append(on_ready)
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open(), name="ack-inbox")

    def when_connected(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once, when the connection is back."""
        self._on_connected.append(listener)

    def send(self, subject: str, data: bytes, headers: dict[str, str], outcome: Outcome, timeout_ms: int) -> None:
        """Publish for a stream to store; ``outcome`` is called once, later: an acknowledgement or what went wrong."""
        self._number += 1
        reply = f"{self._prefix}.{self._number}"
        loop = asyncio.get_running_loop()
        self._waiting[reply] = (outcome, loop.time() + timeout_ms / 1000)
        try:
            self._connection.publish(subject, data, headers, reply)
        except ValueError as error:  # the connection can't send it at all, now or later
            loop.call_soon(self._fail, reply, StoreRefused(str(error)))
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_S, self._sweep)

    async def _open(self) -> None:
        while not self.ready:
            try:
                await self._connection.subscribe(f"{self._prefix}.*", self._receive)
                self.ready = True
            except BusError as error:
                log.warning("ack_inbox_failed", message=f"no inbox for acknowledgements yet: {error}; trying again")
                await asyncio.sleep(OPEN_RETRY_S)
        waiting, self._on_ready = self._on_ready, []
        for on_ready in waiting:
            on_ready()

    def _receive(self, message: Message) -> None:
        waiting = self._waiting.pop(message.subject, None)
        if waiting is not None:
            waiting[0](read_answer(message))

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = [reply for reply, (_, deadline) in self._waiting.items() if deadline <= now]
        for reply in late:
            self._fail(reply, StoreUnavailable("the stream gave no word in time"))
        self._timer = loop.call_later(SWEEP_S, self._sweep) if self._waiting else None

    def _disconnected(self) -> None:
        for reply in list(self._waiting):
            self._fail(reply, StoreUnavailable("the connection was lost before the stream gave its word"))

    def _reconnected(self) -> None:
        waiting, self._on_connected = self._on_connected, []
        for listener in waiting:
            listener()

    def _fail(self, reply: str, error: BusError) -> None:
        waiting = self._waiting.pop(reply, None)
        if waiting is not None:
            waiting[0](error)


_INBOXES: WeakKeyDictionary[Connection, AckInbox] = WeakKeyDictionary()


def ack_inbox(connection: Connection) -> AckInbox:
    """The inbox of a connection."""
    inbox = _INBOXES.get(connection)
    if inbox is None:
        inbox = _INBOXES[connection] = AckInbox(connection)
    return inbox
