"""Arithmetic of RTP's counters that wrap: 16-bit sequence numbers and 32-bit timestamps (RFC 3550 section 5.1).

A difference of wrapped counters is signed and the shorter way round: 0 is one after 65,535.
"""

from __future__ import annotations

SEQUENCE_MASK = 0xFFFF
TIMESTAMP_MASK = 0xFFFFFFFF


def sequence_add(sequence: int, count: int) -> int:
    """The 16-bit sequence number ``count`` packets after ``sequence`` (before it where negative)."""
    return (sequence + count) & SEQUENCE_MASK


def sequence_difference(later: int, earlier: int) -> int:
    """Packets from ``earlier`` to ``later``, -32,768 to 32,767; negative where ``later`` comes first."""
    return ((later - earlier + 0x8000) & SEQUENCE_MASK) - 0x8000


def timestamp_add(timestamp: int, ticks: int) -> int:
    """The 32-bit timestamp ``ticks`` after ``timestamp``."""
    return (timestamp + ticks) & TIMESTAMP_MASK


def timestamp_difference(later: int, earlier: int) -> int:
    """Ticks from ``earlier`` to ``later``, -2**31 to 2**31 - 1; negative where ``later`` comes first."""
    return ((later - earlier + 0x80000000) & TIMESTAMP_MASK) - 0x80000000


def extend_sequence(sequence: int, near: int) -> int:
    """The unwrapped number closest to ``near`` whose lower 16 bits are ``sequence``.

    ``near`` is unwrapped too (RFC 3550 appendix A.1: cycles in the upper bits); the result may be negative just after
    a stream began at 0 with a reordered packet.
    """
    return near + sequence_difference(sequence, near & SEQUENCE_MASK)


def extend_timestamp(timestamp: int, near: int) -> int:
    """The unwrapped time closest to ``near`` whose lower 32 bits are ``timestamp``."""
    return near + timestamp_difference(timestamp, near & TIMESTAMP_MASK)
