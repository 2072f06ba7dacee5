"""What the agent says, on its way to the caller: one queue per call, and the ledger of what was really sent.

Rules (``offer`` and ``next_frame`` are where they stand):

- One utterance at a time, in rising order of utterance id. A newer one starts when the older one is complete and
  sent, or flushed. An utterance whose audio stops coming without its end gives way to a waiting newer one after
  ``stall_ms``.
- Per utterance the next expected ``(segment, frame)`` is kept. What lies before it is a duplicate and dropped: a
  successor that says a sentence again from its start adds only what was missing. What lies after it is taken and the
  frames between are given up (counted ``missing``): they would come too late to be heard in their place.
- What is finished or flushed, and everything older, is stale and dropped.
- A flush takes effect before the next frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from edge.media.ledger import Finished, Flushed, LedgerEntry, Mark, PlayoutCounts, Started

BYTES_PER_MS = 8
DEFAULT_STALL_MS = 2000


class _Utterance:
    """Queue and position of one utterance.

    ``pieces`` holds (payload, segment); an empty payload marks the end of its segment.
    """

    __slots__ = (
        "ended",
        "expected_frame",
        "expected_segment",
        "frames_sent",
        "heard",
        "last_end",
        "number",
        "open",
        "pieces",
        "queued_bytes",
        "sending",
        "sent_bytes",
        "started",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.pieces: deque[tuple[bytes, int]] = deque()
        self.queued_bytes = 0
        self.expected_segment = 0
        self.expected_frame = 0
        self.open = False  # frames of the expected segment were taken and its end is not here yet
        self.ended = False
        self.started = False
        self.frames_sent = 0
        self.heard = 0  # sentences sent in full
        self.sending = 0  # the sentence that is being sent, and how much of it has left
        self.sent_bytes = 0
        self.last_end = 0

    def close_segment(self) -> None:
        """The expected segment has no further frame; its mark goes out after what is queued."""
        self.pieces.append((b"", self.expected_segment))
        self.expected_segment += 1
        self.expected_frame = 0
        self.open = False

    def end_of_audio(self, media_time: int) -> int:
        """Where what was sent of it ended; ``media_time`` where nothing was (ticks)."""
        return self.last_end if self.frames_sent else media_time


class Playout:
    """Frames of the agent by utterance, cut to the packet size, and the ledger of what left.

    Attributes:
        counts: see :class:`PlayoutCounts`.
        last_utterance: the utterance of the frame that ``next_frame`` gave last; -1 before the first.
        paused: ``pause`` was called; lifted by ``resume`` or by a flush of the utterance that plays.
        ledger: entries not taken yet; look at its truth before calling ``take_ledger`` in the hot path.
    """

    __slots__ = (
        "_current",
        "_frame_bytes",
        "_idle_since",
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
        "paused",
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
        self._utterances: dict[int, _Utterance] = {}
        self._current: _Utterance | None = None
        self._settled = -1  # this utterance and all older ones are finished, flushed or overtaken
        self._queued_bytes = 0
        self._idle_since: int | None = None
        self.counts = PlayoutCounts()
        self.ledger: list[LedgerEntry] = []
        self.last_utterance = -1
        self.paused = False

    @property
    def queued_ms(self) -> int:
        """Audio waiting to be sent, all utterances together."""
        return self._queued_bytes // BYTES_PER_MS

    @property
    def playing(self) -> int | None:
        """The utterance that has begun and is not finished, None between utterances."""
        current = self._current
        return current.number if current is not None and current.started else None

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
            target = self._utterances[utterance] = _Utterance(utterance)
        taken = self._take(target, segment, frame, payloads, segment_end) if payloads or segment_end else 0
        if end:
            if target.open:
                target.close_segment()
            target.ended = True
        return taken

    def _take(self, target: _Utterance, segment: int, frame: int, payloads: Sequence[bytes], segment_end: bool) -> int:
        counts = self.counts
        if segment < target.expected_segment:
            counts.duplicate += len(payloads)
            return 0
        if segment > target.expected_segment:
            # The end of the earlier sentence was lost on the bus: what came of it was the whole of it.
            if target.open:
                target.close_segment()
            target.expected_segment = segment
            target.expected_frame = 0
        known = target.expected_frame - frame
        if known < 0:
            counts.missing -= known
            known = 0
        known = min(known, len(payloads))
        counts.duplicate += known
        taken = self._queue(target, segment, payloads[known:])
        target.expected_frame = max(target.expected_frame, frame + len(payloads))
        if segment_end:
            target.close_segment()
        return taken

    def _queue(self, target: _Utterance, segment: int, payloads: Sequence[bytes]) -> int:
        """Queue as many frames as the limit allows; returns how many."""
        taken = 0
        for payload in payloads:
            size = len(payload)
            if self._queued_bytes + size > self._limit_bytes:
                self.counts.overflow += len(payloads) - taken
                break
            taken += 1
            if size:
                target.pieces.append((payload, segment))
                target.queued_bytes += size
                self._queued_bytes += size
        if taken:
            target.open = True
        return taken

    # Out: one frame per turn to send.

    def next_frame(self, media_time: int) -> bytes | None:
        """The payload of the packet that leaves at ``media_time`` (ticks), None for silence. Feeds the ledger."""
        if not self._utterances or self.paused:
            return None
        while True:
            current = self._current
            if current is None or not current.started:
                current = self._choose()
                if current is None:
                    return None
            if not (current.ended and not current.queued_bytes):
                break
            self._finish(current, media_time)
        if not self._ready(current, media_time):
            self._wait(current, media_time)
            return None
        return self._send(current, media_time)

    def _choose(self) -> _Utterance | None:
        """The oldest utterance known becomes the current one; an older one may still push in before it has begun."""
        if not self._utterances:
            return None
        current = self._utterances[min(self._utterances)]
        if current is not self._current:
            self._current = current
            self._idle_since = None
        return current

    def _ready(self, current: _Utterance, media_time: int) -> bool:
        """Whether a packet of the current utterance can leave now."""
        queued = current.queued_bytes
        if not current.started:
            if queued >= max(1, self._prefill) * self._frame_bytes:
                return True
            complete = current.ended or current.expected_segment > 0
            waited = self._idle_since is not None and media_time - self._idle_since >= self._stall_ticks
            return queued > 0 and (complete or waited)
        # Less than a packet leaves only where nothing more of its sentence is to come.
        return queued >= self._frame_bytes or (queued > 0 and (current.ended or not current.open))

    def _wait(self, current: _Utterance, media_time: int) -> None:
        """Nothing can leave: count the hole, and close an utterance that holds up another for too long."""
        if current.started and current.pieces and not current.queued_bytes:
            self._mark_ends(current, current.end_of_audio(media_time))
        if current.started and current.open:
            self.counts.starved += 1
        if self._idle_since is None:
            self._idle_since = media_time
        elif media_time - self._idle_since >= self._stall_ticks and len(self._utterances) > 1:
            self.counts.abandoned += 1
            self._finish(current, media_time)

    def _send(self, current: _Utterance, media_time: int) -> bytes:
        end = media_time + self._frame_bytes
        if not current.started:
            current.started = True
            self._settled = current.number - 1
            self.ledger.append(Started(current.number, media_time))
        self._idle_since = None
        payload = self._cut(current, end)
        current.frames_sent += 1
        current.last_end = end
        self.counts.sent += 1
        self.last_utterance = current.number
        pieces = current.pieces
        if pieces and not pieces[0][0]:
            self._mark_ends(current, end)
        if current.ended and not pieces:
            self._finish(current, end)
        return payload

    def _cut(self, current: _Utterance, end: int) -> bytes:
        """One packet's payload from the head of the queue, filled up with silence where its sentence is over."""
        pieces = current.pieces
        self._mark_ends(current, end)
        wanted = self._frame_bytes
        if len(pieces[0][0]) == wanted:
            payload, segment = pieces.popleft()
            self._account(current, segment, wanted)
            return payload
        parts: list[bytes] = []
        while wanted and pieces:
            payload, segment = pieces[0]
            if len(payload) <= wanted:
                pieces.popleft()
            else:
                pieces[0] = (payload[wanted:], segment)
                payload = payload[:wanted]
            wanted -= len(payload)
            parts.append(payload)
            self._account(current, segment, len(payload))
            self._mark_ends(current, end)
        return b"".join(parts) + self._silence * wanted

    def _account(self, current: _Utterance, segment: int, size: int) -> None:
        current.sending = segment
        current.sent_bytes += size
        current.queued_bytes -= size
        self._queued_bytes -= size

    def _mark_ends(self, current: _Utterance, end: int) -> None:
        """Tell of the sentences that are over at ``end`` (ticks): the ends of sentence at the head of the queue."""
        pieces = current.pieces
        while pieces and not pieces[0][0]:
            segment = pieces.popleft()[1]
            self.ledger.append(Mark(current.number, segment, end))
            current.heard = segment + 1
            current.sent_bytes = 0

    def _finish(self, current: _Utterance, media_time: int) -> None:
        end = current.end_of_audio(media_time)
        self._mark_ends(current, end)
        self.ledger.append(Finished(current.number, current.frames_sent, end))
        self._settle(current)

    def _settle(self, done: _Utterance) -> None:
        """Forget the utterance; whatever else comes of it is stale."""
        del self._utterances[done.number]
        self._queued_bytes -= done.queued_bytes
        self._settled = max(self._settled, done.number)
        self._idle_since = None
        if done is self._current:
            self._current = None

    # Commands.

    def flush(self, utterance: int | None, media_time: int) -> bool:
        """Drop the utterance and all older ones, or everything known where ``utterance`` is None.

        An utterance of which nothing has come yet is flushed too: what comes of it later is stale. Returns False
        where there was nothing to do: nothing known, or already finished or flushed.
        """
        through = max(self._utterances, default=-1) if utterance is None else utterance
        if through <= self._settled:
            return False
        doomed = [self._utterances[number] for number in sorted(self._utterances) if number <= through]
        if self._current is not None and self._current.number <= through:
            self.paused = False
        for target in doomed:
            cut = target.sent_bytes > 0
            segment = target.sending if cut else target.heard
            sent_ms = target.sent_bytes // BYTES_PER_MS
            dropped_ms = target.queued_bytes // BYTES_PER_MS
            self.ledger.append(Flushed(target.number, segment, sent_ms, dropped_ms, media_time))
            self._settle(target)
        if not doomed or doomed[-1].number != through:
            self.ledger.append(Flushed(through, 0, 0, 0, media_time))
            self._settled = through
        return True

    def pause(self) -> None:
        """Send silence from the next packet on; queue and position stay."""
        self.paused = True

    def resume(self) -> None:
        """Go on from the frame after the last one sent."""
        self.paused = False
        self._idle_since = None

    def set_frame_bytes(self, frame_bytes: int) -> None:
        """Another packet size from the next frame on (a new ``ptime`` in a re-INVITE)."""
        self._frame_bytes = frame_bytes
