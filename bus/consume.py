"""Reading a call: what is stored first, then what is said live, each event once and in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from bus import codec
from bus.dead_letter import bury
from bus.errors import BusError, DecodeError
from bus.interface import Connection, Message, StoredMessage, Subscription
from bus.logs import get_logger
from bus.publish import MSG_ID
from bus.tracing import GuardedHandler
from schemas import subjects
from schemas.audio import AudioFormatError, AudioFrame, unpack_audio
from schemas.base import Event

log = get_logger(__name__)

EventHandler = Callable[[Event], None]


class CallFeed:
    """The events of one call, handed to a plain function. ``caught_up`` is set once everything stored was handed over."""

    def __init__(
        self, connection: Connection, pattern: str, handler: EventHandler, names: Collection[str], service: str
    ) -> None:
        self.caught_up = asyncio.Event()
        self._connection = connection
        self._pattern = pattern
        self._prefix = len(pattern) - 1
        self._names = tuple(names)
        self._service = service
        self._guarded: GuardedHandler[Event] = GuardedHandler(service, handler)
        self._seen: set[str] = set()
        self._epochs: dict[str, int] = {}
        self._buffer: list[Message] | None = []
        self._next_sequence = 1
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self, from_start: bool) -> None:
        self._subscription = await self._connection.subscribe(self._pattern, self._receive)
        self._connection.on_reconnected(self._reread)
        if from_start:
            self._reread()
        else:
            self._release()

    async def close(self) -> None:
        """Hand nothing over any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._subscription is not None:
            await self._subscription.close()

    def _receive(self, message: Message) -> None:
        if self._closed:
            return
        if self._buffer is not None:
            self._buffer.append(message)
        else:
            self._hand_over(message)

    def _wanted(self, subject: str) -> bool:
        name = subject[self._prefix :]
        if name.startswith("rec."):
            return False
        return not self._names or any(subjects.matches(wanted, name) for wanted in self._names)

    def _hand_over(self, message: Message | StoredMessage) -> None:
        if not self._wanted(message.subject):
            return
        identity = message.headers.get(MSG_ID, "")
        if identity and identity in self._seen:
            return
        try:
            event = codec.decode_event(message.subject, message.data)
        except codec.UnknownEvent:
            return
        except DecodeError as error:
            self._seen.add(identity)
            bury(self._connection, self._service, message.subject, message.data, str(error))
            return
        identity = identity or event.dedupe_id
        speaker = subjects.SPEAKERS.get(message.subject[self._prefix :].split(".", 1)[0], "any")
        if speaker != "any" and event.epoch < self._epochs.get(speaker, 0):
            return
        if identity in self._seen:
            return
        self._seen.add(identity)
        self._epochs[speaker] = max(self._epochs.get(speaker, 0), event.epoch)
        self._guarded(message.subject, message.headers, event)

    def _reread(self) -> None:
        if self._closed or (self._task is not None and not self._task.done()):
            return
        self._buffer = self._buffer or []
        self._task = asyncio.get_running_loop().create_task(self._catch_up(), name="call-feed")

    async def _catch_up(self) -> None:
        while not self._closed:
            try:
                async for message in self._connection.read(self._pattern, from_sequence=self._next_sequence):
                    self._next_sequence = message.stream_sequence + 1
                    self._hand_over(message)
                break
            except BusError as error:
                log.warning("read_failed", message=f"a call can't be read from the stream: {error}; trying again")
                await asyncio.sleep(0.2)
        self._release()

    def _release(self) -> None:
        waiting, self._buffer = self._buffer or [], None
        for message in waiting:
            self._hand_over(message)
        self.caught_up.set()


async def follow_call(
    connection: Connection,
    call_id: str,
    tenant: str,
    handler: EventHandler,
    *,
    names: Collection[str] = (),
    from_start: bool = True,
    service: str,
) -> CallFeed:
    """Hand every event of a call to ``handler``: stored ones first, then live ones, each once.

    ``names``: event names or patterns (``asr.final``, ``playout.*``); empty: all. Returns once live events are received;
    stored ones follow, see ``CallFeed.caught_up``.
    """
    feed = CallFeed(connection, subjects.call_events(call_id, tenant), handler, names, service)
    await feed.open(from_start)
    return feed


async def follow_all(
    connection: Connection, names: Collection[str], handler: EventHandler, *, service: str, queue: str = ""
) -> Subscription:
    """Live events of all calls, from now on; ``queue``: share them with the others of that group."""
    raise NotImplementedError


async def read_call(connection: Connection, call_id: str, tenant: str) -> list[Event]:
    """Every stored event of a call in order; what this program does not know or can't read is left out."""
    events: list[Event] = []
    async for message in connection.read(subjects.call_events(call_id, tenant)):
        with contextlib.suppress(DecodeError):
            events.append(codec.decode_event(message.subject, message.data))
    return events


async def subscribe_audio(
    connection: Connection, subject: str, handler: Callable[[AudioFrame], None], *, service: str
) -> Subscription:
    """Live audio of one call. Bytes that are no audio message go to the dead letters."""

    def receive(message: Message) -> None:
        try:
            frame = unpack_audio(message.data)
        except AudioFormatError as error:
            bury(connection, service, message.subject, message.data, str(error))
            return
        handler(frame)

    return await connection.subscribe(subject, receive, pending_limit=250)
