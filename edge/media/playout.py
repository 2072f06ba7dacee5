"""What the agent says, on its way to the caller: one queue per call, and the ledger of what was really sent.

Rules (``offer`` and ``next_frame`` are where they stand):

- One utterance at a time, in rising order of utterance id. A newer one starts when the older one is complete and
  sent, or flushed. An utterance whose audio stops coming without its end gives way to a waiting newer one after
  ``stall_ms`` of turns to send; time in which nothing may be sent (the call or the utterance is held) is not counted.
- Per utterance the next expected ``(segment, frame)`` is kept. What lies before it is a duplicate and dropped: a
  successor that says a sentence again from its start adds only what was missing. What lies after it is taken and the
  frames between are given up (counted ``missing``): they would come too late to be heard in their place.
- What is finished or flushed, and everything older, is stale and dropped.
- A flush takes effect before the next frame.
- So does a pause. It is of one utterance, which keeps its place in the row: while it is held no other begins instead.
  An utterance that has not begun can be held too, and one that was sent to its end cannot. Each pause ends in a
  resume, by command or by its own limit, or in a flush.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge.media.ledger import Finished, Flushed, LedgerEntry, Paused, PlayoutCounts, Resumed, Started
from edge.media.utterance import BYTES_PER_MS, Utterance

DEFAULT_STALL_MS = 2000
LIMIT_REACHED = "limit"
"""Why a pause ended that nobody took back in time."""


class Playout:
    """Frames of the agent by utterance, cut to the packet size, and the ledger of what left.

    Attributes:
        counts: see :class:`PlayoutCounts`.
        last_utterance: the utterance of the frame that ``next_frame`` gave last; -1 before the first.
        ledger: entries not taken yet; look at its truth before calling ``take_ledger`` in the hot path.
    """

    __slots__ = (
        "_current",
        "_frame_bytes",
        "_held",
        "_idle_ticks",
        "_limit_bytes",
        "_prefill",
        "_queued_bytes",
        "_settled",
        "_silence",
        "_stall_ticks",
        "_utterances",
        "counts",
        "last_utterance",
        "ledger",
    )

    def __init__(
        self,
        *,
        frame_bytes: int = 160,
        silence: int = 0xFF,
        prefill: int = 1,
        limit_ms: int = 60_000,
        stall_ms: int = DEFAULT_STALL_MS,
    ) -> None:
        """
        Args:
            frame_bytes: payload of one packet, 160 for 20 ms of G.711.
            silence: the payload byte that fills up the last packet of an utterance.
            prefill: frames to have before an utterance starts, unless a sentence of it is already complete.
            limit_ms: most audio queued; what comes on top is dropped and counted ``overflow``.
            stall_ms: how long an utterance without further audio may hold up a newer one, and how long the prefill
                is waited for.
        """
        self._frame_bytes = frame_bytes
        self._silence = bytes((silence,))
        self._prefill = prefill
        self._limit_bytes = limit_ms * BYTES_PER_MS
        self._stall_ticks = stall_ms * BYTES_PER_MS
        self._utterances: dict[int, Utterance] = {}
        self._current: Utterance | None = None
        self._held: list[Utterance] = []
        self._settled = -1  # this utterance and all older ones are finished, flushed or overtaken
        self._queued_bytes = 0
        self._idle_ticks = 0  # of turns since the current utterance had something to send
        self.counts = PlayoutCounts()
        self.ledger: list[LedgerEntry] = []
        self.last_utterance = -1

    @property
    def queued_ms(self) -> int:
        """Audio waiting to be sent, all utterances together."""
        return self._queued_bytes // BYTES_PER_MS

    @property
    def playing(self) -> int | None:
        """The utterance that has begun and is not finished, held or not; None between utterances."""
        current = self._current
        return current.number if current is not None and current.started else None

    @property
    def held(self) -> int | None:
        """The utterance for whose sake nothing leaves now; None where nothing is held back."""
        current = self._current
        return current.number if current is not None and current.held else None

    def take_ledger(self) -> list[LedgerEntry]:
        """What happened since the last call, in order."""
        taken, self.ledger = self.ledger, []
        return taken

    # In: frames from the bus.

    def offer(
        self,
        utterance: int,
        segment: int,
        frame: int,
        payloads: Sequence[bytes],
        *,
        segment_end: bool = False,
        end: bool = False,
    ) -> int:
        """Take the frames ``frame``, ``frame`` + 1, ... of sentence ``segment``; returns how many were new and queued.

        Args:
            payloads: one per frame, of any size; may be empty where only a flag is told.
            segment_end: the last of these frames ends the sentence.
            end: the utterance has no further sentence (``segment`` and ``frame`` are not looked at if no frame comes).
        """
        counts = self.counts
        counts.offered += len(payloads)
        if utterance <= self._settled:
            counts.stale += len(payloads)
            return 0
        target = self._utterances.get(utterance)
        if target is None:
            target = self._utterances[utterance] = Utterance(utterance)
        taken = 0
        if payloads or segment_end:
            queued = target.queued_bytes
            room = self._limit_bytes - self._queued_bytes
            taken = target.take(segment, frame, payloads, segment_end=segment_end, room=room, counts=counts)
            self._queued_bytes += target.queued_bytes - queued
        if end:
            target.end()
        return taken

    # Out: one frame per turn to send.

    def next_frame(self, media_time: int) -> bytes | None:
        """The payload of the packet that leaves at ``media_time`` (ticks), None for silence. Feeds the ledger."""
        if not self._utterances:
            return None
        if self._held:
            self._end_pauses(media_time)
        current = self._head(media_time)
        if current is None or current.held:
            return None
        if not self._ready(current):
            self._wait(current, media_time)
            return None
        return self._send(current, media_time)

    def _head(self, media_time: int) -> Utterance | None:
        """The utterance whose turn it is; those that were sent in full are told and gone."""
        while True:
            current = self._choose()
            if current is None or current.held or not current.spent:
                return current
            self._finish(current, media_time)

    def _choose(self) -> Utterance | None:
        """The oldest utterance known becomes the current one; until it begins or is held an older one may push in."""
        current = self._current
        if current is not None and (current.started or current.held):
            return current
        if not self._utterances:
            return None
        oldest = self._utterances[min(self._utterances)]
        if oldest is not current:
            self._current = oldest
            self._idle_ticks = 0
        return oldest

    def _ready(self, current: Utterance) -> bool:
        """Whether a packet of the current utterance can leave now."""
        queued = current.queued_bytes
        if not current.started:
            if queued >= max(1, self._prefill) * self._frame_bytes:
                return True
            complete = current.ended or current.expected_segment > 0
            return queued > 0 and (complete or self._idle_ticks >= self._stall_ticks)
        # Less than a packet leaves only where nothing more of its sentence is to come.
        return queued >= self._frame_bytes or (queued > 0 and (current.ended or not current.open))

    def _wait(self, current: Utterance, media_time: int) -> None:
        """Nothing can leave: count the hole, and close an utterance that holds up another for too long."""
        if current.started and not current.queued_bytes:
            current.mark_ends(current.end_of_audio(media_time), self.ledger)
        if current.started and current.open:
            self.counts.starved += 1
        if self._idle_ticks >= self._stall_ticks and len(self._utterances) > 1:
            self.counts.abandoned += 1
            self._finish(current, media_time)
        else:
            self._idle_ticks += self._frame_bytes

    def _send(self, current: Utterance, media_time: int) -> bytes:
        if not current.started:
            current.started = True
            self._settled = current.number - 1
            self.ledger.append(Started(current.number, media_time))
        self._idle_ticks = 0
        queued = current.queued_bytes
        payload = current.cut(self._frame_bytes, self._silence, media_time, self.ledger)
        self._queued_bytes += current.queued_bytes - queued
        self.counts.sent += 1
        self.last_utterance = current.number
        if current.spent:
            self._finish(current, media_time)
        return payload

    def _finish(self, current: Utterance, media_time: int) -> None:
        end = current.end_of_audio(media_time)
        current.mark_ends(end, self.ledger)
        self.ledger.append(Finished(current.number, current.frames_sent, end))
        self._settle(current)

    def _settle(self, done: Utterance) -> None:
        """Forget the utterance; whatever else comes of it is stale."""
        del self._utterances[done.number]
        self._queued_bytes -= done.queued_bytes
        self._settled = max(self._settled, done.number)
        if done.held:
            self._held.remove(done)
        if done is self._current:
            self._current = None
            self._idle_ticks = 0

    # Commands. ``media_time`` is that of the next packet; ``why`` a token for the ledger.

    def flush(self, utterance: int | None, media_time: int, why: str = "") -> bool:
        """Drop the utterance and all older ones, or everything known where ``utterance`` is None, held or not.

        An utterance of which nothing has come yet is flushed too: what comes of it later is stale. Returns False
        where there was nothing to do: nothing known, or already finished or flushed.
        """
        through = max(self._utterances, default=-1) if utterance is None else utterance
        if through <= self._settled:
            return False
        doomed = [self._utterances[number] for number in sorted(self._utterances) if number <= through]
        for target in doomed:
            segment, sent_ms = self._stand_still(target)
            dropped_ms = target.queued_bytes // BYTES_PER_MS
            end = target.end_of_audio(media_time)
            self.ledger.append(Flushed(target.number, segment, sent_ms, dropped_ms, end, why))
            self._settle(target)
        if not doomed or doomed[-1].number != through:
            self.ledger.append(Flushed(through, 0, 0, 0, media_time, why))
            self._settled = through
        return True

    def pause(self, utterance: int | None, limit_ms: int, media_time: int, why: str = "") -> bool:
        """Hold an utterance from the next packet on; queue and position stay.

        Held already: the limit counts from now, and nothing else changes.

        Args:
            utterance: None for the one that plays, or would begin next.
            limit_ms: it goes on by itself at the first packet after so long; 0 for no limit.

        Returns:
            False where there is nothing to hold: nothing of the utterance is known, or all of it has been sent.
        """
        head = self._head(media_time)
        target = head if utterance is None else self._utterances.get(utterance)
        if target is None or (target.spent and not target.held):
            return False
        target.held_until = media_time + limit_ms * BYTES_PER_MS if limit_ms else None
        if target.held:
            return True
        target.held = True
        self._held.append(target)
        segment, sent_ms = self._stand_still(target)
        remaining_ms = target.queued_bytes // BYTES_PER_MS
        end = target.end_of_audio(media_time)
        self.ledger.append(Paused(target.number, target.pauses, segment, sent_ms, remaining_ms, target.ended, end, why))
        target.pauses += 1
        return True

    def resume(self, utterance: int | None, media_time: int, why: str = "") -> bool:
        """Go on from the sample after the last one sent, with all that is held where ``utterance`` is None.

        Returns False where the utterance is not held (any more).
        """
        targets = [target for target in self._held if utterance is None or target.number == utterance]
        for target in targets:
            self._release(target, media_time, why)
        return bool(targets)

    def _end_pauses(self, media_time: int) -> None:
        for target in tuple(self._held):
            if target.held_until is not None and media_time >= target.held_until:
                self._release(target, media_time, LIMIT_REACHED)

    def _release(self, target: Utterance, media_time: int, why: str) -> None:
        target.held = False
        self._held.remove(target)
        self.ledger.append(Resumed(target.number, target.pauses - 1, media_time, why))
        if target is self._current:
            self._idle_ticks = 0

    def _stand_still(self, target: Utterance) -> tuple[int, int]:
        """Where the utterance stands: its sentences that are over are told first, the last one's end may be new."""
        if target.started:
            target.mark_ends(target.last_end, self.ledger)
        return target.position()

    def set_frame_bytes(self, frame_bytes: int) -> None:
        """Another packet size from the next frame on (a new ``ptime`` in a re-INVITE)."""
        self._frame_bytes = frame_bytes
