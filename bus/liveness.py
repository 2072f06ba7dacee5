"""Who is alive, who is suspect, who is dead, and who takes over what. Pure: ``now`` is given, in milliseconds.

A worker is silent for ``suspect_ms``: it is asked. Nobody listens there: dead at once. No answer within ``confirm_ms``:
dead, for a frozen process counts as dead. The server's own word that a connection ended makes the question come early,
but never replaces it, because a mere reconnect looks the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from config.settings import OwnershipSection
from schemas.session import WorkerRecord

RECONNECT_GRACE_MS = 150.0
"""From the server's disconnect event to the question: a worker that reconnects has subscribed again by then."""
STANDBY_MS = 150.0
"""How long everybody but the chosen worker waits before taking an orphan."""
STANDBY_STEP_MS = 20.0
OVERLOAD_MS = 350.0
"""How much longer a worker without a free slot waits: a call that is up outweighs the limit."""


MEMORY_MS = 60_000.0


class Due(NamedTuple):
    """What a look at the clock brings: workers to ask, workers that are dead now."""

    ask: list[str]
    dead: list[str]


class _Peer:
    __slots__ = ("asked_at", "dead", "heard_at", "question_at", "record")

    def __init__(self, now: float) -> None:
        self.record: WorkerRecord | None = None
        self.heard_at = now
        self.question_at: float | None = None
        self.asked_at: float | None = None
        self.dead = False


class Liveness:
    """The other workers of a stage, as one worker sees them."""

    def __init__(self, settings: OwnershipSection) -> None:
        self._suspect_ms = float(settings.suspect_ms)
        self._confirm_ms = float(settings.confirm_ms)
        self._peers: dict[str, _Peer] = {}

    def heard(self, worker: str, record: WorkerRecord | None, now: float) -> None:
        """A heartbeat, or the answer to a question."""
        peer = self._peers.get(worker)
        if peer is None:
            peer = self._peers[worker] = _Peer(now)
        peer.heard_at = now
        peer.question_at = peer.asked_at = None
        peer.dead = False
        if record is not None:
            peer.record = record

    def expect(self, worker: str, now: float) -> None:
        """It should be there, for it owns a call: silence counts from now on."""
        if worker not in self._peers:
            self._peers[worker] = _Peer(now)

    def forget_dead(self, owners: Collection[str], now: float) -> None:
        """Nobody needs to remember workers that died long ago and own nothing."""
        gone = [
            worker
            for worker, peer in self._peers.items()
            if peer.dead and worker not in owners and now - peer.heard_at > MEMORY_MS
        ]
        for worker in gone:
            del self._peers[worker]

    def connection_ended(self, worker: str, now: float) -> None:
        """The server says that a connection of this name is gone."""
        peer = self._peers.get(worker)
        if peer is not None and not peer.dead and peer.asked_at is None:
            peer.question_at = now + RECONNECT_GRACE_MS

    def nobody_there(self, worker: str) -> None:
        """The question found no listener."""
        peer = self._peers.get(worker)
        if peer is not None and peer.asked_at is not None:
            peer.dead = True

    def unasked(self, worker: str, now: float) -> None:
        """The question could not be put; it is put again later."""
        peer = self._peers.get(worker)
        if peer is not None and not peer.dead:
            peer.asked_at = None
            peer.heard_at = now

    def away(self, milliseconds: float) -> None:
        """This side did not listen for so long: that is nobody's silence."""
        for peer in self._peers.values():
            peer.heard_at += milliseconds
            if peer.asked_at is not None:
                peer.asked_at += milliseconds
            if peer.question_at is not None:
                peer.question_at += milliseconds

    def everybody_reconnects(self, now: float, grace_ms: float) -> None:
        """The server was away: each worker gets ``grace_ms`` to come back."""
        for peer in self._peers.values():
            if not peer.dead:
                peer.heard_at = max(peer.heard_at, now + grace_ms)
                peer.asked_at = peer.question_at = None

    def due(self, now: float) -> Due:
        """Judge everybody. A worker is named once in ``ask`` per suspicion and once in ``dead`` per death."""
        ask: list[str] = []
        dead: list[str] = []
        for worker, peer in self._peers.items():
            if peer.dead:
                continue
            if peer.asked_at is not None:
                if now - peer.asked_at >= self._confirm_ms:
                    peer.dead = True
                    dead.append(worker)
            elif now - peer.heard_at >= self._suspect_ms or (peer.question_at is not None and now >= peer.question_at):
                peer.asked_at = now
                ask.append(worker)
        return Due(ask, dead)

    def is_dead(self, worker: str) -> bool:
        peer = self._peers.get(worker)
        return peer is not None and peer.dead

    def leaving(self) -> set[str]:
        """Workers whose calls others shall take: the dead, and the draining, who ask for it."""
        return {
            worker
            for worker, peer in self._peers.items()
            if peer.dead or (peer.record is not None and peer.record.draining)
        }

    def silence_ms(self, worker: str, now: float) -> float:
        """Since when it was heard last."""
        peer = self._peers.get(worker)
        return max(0.0, now - peer.heard_at) if peer is not None else 0.0

    def free_slots(self) -> dict[str, int]:
        """Worker -> free slots, for those that live, do not drain, and were heard with their record."""
        return {worker: max(0, record.slots - record.calls) for worker, record in self._takers()}

    def slots(self) -> dict[str, int]:
        """Worker -> slots, free or not, of the same workers."""
        return {worker: record.slots for worker, record in self._takers()}

    def _takers(self) -> Iterator[tuple[str, WorkerRecord]]:
        for worker, peer in self._peers.items():
            if peer.record is not None and not peer.dead and peer.asked_at is None and not peer.record.draining:
                yield worker, peer.record


def ranked(call_id: str, workers: Iterable[str]) -> list[str]:
    """The workers in the order in which they should take the call; all compute the same (rendezvous hashing)."""
    return sorted(workers, key=lambda worker: hashlib.blake2b(f"{call_id} {worker}".encode(), digest_size=8).digest())


def allocate(call_ids: Iterable[str], free_slots: Mapping[str, int]) -> dict[str, str]:
    """Each call to the first of its ranking that still has a slot; calls for which there is none are left out."""
    left = dict(free_slots)
    chosen: dict[str, str] = {}
    for call_id in sorted(call_ids):
        for worker in ranked(call_id, left):
            if left[worker] > 0:
                left[worker] -= 1
                chosen[call_id] = worker
                break
    return chosen


def standby_ms(call_id: str, me: str, free_slots: Mapping[str, int], chosen: str | None) -> float:
    """How long ``me`` waits before it takes an orphan: not at all where it is chosen, else in order of ranking."""
    if chosen == me:
        return 0.0
    place = ranked(call_id, {*free_slots, me}).index(me)
    wait = STANDBY_MS + STANDBY_STEP_MS * place
    return wait if free_slots.get(me, 0) > 0 else wait + OVERLOAD_MS
