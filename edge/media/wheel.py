"""When each call's turn to send comes: one wheel for the whole process, 4 slots of 5 ms, absolute deadlines.

A call has one turn per revolution (20 ms). Spreading calls over the slots keeps a turn of 400 calls from becoming a
burst of 400 packets, and deadlines count from the start so that lateness never adds up.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

MemberT = TypeVar("MemberT", bound=Hashable)

SLOTS = 4
SLOT_S = 0.005
SKIP_AFTER_S = 0.060
"""A turn missed by more is not caught up: a burst of stale packets would only fill the caller's jitter buffer."""
LATENESS_BOUNDS_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Upper bounds of the histogram's buckets; one more bucket holds what is over the last."""


@dataclass(slots=True)
class Lateness:
    """How late turns to send came, in ms, counted per call served (the metric ``pacer_late``)."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENESS_BOUNDS_MS) + 1))
    count: int = 0
    total_ms: float = 0.0
    max_ms: float = 0.0
    skipped: int = 0
    """Turns of calls that were given up."""

    def observe(self, late_ms: float, calls: int) -> None:
        """``calls`` calls had their turn ``late_ms`` after its deadline."""
        for index, bound in enumerate(LATENESS_BOUNDS_MS):
            if late_ms <= bound:
                self.buckets[index] += calls
                break
        else:
            self.buckets[-1] += calls
        self.count += calls
        self.total_ms += late_ms * calls
        self.max_ms = max(self.max_ms, late_ms)

    def quantile_ms(self, share: float) -> float:
        """Estimate of the lateness that ``share`` (0 to 1) of the turns kept within: linear inside its bucket."""
        wanted = share * self.count
        below = 0
        lower = 0.0
        for bound, inside in zip((*LATENESS_BOUNDS_MS, self.max_ms), self.buckets, strict=True):
            if inside and below + inside >= wanted:
                upper = min(bound, self.max_ms)
                return lower + (upper - lower) * (wanted - below) / inside if upper > lower else upper
            below += inside
            lower = bound
        return 0.0


class Turn(NamedTuple, Generic[MemberT]):
    """The calls that send now.

    Attributes:
        members: in the order in which they joined; a snapshot, so that a call may end while it is served.
        late_s: how long after the deadline.
        skipped: revolutions that this slot missed since its last turn; each member's clocks must advance by as many.
        revolution: counts from 0 at the wheel's start, for what happens every so many revolutions.
    """

    members: tuple[MemberT, ...]
    late_s: float
    skipped: int
    revolution: int


class PacerWheel(Generic[MemberT]):
    """The schedule alone: who, and when. The caller waits until ``next_deadline`` and then takes ``due``.

    Attributes:
        lateness: see :class:`Lateness`.
    """

    __slots__ = ("_delayed", "_homes", "_places", "_skipped", "_slots", "_start", "_tick", "lateness")

    def __init__(self, now: float) -> None:
        """``now``: seconds; the first deadline is one slot later."""
        self._start = now
        self._tick = 1  # the next one to serve; its slot is tick % SLOTS
        self._slots: list[dict[MemberT, None]] = [{} for _ in range(SLOTS)]  # dict: ordered, removal in O(1)
        self._skipped = [0] * SLOTS
        self._places: dict[MemberT, int] = {}
        self._homes: dict[MemberT, int] = {}  # of hastened members: the slot that they left
        self._delayed: dict[MemberT, int] = {}  # of relaxed members: the first tick that may serve them
        self.lateness = Lateness()

    def __len__(self) -> int:
        return len(self._places)

    def add(self, member: MemberT) -> int:
        """Give a call its place in the slot with the fewest calls; returns the slot. A member already here stays."""
        place = self._places.get(member)
        if place is None:
            place = min(range(SLOTS), key=lambda slot: len(self._slots[slot]))
            self._slots[place][member] = None
            self._places[member] = place
        return place

    def remove(self, member: MemberT) -> None:
        """Take a call out; one that is not here is no mistake (a call may end twice)."""
        place = self._places.pop(member, None)
        self._homes.pop(member, None)
        self._delayed.pop(member, None)
        if place is not None:
            del self._slots[place][member]

    def hasten(self, member: MemberT) -> None:
        """Serve a call at the next tick, and from then on once a revolution: it has something to say after silence.

        Its turn comes up to 15 ms early, once. Without this an answer waits 10 ms on average for its slot. A call that
        is hastened already, or not yet back in its own slot, stays where it is, so that the shift never adds up.
        """
        place, soonest = self._places.get(member), self._tick % SLOTS
        if place is None or place == soonest or member in self._homes or member in self._delayed:
            return
        self._homes[member] = place
        self._move(member, soonest)

    def relax(self, member: MemberT) -> None:
        """Give a call its own slot back: its next turn comes as much later as it came early, never earlier."""
        home = self._homes.pop(member, None)
        if home is None:
            return
        last_served = self._tick - 1 - (self._tick - 1 - self._places[member]) % SLOTS
        self._delayed[member] = last_served + SLOTS
        self._move(member, home)

    def _move(self, member: MemberT, place: int) -> None:
        del self._slots[self._places[member]][member]
        self._slots[place][member] = None
        self._places[member] = place

    def next_deadline(self) -> float:
        """When the next slot is due, seconds."""
        return self._start + self._tick * SLOT_S

    def due(self, now: float) -> list[Turn[MemberT]]:
        """The slots whose time has come, oldest first; those over 60 ms late are skipped and counted instead.

        Slots without calls give no turn.
        """
        turns: list[Turn[MemberT]] = []
        self._skip_stale(now)
        while True:
            late = now - (self._start + self._tick * SLOT_S)
            if late < 0:
                return turns
            revolution, place = divmod(self._tick, SLOTS)
            members = self._members(place) if self._delayed else tuple(self._slots[place])
            self._tick += 1
            skipped, self._skipped[place] = self._skipped[place], 0
            if members:
                self.lateness.observe(late * 1000, len(members))
                turns.append(Turn(members, late, skipped, revolution))

    def _members(self, place: int) -> tuple[MemberT, ...]:
        """Those of a slot whose turn it is; a relaxed one may have to let its slot pass once."""
        served = []
        for member in self._slots[place]:
            if self._delayed.get(member, 0) <= self._tick:
                self._delayed.pop(member, None)
                served.append(member)
        return tuple(served)

    def _skip_stale(self, now: float) -> None:
        """Give up the ticks that are too late, in one step however many (the process may have slept for hours)."""
        behind = now - SKIP_AFTER_S - self.next_deadline()
        if behind <= 0:
            return
        count = math.ceil(behind / SLOT_S)
        for place in range(SLOTS):
            missed = (count + (self._tick - place - 1) % SLOTS) // SLOTS
            self._skipped[place] += missed
            self.lateness.skipped += missed * len(self._slots[place])
        self._tick += count
