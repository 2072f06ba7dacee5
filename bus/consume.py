"""Reading a call: what is stored first, then what is said live, each event once and in order.

A feed subscribes first and keeps what arrives, reads what the stream holds, hands that over in the stream's order,
then what it kept, then what comes. After a reconnect, and after it lost messages by being slow, it reads again what
it may have missed; for that it holds live events back only briefly, because a stream that elects a leader must not
stop a call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from weakref import WeakKeyDictionary

from bus import codec, topology, tracing
from bus.clock import wall_us
from bus.dead_letter import bury
from bus.errors import BusError, DecodeError
from bus.fencing import MESSAGE_ID
from bus.interface import Connection, Message, StoredMessage, Subscription
from bus.logs import about_subject, get_logger
from bus.tracing import GuardedHandler
from schemas import subjects
from schemas.audio import AudioFormatError, AudioFrame, unpack_audio
from schemas.base import Event

log = get_logger(__name__)

EventHandler = Callable[[Event], None]

AUDIO_PENDING_LIMIT = 250
"""Frames kept for a slow reader: 5 s; more is a gap, not a queue."""
REREAD_HOLD_MS = 300
READ_RETRY_FIRST_MS = 50
READ_RETRY_MAX_MS = 1000
LIVE_MEMORY = 4096
"""Events whose second copy :func:`follow_all` recognises."""

ALL_NAMES = (*(f"{domain}.>" for domain in subjects.SPEAKERS if domain not in ("rec", "failure")), "failure")

LOOKS_S = (0.2, 0.8)
"""The server delivers a message a moment before it stores it, and while the stream is slow a sender waits to store it.
What was live just before a feed subscribed may be stored just after it read, so a feed looks again after these."""
LOOKS_AT_COPY_S = (0.05, 0.1, 0.35, 0.5, 1.0, 1.0, 1.0, 2.0, 4.0, 6.0)
"""The same where it reads a copy of the stream: a little behind at any time, more so on a busy machine, and standing
still while its servers elect. A look at it is one request."""


class CallFeed:
    """The events of one call, handed to a plain function; their ids are kept meanwhile, some 100 bytes each.

    ``caught_up`` is set once everything stored was handed over for the first time.
    """

    def __init__(
        self, connection: Connection, root: str, handler: EventHandler, names: Collection[str], service: str
    ) -> None:
        self.caught_up = asyncio.Event()
        self._connection = connection
        self._root = root
        self._names = tuple(dict.fromkeys(names)) or ALL_NAMES
        self._patterns = [f"{root}{name}" for name in self._names]
        self._service = service
        self._stream = topology.READS_COPY.get(service, topology.CALLS)
        # A copy holds hardly more than is followed: one reading instead of one for each name.
        self._reads_copy = self._stream != topology.CALLS
        self._next_sequence = dict.fromkeys([f"{root}>"] if self._reads_copy else self._patterns, 1)
        self._guarded: GuardedHandler[Event] = GuardedHandler(service, handler)
        self._seen: set[str] = set()
        self._epochs: dict[str, int] = {}
        self._held: list[Message] | None = []
        self._subscriptions: list[Subscription] = []
        self._dropped = 0
        self._catching_up: asyncio.Task[None] | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._again = self._closed = False

    async def open(self, from_start: bool) -> None:
        """Subscribe, then begin to read what is stored."""
        for pattern in self._patterns:
            self._subscriptions.append(await self._connection.subscribe(pattern, self._receive))
        _feeds_of(self._connection).add(self)
        if from_start:
            self.read_again()
        else:
            await self._start_at_end()

    async def close(self) -> None:
        """Hand nothing over any more. May be called from a handler's own task, and twice."""
        self._closed = True
        tracing.left(self._root.split(".")[2])
        self._stop_looking()
        _feeds_of(self._connection).discard(self)
        if self._catching_up is not None and self._catching_up is not asyncio.current_task():
            self._catching_up.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._catching_up
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.close()

    def hear(self, message: Message) -> None:
        """What is known here without the bus; left out where this feed does not follow it."""
        if self._follows(message.subject):
            self._receive(message)

    def look(self) -> None:
        """Read once what was stored meanwhile, where something is seen to be missing; nothing where it reads anyway."""
        if not self._closed and all(task is None or task.done() for task in (self._catching_up, self._looking)):
            self._looking = asyncio.get_running_loop().create_task(self._read_late(), name="call-feed-look")

    def read_again(self) -> None:
        """Read what the stream holds and was not handed over yet."""
        if self._closed:
            return
        if self._catching_up is not None and not self._catching_up.done():
            self._again = True
            return
        self._stop_looking()
        self._held = self._held if self._held is not None else []
        self._catching_up = asyncio.get_running_loop().create_task(self._catch_up(), name="call-feed")

    async def _start_at_end(self) -> None:
        """Live only; a later re-read begins with what is stored from now on."""
        for pattern in self._next_sequence:
            async for message in self._connection.read(pattern, stream=self._stream):
                self._next_sequence[pattern] = message.stream_sequence + 1
        self._release()
        self.caught_up.set()

    def _receive(self, message: Message) -> None:
        if self._closed:
            return
        if self._held is not None:
            self._held.append(message)
        else:
            self._hand_over(message)
        if (dropped := sum(subscription.dropped for subscription in self._subscriptions)) != self._dropped:
            self._dropped = dropped
            self.read_again()

    async def _catch_up(self) -> None:
        release = None
        if self.caught_up.is_set():
            release = asyncio.get_running_loop().call_later(REREAD_HOLD_MS / 1000, self._release)
        delay_ms = READ_RETRY_FIRST_MS
        while not self._closed:
            self._again = False
            try:
                stored = await self._read_stored()
            except BusError as error:
                if delay_ms == READ_RETRY_FIRST_MS:
                    log.warning("read_failed", message=f"a call can't be read from its stream: {error}; trying again")
                await asyncio.sleep(delay_ms / 1000)
                delay_ms = min(delay_ms * 2, READ_RETRY_MAX_MS)
                continue
            self._hand_over_stored(stored)
            if not self._again:
                break
        if release is not None:
            release.cancel()
        self._release()
        self.caught_up.set()
        if not self._closed:
            self._look_later()

    def _stop_looking(self) -> None:
        """A reading that begins, or the end, makes the next look needless."""
        if self._next_look is not None:
            self._next_look.cancel()
        if self._looking is not None and self._looking is not asyncio.current_task():
            self._looking.cancel()

    def _look_later(self, looked: int = 0) -> None:
        pauses = LOOKS_AT_COPY_S if self._reads_copy else LOOKS_S
        if looked:
            self.look()
        if looked < len(pauses) and not self._closed:
            loop = asyncio.get_running_loop()
            self._next_look = loop.call_later(pauses[looked], self._look_later, looked + 1)

    async def _read_late(self) -> None:
        """Hand over what was stored after the reading and had been live before the subscription."""
        try:
            self._hand_over_stored(await self._read_stored())
        except BusError as error:
            log.warning("read_failed", message=f"a call can't be read from its stream: {error}")

    async def _read_stored(self) -> list[StoredMessage]:
        """What the stream holds beyond the last reading, all names in one order."""
        parts = await asyncio.gather(*(self._read_one(*item) for item in self._next_sequence.items()))
        for pattern, part in zip(self._next_sequence, parts, strict=True):
            if part:
                self._next_sequence[pattern] = part[-1].stream_sequence + 1
        found = [message for part in parts for message in part]
        if self._reads_copy:
            return [message for message in found if self._follows(message.subject)]
        return sorted(found, key=lambda message: message.stream_sequence)

    def _follows(self, subject: str) -> bool:
        return any(subjects.matches(pattern, subject) for pattern in self._patterns)

    async def _read_one(self, pattern: str, from_sequence: int) -> list[StoredMessage]:
        reading = self._connection.read(pattern, from_sequence=from_sequence, stream=self._stream)
        return [message async for message in reading]

    def _hand_over_stored(self, stored: Sequence[StoredMessage]) -> None:
        """In the stream's order. What was also heard live keeps its place there: the names are read one by one, and
        something stored meanwhile may be read in one of them and not yet in another."""
        live = {message.headers.get(MESSAGE_ID) for message in self._held or ()} - {None}
        for message in stored:
            if message.headers.get(MESSAGE_ID) not in live:
                self._hand_over(message)

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for message in held:
            self._hand_over(message)

    def _hand_over(self, message: Message | StoredMessage) -> None:
        identity = message.headers.get(MESSAGE_ID, "")
        if self._closed or (identity and identity in self._seen):
            return
        try:
            event = codec.decode_event(message.subject, message.data)
        except codec.UnknownEventError:
            return
        except DecodeError as error:
            self._bury(message, identity, error)
            return
        if event.dedupe_id in self._seen or self._outdated(message.subject, event):
            return
        self._seen.add(event.dedupe_id)
        received_us = wall_us()
        self._guarded(message.subject, message.headers, event)
        # After what was said because of it: the figures of a turn are told upon the event that ends its span.
        tracing.heard(event, received_us, isinstance(message, Message))

    def _outdated(self, subject: str, event: Event) -> bool:
        """Said by a worker that had been replaced already. Where nobody owns (``failure``) everything counts."""
        domain = subject[len(self._root) :].split(".", 1)[0]
        speaker = subjects.SPEAKERS.get(domain, "any")
        highest = self._epochs.get(speaker, 0)
        if speaker == "any" or event.epoch >= highest:
            self._epochs[speaker] = max(highest, event.epoch)
            return False
        return True

    def _bury(self, message: Message | StoredMessage, identity: str, error: DecodeError) -> None:
        """The live and the stored copy of what can't be read go to the dead letters once."""
        key = identity or f"{message.subject} {hash(message.data)}"
        if key not in self._seen:
            self._seen.add(key)
            bury(self._connection, self._service, message.subject, message.data, str(error))


_FEEDS: WeakKeyDictionary[Connection, set[CallFeed]] = WeakKeyDictionary()


def _feeds_of(connection: Connection) -> set[CallFeed]:
    """The open feeds of a connection; one listener for all of them, because listeners can't be taken back."""
    feeds = _FEEDS.get(connection)
    if feeds is None:
        feeds = _FEEDS[connection] = set()
        opened = feeds

        def read_again() -> None:
            for feed in list(opened):
                feed.read_again()

        connection.on_reconnected(read_again)
    return feeds


def hand_over(connection: Connection, event: Event) -> None:
    """Tell every feed of this connection that follows the event's call, and nobody else."""
    message = Message(subjects.subject_of(event), codec.encode(event), {MESSAGE_ID: event.dedupe_id}, "")
    for feed in list(_feeds_of(connection)):
        feed.hear(message)


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

    ``names``: event names or patterns (``asr.final``, ``playout.*``); empty: all. Returns once live events are
    received; the stored ones follow, see ``CallFeed.caught_up``. Names that this program does not know are left
    out, what does not decode goes to the dead letters of ``service``. Raises ``BusError`` where subscribing fails.
    """
    root = subjects.call_events(call_id, tenant)[:-1]
    feed = CallFeed(connection, root, handler, names, service)
    try:
        await feed.open(from_start)
    except BaseException:
        await feed.close()
        raise
    return feed


class _Subscriptions:
    """Several subscriptions as one."""

    def __init__(self, members: list[Subscription]) -> None:
        self._members = members

    @property
    def dropped(self) -> int:
        return sum(member.dropped for member in self._members)

    async def close(self) -> None:
        for member in self._members:
            await member.close()


async def follow_all(
    connection: Connection, names: Collection[str], handler: EventHandler, *, service: str, queue: str = ""
) -> Subscription:
    """Live events of all calls, from now on; ``queue``: share them with the others of that group.

    Second copies are recognised among the last :data:`LIVE_MEMORY` events; epochs are not looked at. In a queue group
    the two copies of an event may go to two members.
    """
    guarded: GuardedHandler[Event] = GuardedHandler(service, handler)
    seen: OrderedDict[str, None] = OrderedDict()

    def receive(message: Message) -> None:
        try:
            event = codec.decode_event(message.subject, message.data)
        except codec.UnknownEventError:
            return
        except DecodeError as error:
            bury(connection, service, message.subject, message.data, str(error))
            return
        if event.dedupe_id in seen:
            return
        seen[event.dedupe_id] = None
        if len(seen) > LIVE_MEMORY:
            seen.popitem(last=False)
        guarded(message.subject, message.headers, event)

    patterns = [subjects.event_subject(name, "*", "*") for name in dict.fromkeys(names or ALL_NAMES)]
    return _Subscriptions([await connection.subscribe(pattern, receive, queue=queue) for pattern in patterns])


async def read_call(connection: Connection, call_id: str, tenant: str, names: Collection[str] = ()) -> list[Event]:
    """Every stored event of a call in the stream's order, each once; audio, and what can't be read, is left out."""
    events: list[Event] = []
    root = subjects.call_events(call_id, tenant)[:-1]
    parts = [
        [message async for message in connection.read(f"{root}{name}")] for name in dict.fromkeys(names or ALL_NAMES)
    ]
    seen: set[str] = set()
    for message in sorted((m for part in parts for m in part), key=lambda m: m.stream_sequence):
        with contextlib.suppress(DecodeError):
            event = codec.decode_event(message.subject, message.data)
            if event.dedupe_id not in seen:
                seen.add(event.dedupe_id)
                events.append(event)
    return events


async def read_recording(
    connection: Connection, direction: str, call_id: str, tenant: str
) -> AsyncIterator[AudioFrame]:
    """The recorded chunks of one direction (``in``, ``out``) in order; what is no audio is left out."""
    async for message in connection.read(subjects.recording(direction, call_id, tenant)):
        with contextlib.suppress(AudioFormatError):
            yield unpack_audio(message.data)


async def subscribe_audio(
    connection: Connection, subject: str, handler: Callable[[AudioFrame], None], *, service: str
) -> Subscription:
    """Live audio of one call, without spans or timing. Bytes that are no audio message go to the dead letters.

    Errors of ``handler`` are the connection's to log and count. Beyond :data:`AUDIO_PENDING_LIMIT` messages the newest
    are dropped; ``Subscription.dropped`` counts them and the hole shows in the frames' sequence.
    """

    def receive(message: Message) -> None:
        try:
            frame = unpack_audio(message.data)
        except AudioFormatError as error:
            bury(connection, service, message.subject, message.data, str(error))
            return
        with about_subject(subject):
            handler(frame)

    return await connection.subscribe(subject, receive, pending_limit=AUDIO_PENDING_LIMIT)
