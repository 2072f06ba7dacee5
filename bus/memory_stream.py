"""Streams, work queues and buckets of the in-memory bus: what JetStream does, without a server.

Synchronous and single-threaded; time comes from a ``Clock``. The order of checks is the server's (nats-server 2.15,
measured): expected stream, size, expected sequences, then the dedupe id. A retry of a fenced message whose first
acknowledgement was lost is therefore refused as stale by the stream itself; ``Connection.store`` recognises it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from bus.clock import Clock, Timer
from bus.errors import RevisionConflict, StaleWrite, StoreRefused
from bus.fencing import (
    EXPECTED_ON,
    EXPECTED_SEQUENCE,
    EXPECTED_STREAM,
    EXPECTED_SUBJECT_SEQUENCE,
    INCREMENT,
    MESSAGE_ID,
)
from bus.interface import BucketEntry, Headers, StoreAck, StoredMessage
from bus.topology import BucketSpec, ConsumerSpec, StreamSpec
from schemas.subjects import matches


class MemoryStream:
    """One stream's messages, with dedupe, limits by age and count, and copies into streams that source it."""

    def __init__(self, spec: StreamSpec, clock: Clock) -> None:
        self.spec = spec
        self.last_sequence = 0
        self.copies: list[MemoryStream] = []
        self.listeners: list[Callable[[StoredMessage], None]] = []
        self._clock = clock
        self._messages: dict[int, StoredMessage] = {}
        self._by_subject: dict[str, list[int]] = {}
        self._seen_ids: dict[str, tuple[int, int]] = {}

    def captures(self, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in self.spec.subjects)

    def store(self, subject: str, data: bytes, headers: Headers) -> StoreAck:
        """Append a message.

        Raises:
            StaleWrite: an expected sequence is not the present one.
            StoreRefused: expected stream, size or a counter's increment is wrong.
        """
        self._check(subject, data, headers)
        now_us = self._clock.now_us()
        message_id = headers.get(MESSAGE_ID, "")
        if message_id:
            earlier = self._seen_ids.get(message_id)
            if earlier and now_us - earlier[1] <= self.spec.duplicate_window_s * 1_000_000:
                return StoreAck(self.spec.name, earlier[0], True)
        if self.spec.counter:
            data = self._count(subject, headers)
        sequence = self.append(subject, data, headers)
        if message_id:
            self._seen_ids[message_id] = (sequence, now_us)
        return StoreAck(self.spec.name, sequence, False)

    def append(self, subject: str, data: bytes, headers: Headers) -> int:
        """Append without any check; the sequence."""
        self.last_sequence += 1
        message = StoredMessage(subject, data, dict(headers), self.last_sequence, self._clock.now_us())
        self._messages[self.last_sequence] = message
        sequences = self._by_subject.setdefault(subject, [])
        sequences.append(self.last_sequence)
        if 0 < self.spec.max_messages_per_subject < len(sequences):
            self._messages.pop(sequences.pop(0), None)
        for copy in self.copies:
            if any(matches(pattern, subject) for pattern in copy.spec.source_filters):
                copy.append(subject, data, headers)
        for listener in list(self.listeners):
            listener(message)
        return message.stream_sequence

    def last(self, subject: str) -> StoredMessage | None:
        self._forget_old()
        sequences = self._by_subject.get(subject)
        return self._messages[sequences[-1]] if sequences else None

    def last_sequence_of(self, subject: str) -> int:
        found = self.last(subject)
        return found.stream_sequence if found else 0

    def subjects(self) -> list[str]:
        self._forget_old()
        return list(self._by_subject)

    def read(self, pattern: str, from_sequence: int = 1) -> list[StoredMessage]:
        self._forget_old()
        return [
            m for m in self._messages.values() if m.stream_sequence >= from_sequence and matches(pattern, m.subject)
        ]

    def remove(self, sequence: int) -> None:
        message = self._messages.pop(sequence, None)
        if message is not None:
            sequences = self._by_subject[message.subject]
            sequences.remove(sequence)
            if not sequences:
                del self._by_subject[message.subject]

    def get(self, sequence: int) -> StoredMessage | None:
        return self._messages.get(sequence)

    def _check(self, subject: str, data: bytes, headers: Headers) -> None:
        wanted = headers.get(EXPECTED_STREAM)
        if wanted and wanted != self.spec.name:
            raise StoreRefused(f"expected stream {wanted} does not match {self.spec.name}", 10060)
        if len(data) > self.spec.max_message_bytes > 0:
            raise StoreRefused(f"{len(data)} bytes on {subject!r} are over the stream's limit", 10054)
        for header, present in (
            (EXPECTED_SEQUENCE, self.last_sequence),
            (EXPECTED_SUBJECT_SEQUENCE, self._last_sequence_on(headers.get(EXPECTED_ON, subject))),
        ):
            expected = headers.get(header)
            if expected is not None and expected != str(present):
                raise StaleWrite(f"wrong last sequence of {subject!r}: {present}, expected {expected}", 10071)

    def _last_sequence_on(self, pattern: str) -> int:
        if "*" not in pattern:
            return self.last_sequence_of(pattern)
        self._forget_old()
        return max((all_of[-1] for subject, all_of in self._by_subject.items() if matches(pattern, subject)), default=0)

    def _count(self, subject: str, headers: Headers) -> bytes:
        if INCREMENT not in headers:
            raise StoreRefused(f"{self.spec.name} counts: {subject!r} needs the header {INCREMENT}", 10169)
        before = self.last(subject)
        total = int(json.loads(before.data)["val"]) if before else 0
        return json.dumps({"val": str(total + int(headers[INCREMENT]))}).encode()

    def _forget_old(self) -> None:
        if not self.spec.max_age_s:
            return
        oldest_us = self._clock.now_us() - self.spec.max_age_s * 1_000_000
        for sequence in [s for s, m in self._until_fresh(oldest_us)]:
            self.remove(sequence)

    def _until_fresh(self, oldest_us: int) -> Iterator[tuple[int, StoredMessage]]:
        for sequence, message in self._messages.items():
            if message.stored_us >= oldest_us:
                return
            yield sequence, message


class MemoryConsumer:
    """A durable pull consumer: each message to one fetcher, again after a refusal or a silence."""

    def __init__(self, spec: ConsumerSpec, stream: MemoryStream, clock: Clock) -> None:
        self.spec = spec
        self._stream = stream
        self._clock = clock
        self._ready: list[int] = []
        self._deliveries: dict[int, int] = {}
        self._timers: dict[int, Timer] = {}
        self._waiters: list[Callable[[], None]] = []
        self._next = stream.last_sequence + 1 if spec.deliver == "new" else 1
        for message in stream.read(spec.filter_subject, self._next):
            self._ready.append(message.stream_sequence)
        stream.listeners.append(self._on_stored)

    def take(self) -> tuple[StoredMessage, int] | None:
        """The next message and which delivery of it this is; it comes back unless it is settled in time."""
        while self._ready:
            sequence = self._ready.pop(0)
            message = self._stream.get(sequence)
            if message is None:
                continue
            self._deliveries[sequence] = self._deliveries.get(sequence, 0) + 1
            self._later(sequence, self.spec.acknowledge_ms)
            return message, self._deliveries[sequence]
        return None

    def settle(self, sequence: int) -> None:
        """Acknowledged or terminated: never again."""
        self._stop_timer(sequence)
        self._deliveries.pop(sequence, None)
        if sequence in self._ready:
            self._ready.remove(sequence)

    def refuse(self, sequence: int, delay_ms: int) -> None:
        self._stop_timer(sequence)
        if delay_ms:
            self._later(sequence, delay_ms)
        else:
            self._again(sequence)

    def wait(self, wake: Callable[[], None]) -> None:
        self._waiters.append(wake)

    def stop_waiting(self, wake: Callable[[], None]) -> None:
        if wake in self._waiters:
            self._waiters.remove(wake)

    def _on_stored(self, message: StoredMessage) -> None:
        if matches(self.spec.filter_subject, message.subject):
            self._ready.append(message.stream_sequence)
            self._wake()

    def _later(self, sequence: int, delay_ms: float) -> None:
        self._timers[sequence] = self._clock.call_later(delay_ms, lambda: self._again(sequence))

    def _again(self, sequence: int) -> None:
        self._stop_timer(sequence)
        if self._deliveries.get(sequence, 0) >= self.spec.max_deliver:
            self._deliveries.pop(sequence, None)
            return
        self._ready.append(sequence)
        self._wake()

    def _stop_timer(self, sequence: int) -> None:
        timer = self._timers.pop(sequence, None)
        if timer is not None:
            timer.cancel()

    def _wake(self) -> None:
        if self._waiters:
            self._waiters.pop(0)()


class MemoryStore:
    """A KV bucket on the server's side: revisions, history of one, expiry, watchers."""

    def __init__(self, spec: BucketSpec, clock: Clock) -> None:
        self.spec = spec
        self.watchers: list[Callable[[BucketEntry], None]] = []
        self._clock = clock
        self._revision = 0
        self._entries: dict[str, BucketEntry] = {}
        self._timers: dict[str, Timer] = {}

    def get(self, key: str) -> BucketEntry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.value is not None else None

    def write(self, key: str, value: bytes | None) -> int:
        """Write a value, or its absence, whatever was there."""
        if value is not None and len(value) > self.spec.max_value_bytes:
            raise StoreRefused(f"{len(value)} bytes for key {key!r} are over the limit of {self.spec.name!r}", 10054)
        self._revision += 1
        entry = BucketEntry(key, value, self._revision)
        self._entries[key] = entry
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if value is not None and self.spec.ttl_s:
            self._timers[key] = self._clock.call_later(self.spec.ttl_s * 1000, lambda: self._expire(key))
        for watcher in list(self.watchers):
            watcher(entry)
        return entry.revision

    def create(self, key: str, value: bytes) -> int:
        if self.get(key) is not None:
            raise RevisionConflict(self.spec.name, key, 0)
        return self.write(key, value)

    def update(self, key: str, value: bytes, revision: int) -> int:
        """Write only over ``revision``; 0 means a key that was never written."""
        entry = self._entries.get(key)
        if (entry.revision if entry is not None else 0) != revision:
            raise RevisionConflict(self.spec.name, key, revision)
        return self.write(key, value)

    def present(self) -> list[BucketEntry]:
        return sorted((e for e in self._entries.values() if e.value is not None), key=lambda e: e.revision)

    def newest(self) -> list[BucketEntry]:
        """The last word on every key, deletions included, oldest first."""
        return sorted(self._entries.values(), key=lambda e: e.revision)

    def _expire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.write(key, None)
