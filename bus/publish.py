"""The record of a call: an event is live at once and stored in order, whatever the stream does meanwhile.

While the stream answers, an event is one message: to live subscribers and into the stream, several of them under way at
once. When the stream is silent or refuses, each new event goes out as a live-only copy (it names a stream that does
not exist, so that CALLS refuses it) and waits in a queue; the queue is stored one by one, each confirmed before the
next is sent. Readers drop the second copy by its ``Nats-Msg-Id``. So nobody who listens waits for a stream that elects
a leader, and the stream holds the events in the order of recording. (One exception: a stream that refuses one message
and takes the next within the same round trip, which no election does; it is counted in ``figures``.)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakValueDictionary

from bus import codec, tracing
from bus.acks import ack_inbox
from bus.errors import BusError, StaleWrite, StoreRefused
from bus.fencing import EXPECTED_STREAM, MESSAGE_ID, Fence, fence_of, last_sequences, own_retry
from bus.guard import guard_of
from bus.interface import Connection, StoreAck, StoredMessage
from bus.logs import about_subject, get_logger
from bus.metrics.process import FAILURES_TOTAL
from bus.topology import CALLS
from schemas import subjects
from schemas.base import Event
from schemas.failure import Failure

log = get_logger(__name__)

LIVE_ONLY = "live-only"
"""Name of no stream: a message that expects it is delivered and never stored."""

STORE_TIMEOUT_MS = 2000
RETRY_FIRST_MS = 50
RETRY_MAX_MS = 1000
FLIGHT_LIMIT = 64
FLIGHT_AGE_S = 0.1
"""An unanswered message older than this stops the pipeline: what follows is queued behind it."""
AUDIO_LIMIT_BYTES = 2 * 1024 * 1024
"""Recorded audio kept while the stream is away: about two minutes of both directions."""
EVENT_LIMIT = 10_000
DOUBTFUL = -1
"""In place of a fence's last sequence: look who wrote last before anything more is sent behind that fence."""


class RecorderFigures:
    """Counts over all recorders of the process."""

    def __init__(self) -> None:
        self.stored = 0
        self.duplicates = 0
        self.retries = 0
        self.live_copies = 0
        self.reordered = 0
        self.refused = 0
        self.dropped = 0
        self.fenced = 0


figures = RecorderFigures()
_RECORDERS: WeakValueDictionary[int, Recorder] = WeakValueDictionary()


def pending_of_all() -> int:
    """Messages of all recorders of the process that the stream has not confirmed yet. May be asked on any thread."""
    return sum(each.pending for reference in _RECORDERS.valuerefs() if (each := reference()) is not None)


class _Entry:
    __slots__ = ("data", "done", "event", "failed", "fence", "headers", "sent_at", "subject")

    def __init__(
        self, subject: str, data: bytes, headers: dict[str, str], event: Event | None, fenced: bool = False
    ) -> None:
        self.subject = subject
        self.data = data
        self.headers = headers
        self.event = event
        self.fence = fence_of(subject) if fenced else None
        self.sent_at = 0.0
        self.done = False
        self.failed = False


class Recorder:
    """Stores what one sender says of one call.

    ``on_fenced`` is called once when a fenced event meets what a successor has written: the recorder has stopped then
    and drops everything, and the worker has lost the call.
    """

    def __init__(self, connection: Connection, *, service: str) -> None:
        self.on_fenced: Callable[[Event], None] | None = None
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._service = service
        self._inbox = ack_inbox(connection)
        self._guard = guard_of(connection)
        self._guard.on_open(self._pump)
        self._flight: deque[_Entry] = deque()
        self._queue: deque[_Entry] = deque()
        self._queued_audio_bytes = 0
        self._stalled = False
        self._waits_for_connection = False
        self._delay_ms = RETRY_FIRST_MS
        self._retry: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._sequences: dict[Fence, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        _RECORDERS[id(self)] = self
        if not self._inbox.ready:
            self._inbox.open(self._pump)

    @property
    def pending(self) -> int:
        """Messages that the stream has not confirmed yet; never more than ``EVENT_LIMIT`` and the audio limit allow."""
        return len(self._flight) + len(self._queue)

    @property
    def stalled(self) -> bool:
        """Whether the stream does not take messages now."""
        return self._stalled

    def record(self, event: Event, *, fenced: bool = False) -> None:
        """Send ``event`` to whoever listens, and store it after all that was recorded before. Returns at once.

        ``fenced``: the stream takes it only if nobody of a higher epoch has written behind this event's fence.
        """
        subject = subjects.subject_of(event)
        headers = {MESSAGE_ID: event.dedupe_id}
        if isinstance(event, Failure):
            FAILURES_TOTAL.inc(stage=event.stage, code=event.code)
        tracing.inject(subject, headers, event)
        if not self._stopped:
            tracing.said(event)
        self._add(_Entry(subject, codec.encode(event), headers, event, fenced))

    def record_audio(self, subject: str, data: bytes, dedupe_id: str) -> None:
        """Store a chunk of the recording after all that was recorded before. It has no live copy."""
        self._add(_Entry(subject, data, {MESSAGE_ID: dedupe_id}, None))

    async def prepare(self, *fenced_subjects: str) -> None:
        """Learn the last sequence of subjects whose events will be fenced, at a takeover, before the first of them.

        Without it the first such event goes out as a live-only copy while its sequence is looked up, and what others
        say because of it may be stored before it. A first owner needs no look: nobody can have written before it.
        """
        known = await last_sequences(self._connection, map(fence_of, fenced_subjects))
        self._sequences = {**known, **self._sequences}

    async def flush(self, timeout_ms: int) -> bool:
        """Wait until everything is stored; False where the time did not suffice or the recorder was fenced off."""
        if not self._idle.is_set() and timeout_ms > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._idle.wait(), timeout_ms / 1000)
        return self._idle.is_set() and not self._stopped

    async def close(self, timeout_ms: int) -> None:
        """Flush, then stop. What is not stored by then is dropped, counted and logged; 0 drops it at once."""
        if not self._stopped and not await self.flush(timeout_ms) and self.pending:
            figures.dropped += self.pending
            log.warning("record_dropped", message=f"{self.pending} messages of a call were not stored before its end")
        self._stop()
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    def _add(self, entry: _Entry) -> None:
        if self._stopped:
            figures.dropped += 1
            return
        passes = self._guard.passes()
        if passes and self._may_send(entry):
            self._idle.clear()
            self._send(entry)
            return
        if not self._has_room(entry):
            return
        self._idle.clear()
        if passes and entry.event is not None:
            figures.live_copies += 1
            self._connection.publish(entry.subject, entry.data, {**entry.headers, EXPECTED_STREAM: LIVE_ONLY})
        self._queue.append(entry)
        self._pump()

    def _may_send(self, entry: _Entry) -> bool:
        if self._queue or self._stalled or not self._inbox.ready or not self._connection.connected:
            return False
        flight = self._flight
        if flight and (len(flight) >= FLIGHT_LIMIT or self._loop.time() - flight[0].sent_at > FLIGHT_AGE_S):
            return False
        if entry.fence is None:
            return True
        if entry.event is not None and entry.event.epoch <= 1:
            self._sequences.setdefault(entry.fence, 0)
        return self._knows(entry.fence) and all(other.fence != entry.fence for other in flight)

    def _knows(self, fence: Fence) -> bool:
        return self._sequences.get(fence, DOUBTFUL) != DOUBTFUL

    def _has_room(self, entry: _Entry) -> bool:
        if entry.event is None:
            full = self._queued_audio_bytes + len(entry.data) > AUDIO_LIMIT_BYTES
        else:
            full = len(self._queue) >= EVENT_LIMIT
        if full:
            figures.dropped += 1
            if figures.dropped == 1 or figures.dropped % 1000 == 0:
                log.error(
                    "record_overflow",
                    message=f"the stream has been away too long: {figures.dropped} messages dropped in this process",
                )
        elif entry.event is None:
            self._queued_audio_bytes += len(entry.data)
        return not full

    def _send(self, entry: _Entry) -> None:
        entry.done = entry.failed = False
        entry.sent_at = self._loop.time()
        headers = entry.headers
        if entry.fence is not None:
            headers = {**headers, **entry.fence.expect(entry.subject, self._sequences[entry.fence])}
        self._flight.append(entry)
        self._inbox.send(
            entry.subject, entry.data, headers, lambda outcome: self._settle(entry, outcome), STORE_TIMEOUT_MS
        )

    def _settle(self, entry: _Entry, outcome: StoreAck | BusError) -> None:
        if self._stopped:
            return
        if isinstance(outcome, StoreAck):
            self._stored(entry, outcome)
        elif isinstance(outcome, StaleWrite) and entry.fence is not None:
            self._fail(entry)
            self._ask(self._look_who_wrote(entry, entry.fence, outcome))
        elif isinstance(outcome, StoreRefused):
            figures.refused += 1
            entry.done = True
            with about_subject(entry.subject):
                log.error(
                    "record_refused", message=f"the stream takes no {subjects.template_of(entry.subject)}: {outcome}"
                )
        else:
            self._fail(entry)
        self._land()

    def _stored(self, entry: _Entry, ack: StoreAck) -> None:
        entry.done = True
        if ack.duplicate:
            figures.duplicates += 1
        else:
            figures.stored += 1
            if self._flight[0] is not entry and any(other.failed for other in self._flight):
                figures.reordered += 1
        if entry.fence is not None:
            # Of a repetition it is not known whose word was stored: a successor's sequence would open its fence.
            self._sequences[entry.fence] = DOUBTFUL if ack.duplicate else ack.sequence

    def _fail(self, entry: _Entry) -> None:
        entry.failed = True
        figures.retries += 1
        self._stalled = True

    def _land(self) -> None:
        """Take what is settled out of the air; go on once nothing is."""
        flight = self._flight
        while flight and flight[0].done:
            flight.popleft()
        if any(not entry.done and not entry.failed for entry in flight):
            return
        again = [entry for entry in flight if entry.failed]
        flight.clear()
        if again:
            for entry in reversed(again):
                self._queue.appendleft(entry)
                if entry.event is None:
                    self._queued_audio_bytes += len(entry.data)
            self._later()
        else:
            self._delay_ms = RETRY_FIRST_MS
            self._pump()

    def _later(self) -> None:
        if self._retry is None:
            self._retry = self._loop.call_later(self._delay_ms / 1000, self._retry_now)
            self._delay_ms = min(self._delay_ms * 2, RETRY_MAX_MS)

    def _wait_for_connection(self) -> None:
        if not self._waits_for_connection:
            self._waits_for_connection = True
            self._inbox.when_connected(self._connected_again)

    def _connected_again(self) -> None:
        self._waits_for_connection = False
        self._retry_now()

    def _retry_now(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._pump()

    def _pump(self) -> None:
        """Send the first of the queue, if nothing is under way."""
        if self._stopped or self._flight or self._retry is not None or self._busy_asking():
            return
        if not self._queue:
            self._stalled = False
            self._idle.set()
            return
        if not self._inbox.ready or not self._guard.passes():
            return
        if not self._connection.connected:
            self._wait_for_connection()
            return
        entry = self._queue[0]
        if entry.fence is not None and not self._knows(entry.fence):
            self._ask(self._learn(entry, entry.fence))
            return
        self._queue.popleft()
        if entry.event is None:
            self._queued_audio_bytes -= len(entry.data)
        self._send(entry)

    def _busy_asking(self) -> bool:
        return self._asking is not None and not self._asking.done()

    def _ask(self, question: Coroutine[Any, Any, None]) -> None:
        self._asking = self._loop.create_task(question, name="recorder-asks")

    async def _learn(self, entry: _Entry, fence: Fence) -> None:
        """The last sequence behind a fence; a higher epoch there means that the call is lost already."""
        try:
            newest = await fence.newest(self._connection)
        except BusError:
            self._asking = None
            self._later()
            return
        self._asking = None
        self._take_over_from(entry, fence, newest)

    async def _look_who_wrote(self, entry: _Entry, fence: Fence, refusal: StaleWrite) -> None:
        """Refused as stale: this very message (its word was lost), a predecessor's last breath, or a successor."""
        try:
            newest = await fence.newest(self._connection)
        except BusError:
            self._asking = None
            self._later()  # the retry that was due meanwhile found this question open, and did nothing
            return
        self._asking = None
        ack = own_retry(refusal, newest, CALLS, entry.data, entry.headers)
        if ack is not None and entry in self._queue:
            self._queue.remove(entry)
            self._sequences[fence] = ack.sequence
            figures.duplicates += 1
            self._retry_now()
            return
        self._take_over_from(entry, fence, newest)

    def _take_over_from(self, entry: _Entry, fence: Fence, newest: StoredMessage | None) -> None:
        if self._stopped:
            return
        if newest is not None and entry.event is not None and codec.epoch_of(newest) > entry.event.epoch:
            self._fenced_off(entry.event)
            return
        self._sequences[fence] = newest.stream_sequence if newest else 0
        self._retry_now()

    def _fenced_off(self, event: Event) -> None:
        figures.fenced += 1
        log.warning(
            "fenced_off",
            message=f"a successor of this {self._service} worker has written first; {self.pending} messages dropped",
            tenant=event.tenant,
            call_id=event.call_id,
        )
        self._stop()
        if self.on_fenced is not None:
            self.on_fenced(event)

    def _stop(self) -> None:
        self._stopped = True
        self._queue.clear()
        self._flight.clear()
        self._queued_audio_bytes = 0
        self._guard.forget(self._pump)
        self._idle.set()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
