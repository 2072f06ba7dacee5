"""The record of a call: an event is live at once and stored in order, whatever the stream does meanwhile.

An event travels to live subscribers and to the stream as one message. While an earlier one still waits for the stream's
word, the next goes out as a live-only copy (it names a stream that does not exist, so that CALLS refuses it) and is
stored when its turn comes. Readers drop the second copy by its ``Nats-Msg-Id``. So nobody who listens waits for a
stream that elects a leader, and the stream's order is the order of recording.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from bus import codec, tracing
from bus.errors import BusError, StaleWrite, StoreRefused
from bus.interface import Connection
from bus.logs import get_logger
from schemas import subjects
from schemas.base import Event

log = get_logger(__name__)

MSG_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
LIVE_ONLY = "live-only"
"""Name of no stream: a message that expects it is delivered and never stored."""

RETRY_FIRST_MS = 50
RETRY_MAX_MS = 1000
STORE_TIMEOUT_MS = 2000


class _Entry(NamedTuple):
    subject: str
    data: bytes
    headers: dict[str, str]
    event: Event | None
    fenced: bool


class Recorder:
    """Stores what one sender says of one call. ``on_fenced`` is called once when a successor has written first."""

    def __init__(self, connection: Connection, *, service: str) -> None:
        self.on_fenced: Callable[[Event], None] | None = None
        self._connection = connection
        self._service = service
        self._queue: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        self._sequences: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Messages that the stream has not confirmed yet."""
        return len(self._queue)

    def record(self, event: Event, *, fenced: bool = False) -> None:
        """Send ``event`` to whoever listens, and store it after all that was recorded before. Returns at once."""
        subject = subjects.subject_of(event)
        headers = {MSG_ID: event.dedupe_id}
        tracing.inject(subject, headers)
        entry = _Entry(subject, codec.encode(event), headers, event, fenced)
        if self._queue:
            self._connection.publish(subject, entry.data, {**headers, EXPECTED_STREAM: LIVE_ONLY})
        self._add(entry)

    def record_audio(self, subject: str, data: bytes, dedupe_id: str) -> None:
        """Store a chunk of the recording after all that was recorded before. No live copy."""
        self._add(_Entry(subject, data, {MSG_ID: dedupe_id}, None, False))

    async def flush(self, timeout_ms: int) -> bool:
        """Wait until everything is stored; False where the time did not suffice or the recorder was fenced off."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_ms / 1000)
        return self._idle.is_set() and not self._stopped

    async def close(self, timeout_ms: int) -> None:
        """Flush, then stop. What is not stored by then is lost, counted and logged."""
        if not await self.flush(timeout_ms) and self._queue:
            log.error("record_lost", message=f"{len(self._queue)} messages of a call could not be stored in time")
        self._stopped = True
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _add(self, entry: _Entry) -> None:
        if self._stopped:
            return
        self._queue.append(entry)
        self._idle.clear()
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._store_all(), name="recorder")

    async def _store_all(self) -> None:
        while not self._stopped:
            while self._queue:
                await self._store_first(self._queue[0])
                if self._queue:
                    self._queue.popleft()
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()

    async def _store_first(self, entry: _Entry) -> None:
        delay_ms = RETRY_FIRST_MS
        while not self._stopped:
            try:
                headers = await self._fence(entry) if entry.fenced else entry.headers
                ack = await self._connection.store(entry.subject, entry.data, headers, STORE_TIMEOUT_MS)
                if entry.fenced and not ack.duplicate:
                    self._sequences[entry.subject] = ack.sequence
                return
            except StaleWrite:
                if await self._is_mine(entry):
                    return
                self._fenced_off(entry)
                return
            except StoreRefused as error:
                log.error(
                    "record_refused", message=f"the stream refuses {subjects.template_of(entry.subject)}: {error}"
                )
                return
            except BusError:
                await asyncio.sleep(delay_ms / 1000)
                delay_ms = min(delay_ms * 2, RETRY_MAX_MS)

    async def _fence(self, entry: _Entry) -> dict[str, str]:
        known = self._sequences.get(entry.subject)
        if known is None:
            last = await self._connection.last(entry.subject)
            known = self._sequences[entry.subject] = last.stream_sequence if last else 0
        return {**entry.headers, EXPECTED_SEQUENCE: str(known)}

    async def _is_mine(self, entry: _Entry) -> bool:
        last = await self._connection.last(entry.subject)
        if last is None or last.headers.get(MSG_ID) != entry.headers[MSG_ID] or last.data != entry.data:
            return False
        self._sequences[entry.subject] = last.stream_sequence
        return True

    def _fenced_off(self, entry: _Entry) -> None:
        self._stopped = True
        self._queue.clear()
        self._idle.set()
        log.warning("fenced_off", message="a successor has written first; this recorder stops", service=self._service)
        if self.on_fenced is not None and entry.event is not None:
            self.on_fenced(entry.event)
