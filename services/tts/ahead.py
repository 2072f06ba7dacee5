"""How much audio the edge still has to play: what was sent, less what the playout events tell. Pure.

Between two events the clock counts on: an estimate for the flow alone, put right by each ``playout.mark``. What the
caller heard is never taken from here.
"""

from __future__ import annotations

from schemas.base import Event
from schemas.call import CallHeld
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutStarted


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
    """Audio that is on its way to the caller, in milliseconds. ``now`` is monotonic seconds everywhere."""

    def __init__(self) -> None:
        self._queued: dict[int, _Queued] = {}
        self._over: set[int] = set()
        self._held_since: float | None = None
        self._held_s = 0.0

    @property
    def held(self) -> bool:
        """The caller has put the call on hold."""
        return self._held_since is not None

    def sent(self, utterance_id: int, index: int, duration_ms: int) -> None:
        """So much of a sentence was sent in all so far."""
        if utterance_id not in self._over:
            queued = self._queued.setdefault(utterance_id, _Queued())
            queued.sent_ms[index] = max(duration_ms, queued.sent_ms.get(index, 0))

    def drop(self, utterance_id: int) -> None:
        """Nothing of that utterance will be played any more."""
        self._over.add(utterance_id)
        self._queued.pop(utterance_id, None)

    def fold(self, event: Event, now: float) -> None:
        """Take an event of the call."""
        match event:
            case CallHeld():
                self._hold(event.held, now)
            case PlayoutStarted() if event.utterance_id not in self._over:
                self._queued.setdefault(event.utterance_id, _Queued()).since = self._playing_time(now)
            case PlayoutMark() if event.utterance_id not in self._over:
                queued = self._queued.setdefault(event.utterance_id, _Queued())
                queued.marked = max(queued.marked, event.index)
                queued.since = self._playing_time(now)
            case PlayoutFinished() | PlayoutFlushed():
                self.drop(event.utterance_id)

    def ahead_ms(self, now: float) -> int:
        """Audio sent and not yet played."""
        playing_time = self._playing_time(now)
        return round(sum(queued.ahead_ms(playing_time) for queued in self._queued.values()))

    def _playing_time(self, now: float) -> float:
        """Stands still while the call is on hold: the edge may not send then."""
        return (now if self._held_since is None else self._held_since) - self._held_s

    def _hold(self, held: bool, now: float) -> None:
        if held and self._held_since is None:
            self._held_since = now
        elif not held and self._held_since is not None:
            self._held_s += now - self._held_since
            self._held_since = None
