"""When the caller heard an utterance of the agent, out of the ledger of what was sent. Pure.

All media times are milliseconds of the agent's media time, which has the caller's zero. Events may come in any order
and more than once: what is asked for is computed from what is known by then.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.base import Event
from schemas.llm import LlmDone, LlmSentence
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.tts import TtsStarted


class Moment(NamedTuple):
    """A point of the agent's media time, and of the edge's wall clock in microseconds."""

    media_ms: int
    at_us: int


class Audible(NamedTuple):
    """The first audible sample of a sentence. ``began``: its first frame left; ``media_ms``: the sample left."""

    began: Moment
    media_ms: int


class Playout:
    """One utterance of the agent: its sentences, its audio, and what became of it at the edge."""

    def __init__(self) -> None:
        self.done: LlmDone | None = None
        self.audio: dict[int, TtsStarted] = {}
        """First audio by sentence."""
        self._fillers: dict[int, bool] = {}
        self._started: Moment | None = None
        self._marks: dict[int, PlayoutMark] = {}
        self._paused: dict[int, int] = {}
        self._resumed: dict[int, int] = {}
        self._flushed: PlayoutFlushed | None = None
        self._finished = False

    @property
    def over(self) -> bool:
        """The caller hears no more of it."""
        return self._finished or self._flushed is not None

    def apply(self, event: Event) -> None:
        """Take an event of this utterance; what is none of its business changes nothing."""
        match event:
            case LlmSentence():
                self._fillers[event.index] = event.filler
            case LlmDone():
                self.done = self.done or event
            case TtsStarted():
                # A successor says a sentence again; the edge drops what it has, so the first one counts.
                self.audio.setdefault(event.index, event)
            case PlayoutStarted():
                self._started = self._started or Moment(event.media_time_ms, event.at_us)
            case PlayoutMark():
                self._marks.setdefault(event.index, event)
            case PlayoutPaused():
                self._paused[event.number] = event.media_time_ms
            case PlayoutResumed():
                self._resumed[event.number] = event.media_time_ms
            case PlayoutFinished():
                self._finished = True
            case PlayoutFlushed():
                self._flushed = self._flushed or event
            case _:
                pass

    @property
    def pauses(self) -> list[tuple[int, int | None]]:
        """Stretches in which it was held, in order: end of the last packet, and where it went on (None: it did not)."""
        return [(start, self._resumed.get(number)) for number, start in sorted(self._paused.items())]

    @property
    def stopped_ms(self) -> int | None:
        """End of the last agent packet of an utterance that was stopped: where it was held and not taken back, else
        where it was flushed. None: it plays, or has come to its end."""
        pauses = self.pauses
        if pauses and pauses[-1][1] is None:
            return pauses[-1][0]
        return self._flushed.media_time_ms if self._flushed is not None else None

    @property
    def started(self) -> bool:
        """Something of it has left."""
        return self._started is not None

    def first(self, *, filler: bool) -> int | None:
        """Index of the first sentence that is a filler, or of the first that is none. One whose audio is known comes
        before one that was left out; None where there is no such sentence."""
        wanted = sorted(index for index, is_filler in self._fillers.items() if is_filler == filler)
        return next((index for index in wanted if index in self.audio), wanted[0] if wanted else None)

    def began(self, index: int) -> Moment | None:
        """When the first frame of a sentence left; None where that is not known (yet).

        Sentence 0 begins with the utterance. A later one has its begin in its own mark, so it is known at its end: the
        sentence before may have ended long before (a filler, and the answer took longer still). One that was cut has
        it from the length that was sent.
        """
        started = self._started
        if index == 0 or started is None:
            return started
        begin_ms = self._begin_ms(index)
        return None if begin_ms is None else Moment(begin_ms, started.at_us + (begin_ms - started.media_ms) * 1000)

    def _begin_ms(self, index: int) -> int | None:
        mark = self._marks.get(index)
        if mark is not None and mark.start_ms:
            return mark.start_ms
        if mark is not None and (before := self._marks.get(index - 1)) is not None:
            return before.media_time_ms
        flushed = self._flushed
        if flushed is None or flushed.index != index or not flushed.sent_ms:
            return None
        return self._before(flushed.media_time_ms, flushed.sent_ms)

    def audible(self, index: int) -> Audible | None:
        """The first audible sample of a sentence; None where it is not known (yet), or never left."""
        began, audio = self.began(index), self.audio.get(index)
        if began is None or (audio is None and not self.over):
            return None
        silence_ms = audio.leading_silence_ms if audio is not None else 0
        at_ms = began.media_ms
        for paused_ms, resumed_ms in self.pauses:
            if paused_ms < at_ms:
                continue
            if paused_ms - at_ms > silence_ms:
                break
            if resumed_ms is None:
                return None
            silence_ms -= paused_ms - at_ms
            at_ms = resumed_ms
        at_ms += silence_ms
        stopped_ms = self.stopped_ms
        if self.over and stopped_ms is not None and at_ms >= stopped_ms:
            return None
        return Audible(began, at_ms)

    def _before(self, end_ms: int, sent_ms: int) -> int:
        """The media time ``sent_ms`` of audio before ``end_ms``; stretches in which it was held do not count."""
        for paused_ms, resumed_ms in reversed(self.pauses):
            if resumed_ms is None or resumed_ms > end_ms:
                continue
            if end_ms - resumed_ms >= sent_ms:
                break
            sent_ms -= end_ms - resumed_ms
            end_ms = paused_ms
        return end_ms - sent_ms
