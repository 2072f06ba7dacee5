"""Keys as RTP telephone-events (RFC 4733): reading them however mangled they arrive, and sending them.

A press is told when its first packet is seen, not when its end comes: with every end lost it still counts, once.
Packets of one event share the event's timestamp (section 2.5.1.2), which is what tells a retransmission from a second
press of the same key; the marker bit is not needed for that and may be lost or never set.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from edge.media.sequence import timestamp_add, timestamp_difference

EVENT_PAYLOAD = struct.Struct("!BBH")
"""Event, then end bit + reserved bit + volume (6 bits), then duration in ticks (RFC 4733 section 2.3)."""
EVENT_BYTES = EVENT_PAYLOAD.size
DIGITS = "0123456789*#ABCD"
"""Event codes 0 to 15 (RFC 4733 section 3.2)."""
MAX_SEGMENT_TICKS = 0xFFFF
"""A longer press goes on as a new segment with a new timestamp (section 2.5.1.3)."""
LOST_END_S = 0.25
"""No packet of a press for this long: its ends were lost. Senders repeat every 20 to 50 ms."""
OLD_EVENT_TICKS = 80_000
"""An event up to 10 s before the last one is a packet that came late; further back the sender's clock was restarted."""
END_PACKETS = 3
VOLUME_DBM0 = 10

_TICKS_PER_MS = 8


class DtmfPressed(NamedTuple):
    """A key went down. ``media_time``: ticks, start of the press."""

    digit: str
    media_time: int


class DtmfReleased(NamedTuple):
    """The key of the last ``DtmfPressed`` came up.

    Attributes:
        duration_ms: as far as the packets told it.
        complete: False where all end packets were lost and silence had to tell.
    """

    digit: str
    media_time: int
    duration_ms: int
    complete: bool


DtmfEvent = DtmfPressed | DtmfReleased


class DtmfReceiver:
    """Telephone-event payloads to key presses, each once.

    Attributes:
        ignored: payloads that are no key: too short, an event above 15, no duration.
    """

    __slots__ = (
        "_digit",
        "_duration",
        "_held",
        "_last_at",
        "_media_time",
        "_start",
        "_timestamp",
        "ignored",
    )

    def __init__(self) -> None:
        self._digit = -1  # event code of the last press, -1 before the first
        self._timestamp = 0  # of its current segment
        self._start = 0  # ticks of its earlier segments
        self._duration = 0  # of its current segment
        self._media_time = 0
        self._held = False
        self._last_at = 0.0
        self.ignored = 0

    def receive(self, payload: bytes, timestamp: int, media_time: int, now: float) -> list[DtmfEvent]:
        """Read one telephone-event packet.

        Args:
            payload: without RTP header; several events in one packet follow each other in time (section 2.5.1.5).
            timestamp: 32 bits, of the RTP header.
            media_time: the timestamp on the receiver's own time line, ticks.
            now: seconds.
        """
        events = self.handle_deadline(now)
        if len(payload) < EVENT_BYTES:
            self.ignored += 1
            return events
        for offset in range(0, len(payload) - EVENT_BYTES + 1, EVENT_BYTES):
            code, flags, duration = EVENT_PAYLOAD.unpack_from(payload, offset)
            if code < len(DIGITS):
                self._event(code, flags >= 0x80, duration, timestamp, media_time, now, events)
            else:
                self.ignored += 1
            timestamp = timestamp_add(timestamp, duration)
            media_time += duration
        return events

    def _event(
        self, code: int, end: bool, duration: int, timestamp: int, media_time: int, now: float, events: list[DtmfEvent]
    ) -> None:
        if self._digit >= 0:
            since = timestamp_difference(timestamp, self._timestamp)
            if -OLD_EVENT_TICKS < since < 0:
                return  # an earlier press or segment, late
            if since == 0:
                self._update(end, duration, now, events)
                return
            if self._held and code == self._digit and self._continues(since):
                self._start += since
                self._timestamp = timestamp
                self._duration = 0
                self._update(end, duration, now, events)
                return
        if duration == 0 and end:
            self.ignored += 1
            return
        if self._held:
            events.append(self._release(complete=False))
        self._digit, self._timestamp, self._media_time = code, timestamp, media_time
        self._start = self._duration = 0
        self._held = True
        events.append(DtmfPressed(DIGITS[code], media_time))
        self._update(end, duration, now, events)

    def _continues(self, since: int) -> bool:
        """Whether an event that begins ``since`` ticks after the segment that is held goes on with the same press.

        Segments adjoin: the new one starts where the full duration of the old one ends (RFC 4733 section 2.5.1.3),
        of which the last packet may be lost.
        """
        return since == MAX_SEGMENT_TICKS or (since == self._duration and since > MAX_SEGMENT_TICKS // 2)

    def _update(self, end: bool, duration: int, now: float, events: list[DtmfEvent]) -> None:
        """A further packet of the current segment: durations may arrive out of order, ends several times."""
        if not self._held:
            return
        self._last_at = now
        self._duration = max(self._duration, duration)
        if end:
            events.append(self._release(complete=True))

    def _release(self, *, complete: bool) -> DtmfReleased:
        self._held = False
        duration_ms = (self._start + self._duration) // _TICKS_PER_MS
        return DtmfReleased(DIGITS[self._digit], self._media_time, duration_ms, complete)

    def next_deadline(self) -> float | None:
        """When a press whose ends do not come is over (seconds), None while no key is down."""
        return self._last_at + LOST_END_S if self._held else None

    def handle_deadline(self, now: float) -> list[DtmfEvent]:
        """End a press that has been silent for too long."""
        if self._held and now >= self._last_at + LOST_END_S:
            return [self._release(complete=False)]
        return []

    def restart(self) -> list[DtmfEvent]:
        """The sender's clock is another one from here on (new SSRC): timestamps no longer compare."""
        events: list[DtmfEvent] = [self._release(complete=False)] if self._held else []
        self._digit = -1
        return events


class DtmfPacket(NamedTuple):
    """What the sender puts into one RTP packet; ``timestamp`` is that of the event's start."""

    payload: bytes
    timestamp: int
    marker: bool


class DtmfSender:
    """Digits to telephone-event packets, one per turn to send.

    RFC 4733 section 2.5.1: one timestamp for the whole event, marker on its first packet only, the duration grows
    with every packet, and the end is sent three times.
    """

    __slots__ = ("_code", "_duration", "_ends_left", "_gap_left", "_queue", "_step", "_timestamp")

    def __init__(self, step_ticks: int = 160) -> None:
        """``step_ticks``: from one packet to the next, 160 for 20 ms."""
        self._step = step_ticks
        self._queue: deque[tuple[int, int, int]] = deque()  # (event code, duration, pause after it), ticks
        self._code = -1
        self._duration = 0
        self._timestamp = 0
        self._ends_left = 0
        self._gap_left = 0

    @property
    def active(self) -> bool:
        """Whether the next turn to send belongs to a digit (or to the pause between two)."""
        return self._code >= 0 or self._gap_left > 0 or bool(self._queue)

    def press(self, digits: str, *, duration_ms: int = 100, pause_ms: int = 60) -> None:
        """Queue digits.

        Args:
            digits: of 0-9 * # A-D (any case).
            duration_ms, pause_ms: of each press, and between two; rounded up to whole packets, at least one.

        Raises:
            ValueError: a character that is no key, or a press longer than one event can say (8,191 ms).
        """
        codes = [DIGITS.find(digit) for digit in digits.upper()]
        if -1 in codes:
            raise ValueError(f"not a telephone key at position {codes.index(-1) + 1}; keys are {DIGITS}")
        duration = self._whole_packets(duration_ms)
        if duration > MAX_SEGMENT_TICKS:
            raise ValueError(f"a press of {duration_ms} ms does not fit one event of at most 8191 ms")
        pause = self._whole_packets(pause_ms)
        self._queue.extend((code, duration, pause) for code in codes)

    def _whole_packets(self, milliseconds: int) -> int:
        return max(1, -(-milliseconds * _TICKS_PER_MS // self._step)) * self._step

    def next_packet(self, timestamp: int) -> DtmfPacket | None:
        """The packet of this turn, None in the pause after a digit.

        Args:
            timestamp: 32 bits, what an audio packet of this turn would carry.
        """
        if self._gap_left > 0:
            self._gap_left -= self._step
            return None
        if not self._queue:
            return None
        code, duration, pause = self._queue[0]
        first = self._code < 0
        if first:
            self._code, self._duration, self._ends_left, self._timestamp = code, 0, END_PACKETS, timestamp
        self._duration = min(self._duration + self._step, duration)
        end = self._duration == duration
        flags = VOLUME_DBM0 | (0x80 if end else 0)
        packet = DtmfPacket(EVENT_PAYLOAD.pack(code, flags, self._duration), self._timestamp, first)
        if end:
            self._ends_left -= 1
            if self._ends_left == 0:
                self._queue.popleft()
                self._code = -1
                self._gap_left = pause
        return packet
