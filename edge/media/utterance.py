"""One utterance of the agent on its way to the caller: its queue, and where in it the line stands, to the sample.

Frames come in whatever sizes the synthesis makes them and leave as packets of whatever size the call has. Between two
packets the queue begins with the sample after the last one sent, so that a pause keeps its place by doing nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from edge.media.ledger import LedgerEntry, Mark, PlayoutCounts

BYTES_PER_MS = 8


class Utterance:
    """Queue and position of one utterance.

    Attributes:
        number: its id.
        queued_bytes: audio that waits to be sent.
        expected_segment, expected_frame: the next frame that is new; what lies before it is a duplicate.
        open: frames of the expected sentence were taken and its end is not here yet.
        ended: no further sentence comes.
        started: its first packet left.
        frames_sent: packets of it that left; ``last_end`` is where the audio of the last one ended, ticks.
        held: nothing of it leaves; ``held_until`` is when that is over by itself, ticks, None for never.
        pauses: how often it was held.
    """

    __slots__ = (
        "_heard",
        "_pieces",
        "_sending",
        "_sending_since",
        "_sent_bytes",
        "ended",
        "expected_frame",
        "expected_segment",
        "frames_sent",
        "held",
        "held_until",
        "last_end",
        "number",
        "open",
        "pauses",
        "queued_bytes",
        "started",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.queued_bytes = 0
        self.expected_segment = 0
        self.expected_frame = 0
        self.open = False
        self.ended = False
        self.started = False
        self.frames_sent = 0
        self.last_end = 0
        self.held = False
        self.held_until: int | None = None
        self.pauses = 0
        self._pieces: deque[tuple[bytes, int]] = deque()  # (payload, segment); empty payload: the segment ends here
        self._heard = 0  # sentences sent in full
        self._sending = 0  # the sentence that is being sent, how much of it has left, and since when, ticks
        self._sent_bytes = 0
        self._sending_since = 0

    @property
    def spent(self) -> bool:
        """Complete and sent to its last sample."""
        return self.ended and not self.queued_bytes

    def end_of_audio(self, media_time: int) -> int:
        """Where what was sent of it ended; ``media_time`` where nothing was (ticks)."""
        return self.last_end if self.frames_sent else media_time

    def position(self) -> tuple[int, int]:
        """The sentence in whose middle the line stands and ms of it that left; between two: those heard, and 0."""
        return (self._sending, self._sent_bytes // BYTES_PER_MS) if self._sent_bytes else (self._heard, 0)

    # In.

    def take(
        self,
        segment: int,
        frame: int,
        payloads: Sequence[bytes],
        *,
        segment_end: bool,
        room: int,
        counts: PlayoutCounts,
    ) -> int:
        """Queue what is new of the frames ``frame``, ``frame`` + 1, ... of a sentence; returns how many.

        ``room``: bytes that may be queued; the rest is dropped and counted ``overflow``.
        """
        if segment < self.expected_segment:
            counts.duplicate += len(payloads)
            return 0
        if segment > self.expected_segment:
            # The end of the earlier sentence was lost on the bus: what came of it was the whole of it.
            if self.open:
                self._close_segment()
            self.expected_segment = segment
            self.expected_frame = 0
        known = self.expected_frame - frame
        if known < 0:
            counts.missing -= known
            known = 0
        known = min(known, len(payloads))
        counts.duplicate += known
        taken = self._queue(segment, payloads[known:], room, counts)
        self.expected_frame = max(self.expected_frame, frame + len(payloads))
        if segment_end:
            self._close_segment()
        return taken

    def end(self) -> None:
        """No further sentence comes."""
        if self.open:
            self._close_segment()
        self.ended = True

    def _queue(self, segment: int, payloads: Sequence[bytes], room: int, counts: PlayoutCounts) -> int:
        taken = 0
        for payload in payloads:
            size = len(payload)
            if size > room:
                counts.overflow += len(payloads) - taken
                break
            taken += 1
            if size:
                self._pieces.append((payload, segment))
                self.queued_bytes += size
                room -= size
        if taken:
            self.open = True
        return taken

    def _close_segment(self) -> None:
        """The expected segment has no further frame; its mark goes out after what is queued."""
        self._pieces.append((b"", self.expected_segment))
        self.expected_segment += 1
        self.expected_frame = 0
        self.open = False

    # Out.

    def cut(self, size: int, silence: bytes, media_time: int, ledger: list[LedgerEntry]) -> bytes:
        """The packet of ``size`` bytes that leaves at ``media_time`` (ticks), and the marks of what it completes.

        Filled up with ``silence`` (one byte) where the queue holds less. There is something queued.
        """
        pieces = self._pieces
        end = media_time + size
        self.mark_ends(self.end_of_audio(media_time), ledger)
        if len(pieces[0][0]) == size:
            packet, segment = pieces.popleft()
            self._account(segment, size, media_time)
        else:
            packet = self._gather(size, silence, end, ledger)
        self.frames_sent += 1
        self.last_end = end
        self.mark_ends(end, ledger)
        return packet

    def _gather(self, wanted: int, silence: bytes, end: int, ledger: list[LedgerEntry]) -> bytes:
        pieces = self._pieces
        parts: list[bytes] = []
        while wanted and pieces:
            payload, segment = pieces[0]
            if len(payload) <= wanted:
                pieces.popleft()
            else:
                pieces[0] = (payload[wanted:], segment)
                payload = payload[:wanted]
            parts.append(payload)
            self._account(segment, len(payload), end - wanted)
            wanted -= len(payload)
            self.mark_ends(end, ledger)
        return b"".join(parts) + silence * wanted

    def _account(self, segment: int, size: int, media_time: int) -> None:
        if not self._sent_bytes:
            self._sending_since = media_time
        self._sending = segment
        self._sent_bytes += size
        self.queued_bytes -= size

    def mark_ends(self, end: int, ledger: list[LedgerEntry]) -> None:
        """Tell of the sentences that are over at ``end`` (ticks): the ends of sentence at the head of the queue."""
        pieces = self._pieces
        while pieces and not pieces[0][0]:
            segment = pieces.popleft()[1]
            start = self._sending_since if self._sent_bytes else end
            ledger.append(Mark(self.number, segment, end, start))
            self._heard = segment + 1
            self._sent_bytes = 0
