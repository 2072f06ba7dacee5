"""How much audio the edge still has to play: what was sent, less what the playout events tell. Pure.

Between two events the clock counts on: an estimate for the flow alone, put right by each ``playout.mark``. What the
caller heard is never taken from here.
"""

from __future__ import annotations

from schemas.base import Event
from schemas.call import CallHeld
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)

PAUSE_LIMIT_S = 30.0
"""A pause counts for so long at most. The edge goes on by itself well before (``limit_ms`` of ``control.pause``)."""


class _Queued:
    """Audio of one utterance at the edge."""

    def __init__(self) -> None:
        self.sent_ms: dict[int, int] = {}
        self.marked = -1
        self.since: float | None = None
        """Playing time at the last event that told how far playout is; None: not begun."""

    def ahead_ms(self, playing_time: float) -> float:
        known = sum(duration for index, duration in self.sent_ms.items() if index <= self.marked)
        elapsed = 0.0 if self.since is None else 1000 * (playing_time - self.since)
        return max(0.0, sum(self.sent_ms.values()) - known - elapsed)


class PlayoutAhead:
    """Audio that is on its way to the caller, in milliseconds. ``now`` is monotonic seconds everywhere.

    Playing time stands still while the call is on hold and while an utterance is paused: the edge sends nothing then.
    """

    def __init__(self) -> None:
        self._queued: dict[int, _Queued] = {}
        self._over: set[int] = set()
        self._held = False
        self._paused: tuple[int, float] | None = None
        """The utterance that is paused, and the time that the pause counts to."""
        self._playing_time_s = 0.0
        self._counted_to = 0.0

    def standing(self, now: float) -> bool:
        """Whether the edge has been told to play nothing: the caller is on hold, or the agent is paused."""
        return self._held or (self._paused is not None and now < self._paused[1])

    def sent(self, utterance_id: int, index: int, duration_ms: int) -> None:
        """So much of a sentence was sent in all so far."""
        if utterance_id not in self._over:
            queued = self._queued.setdefault(utterance_id, _Queued())
            queued.sent_ms[index] = max(duration_ms, queued.sent_ms.get(index, 0))

    def drop(self, utterance_id: int, now: float) -> None:
        """Nothing of that utterance will be played any more; a pause of it is over."""
        self._count(now)
        if self._paused is not None and self._paused[0] == utterance_id:
            self._paused = None
        self._over.add(utterance_id)
        self._queued.pop(utterance_id, None)

    def fold(self, event: Event, now: float) -> None:
        """Take an event of the call."""
        self._count(now)
        match event:
            case CallHeld():
                self._held = event.held
            case PlayoutPaused() if event.utterance_id not in self._over:
                self._pause(event, now)
            case PlayoutResumed() if self._paused is not None and self._paused[0] == event.utterance_id:
                self._paused = None
            case PlayoutStarted() if event.utterance_id not in self._over:
                self._queued.setdefault(event.utterance_id, _Queued()).since = self._playing_time_s
            case PlayoutMark() if event.utterance_id not in self._over:
                queued = self._queued.setdefault(event.utterance_id, _Queued())
                queued.marked = max(queued.marked, event.index)
                queued.since = self._playing_time_s
            case PlayoutFinished() | PlayoutFlushed():
                self.drop(event.utterance_id, now)

    def ahead_ms(self, now: float) -> int:
        """Audio sent and not yet played."""
        self._count(now)
        return round(sum(queued.ahead_ms(self._playing_time_s) for queued in self._queued.values()))

    def _pause(self, event: PlayoutPaused, now: float) -> None:
        """The event says to the millisecond how far playout is: the clock between events is put right by it."""
        self._paused = (event.utterance_id, now + PAUSE_LIMIT_S)
        queued = self._queued.setdefault(event.utterance_id, _Queued())
        queued.marked = max(queued.marked, event.index - 1)
        queued.since = self._playing_time_s - event.sent_ms / 1000

    def _count(self, now: float) -> None:
        """Let playing time pass up to ``now``."""
        begin = self._counted_to
        if self._paused is not None:
            begin = max(begin, min(now, self._paused[1]))
        if not self._held:
            self._playing_time_s += max(0.0, now - begin)
        self._counted_to = max(self._counted_to, now)
