"""Packets back in order without making those wait that are in order already.

Only a packet that came early waits for the ones before it, and only for ``wait_s`` from its own arrival; then they
are given up. Sequence numbers here are unwrapped.
"""

from __future__ import annotations

from enum import Enum
from typing import Generic, NamedTuple, TypeVar

SlotT = TypeVar("SlotT")

MAX_DROPOUT = 3000
"""RFC 3550 appendix A.1: a longer jump forward is not loss but a sender that began anew."""
MAX_MISORDER = 100
"""RFC 3550 appendix A.1: a longer way back is not reordering either."""
MAX_HELD = 64
"""A sender that floods numbers out of order does not get more memory than this many packets."""


class Arrival(Enum):
    """Where a packet falls in the sequence."""

    NEXT = "next"
    EARLY = "early"
    LATE = "late"
    """It was given up before it came, or lies before the stream's first packet."""
    DUPLICATE = "duplicate"
    FAR = "far"
    """Too far from the expected number to belong to the same count."""


class Released(NamedTuple, Generic[SlotT]):
    """A slot whose turn it is; ``lost`` packets directly before it were given up."""

    slot: SlotT
    lost: int


class ReorderBuffer(Generic[SlotT]):
    """Slots by sequence number.

    Attributes:
        started: a first packet was seen, the numbers below mean something.
        next: the number that is in order.
        held: slots that came early, in order of arrival: number -> (slot, arrival in seconds).
        lost: packets given up that have not come since.
        holes: times that packets were given up.
    """

    __slots__ = ("_first", "_missing", "_wait_s", "held", "holes", "lost", "next", "started")

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._first = 0
        self._missing: set[int] = set()
        self.started = False
        self.next = 0
        self.held: dict[int, tuple[SlotT, float]] = {}
        self.lost = 0
        self.holes = 0

    def start(self, sequence: int) -> None:
        """``sequence`` is the first number; what is held has been drained before."""
        self.started = True
        self._first = self.next = sequence
        self._missing.clear()

    def classify(self, sequence: int) -> Arrival:
        """Where the packet falls once the buffer is started; nothing is stored."""
        ahead = sequence - self.next
        if ahead == 0:
            return Arrival.NEXT
        if ahead > 0:
            if ahead >= MAX_DROPOUT:
                return Arrival.FAR
            return Arrival.DUPLICATE if sequence in self.held else Arrival.EARLY
        if ahead < -MAX_MISORDER:
            return Arrival.FAR
        if sequence in self._missing or sequence < self._first:
            return Arrival.LATE
        return Arrival.DUPLICATE

    def take(self, slot: SlotT) -> list[Released[SlotT]]:
        """The slot that is ``NEXT``, and whatever waited for it."""
        self.next += 1
        released = [Released(slot, 0)]
        if self.held:
            self._follow(released)
        return released

    def hold(self, sequence: int, slot: SlotT, now: float) -> list[Released[SlotT]]:
        """Keep an ``EARLY`` slot; gives what has to go because too many are held."""
        self.held[sequence] = (slot, now)
        return self._release_through(min(self.held)) if len(self.held) > MAX_HELD else []

    def found(self, sequence: int) -> None:
        """A ``LATE`` packet came: it is late, no longer lost."""
        if sequence in self._missing:
            self._missing.discard(sequence)
            self.lost -= 1

    def next_deadline(self) -> float | None:
        """When the packet that has waited longest stops waiting (seconds), None where none waits."""
        for _, arrived in self.held.values():
            return arrived + self._wait_s
        return None

    def expire(self, now: float) -> list[Released[SlotT]]:
        """Give up what a held packet has waited for long enough."""
        due = [sequence for sequence, (_, arrived) in self.held.items() if now >= arrived + self._wait_s]
        return self._release_through(max(due)) if due else []

    def drain(self) -> list[Released[SlotT]]:
        """Everything held, at once: the stream ends or begins anew."""
        return self._release_through(max(self.held)) if self.held else []

    def _release_through(self, last: int) -> list[Released[SlotT]]:
        """All slots up to ``last`` in order, the holes between them given up, then those that follow directly."""
        released: list[Released[SlotT]] = []
        for sequence in sorted(number for number in self.held if number <= last):
            lost = sequence - self.next
            if lost:
                self._give_up(sequence)
            self.next = sequence + 1
            released.append(Released(self.held.pop(sequence)[0], lost))
        self._follow(released)
        return released

    def _follow(self, released: list[Released[SlotT]]) -> None:
        while (entry := self.held.pop(self.next, None)) is not None:
            self.next += 1
            released.append(Released(entry[0], 0))

    def _give_up(self, sequence: int) -> None:
        """What lies before ``sequence`` is lost. Numbers too old to be told from ``FAR`` need not be remembered."""
        self.lost += sequence - self.next
        self.holes += 1
        oldest = sequence - MAX_MISORDER
        self._missing = {number for number in self._missing if number >= oldest}
        self._missing.update(range(max(self.next, oldest), sequence))
