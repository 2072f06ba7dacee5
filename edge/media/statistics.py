"""What RFC 3550 wants counted about a received stream: loss (appendix A.3), interarrival jitter (appendix A.8)."""

from __future__ import annotations

from edge.media.sequence import timestamp_difference

CLOCK_RATE_HZ = 8000
MAX_TRANSIT_TICKS = 8000
"""A second between two packets that the timestamps do not know is a sender's clock that jumped, not jitter."""
_MAX_CUMULATIVE_LOST = 0x7FFFFF
_MIN_CUMULATIVE_LOST = -0x800000


class ReceiveStatistics:
    """Counts of one received stream. Sequence numbers are unwrapped here.

    Attributes:
        highest: sequence number, unwrapped.
        received: packets, duplicates and late ones included (RFC 3550 section 6.4.1).
        jitter: interarrival jitter, ticks.
    """

    __slots__ = (
        "_arrived_at",
        "_base",
        "_carried_lost",
        "_expected_prior",
        "_received_prior",
        "_timestamp",
        "highest",
        "jitter",
        "received",
    )

    def __init__(self) -> None:
        self.received = 0
        self.jitter = 0.0
        self._base: int | None = None
        self.highest = 0
        self._timestamp: int | None = None
        self._arrived_at = 0.0
        self._expected_prior = 0
        self._received_prior = 0
        self._carried_lost = 0

    def observe(self, sequence: int, timestamp: int | None, now: float) -> None:
        """One packet of the stream.

        Args:
            sequence: unwrapped.
            timestamp: 32 bits; None for a packet whose timestamp is not its sampling instant (telephone-event).
            now: seconds, its arrival.
        """
        self.received += 1
        if self._base is None:
            self._base = self.highest = sequence
        elif sequence > self.highest:
            self.highest = sequence
        if timestamp is None:
            return
        if self._timestamp is not None:
            ticks = timestamp - self._timestamp
            if not -0x80000000 <= ticks < 0x80000000:
                ticks = timestamp_difference(timestamp, self._timestamp)
            transit = (now - self._arrived_at) * CLOCK_RATE_HZ - ticks
            if transit < 0:
                transit = -transit
            if transit < MAX_TRANSIT_TICKS:
                self.jitter += (transit - self.jitter) / 16
        self._timestamp = timestamp
        self._arrived_at = now

    def restart(self) -> None:
        """The sender's counters begin anew (new SSRC, or a restart): its next packet is the first. Losses stay."""
        self._carried_lost = self.lost
        self._base = None
        self._timestamp = None
        self.received = 0
        self._expected_prior = self._received_prior = 0

    @property
    def expected(self) -> int:
        """Packets from the first to the highest sequence number."""
        return self.highest - self._base + 1 if self._base is not None else 0

    @property
    def lost(self) -> int:
        """Expected minus received, all sources of the call together; negative where duplicates prevail."""
        return self._carried_lost + self.expected - self.received

    @property
    def jitter_ms(self) -> float:
        return self.jitter * 1000 / CLOCK_RATE_HZ

    @property
    def highest_sequence(self) -> int:
        """32 bits: cycles and highest sequence number of the current source (RFC 3550 section 6.4.1)."""
        return self.highest & 0xFFFFFFFF

    @property
    def cumulative_lost(self) -> int:
        """Of the current source, held within the 24 signed bits of a report block."""
        return max(_MIN_CUMULATIVE_LOST, min(_MAX_CUMULATIVE_LOST, self.expected - self.received))

    def take_fraction_lost(self) -> int:
        """Loss since the last call in 256ths, 0 where duplicates outweigh it (RFC 3550 appendix A.3)."""
        expected = self.expected - self._expected_prior
        received = self.received - self._received_prior
        self._expected_prior = self.expected
        self._received_prior = self.received
        lost = expected - received
        return min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0
