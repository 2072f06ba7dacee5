"""Asks the turn model for calls: off the event loop, within a deadline, one question at a time.

A worker has one :class:`TurnDesk` and each of its calls a :class:`TurnJudge`. An answer costs up to a tenth of a second
of a core. The desk has one question worked on at a time, so that recognition always finds a thread free, and drops
those that are not wanted any more when their turn comes: what many calls ask at once can't pile up. Where no verdict
comes, silence decides, as if there were no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bus.clock import Clock, Timer
from bus.logs import get_logger
from services.asr.hearing import BYTES_PER_TICK, TICKS_PER_MS, Piece
from services.asr.pool import EnginePool, Job
from services.asr.turn import values as v
from services.asr.turn_model import TurnModel

log = get_logger(__name__)

VERDICT_DEADLINE_MS = 300
"""A verdict that comes later is of no use."""
HUNG_MS = 2000
"""A model that has worked for so long on one question does not come back: the next one gets a thread of its own."""
HANGS_LIMIT = 3
"""A model that did this is asked no more: each time takes a thread from recognition."""
LEAD_MS = 500
"""Audio before the first voiced sample that the model hears: soft beginnings lie under the detector's threshold."""
SPARE_MS = 2000
"""So much more than the model hears is kept before the oldest is cut off."""
BYTES_PER_MS = TICKS_PER_MS * BYTES_PER_TICK

Work = Callable[[], float | None]
Done = Callable[[float | None, Exception | None], None]


class TurnDesk:
    """The model of a worker and the questions that wait for it. Used on one event loop."""

    def __init__(self, model: TurnModel, pool: EnginePool, clock: Clock) -> None:
        self.model = model
        self.clock = clock
        self._pool = pool
        self._waiting: deque[Question] = deque()
        self._at_work: Question | None = None
        self._job: Job | None = None
        self._hung: Timer | None = None
        self._hangs = 0

    @property
    def waiting(self) -> int:
        """Questions that nobody works on yet, those that are not wanted any more among them."""
        return len(self._waiting)

    def put(self, question: Question) -> None:
        """Have it worked on after those before it; never, if the model hangs again and again."""
        if self._hangs < HANGS_LIMIT:
            self._waiting.append(question)
            self._advance()

    def _advance(self) -> None:
        while self._at_work is None and self._waiting:
            question = self._waiting.popleft()
            if question.wanted:
                self._at_work = question
                self._hung = self.clock.call_later(HUNG_MS, self._give_up)
                self._job = self._pool.submit(
                    lambda: self._work(question),  # noqa: B023
                    lambda result, error: self._worked(question, result, error),  # noqa: B023
                )

    def _work(self, question: Question) -> float | None:
        """On a thread of the pool, which may have had other work until now."""
        return self.model.probability(question.pcm) if question.wanted else None

    def _worked(self, question: Question, probability: float | None, error: Exception | None) -> None:
        if self._at_work is question:
            self._leave()
        if question.wanted:
            question.answer(probability, error)
        self._advance()

    def _give_up(self) -> None:
        self._hangs += 1
        what_follows = "it is asked no more" if self._hangs == HANGS_LIMIT else "another thread takes over"
        name = self.model.name
        log.error("turn_model_hangs", message=f"turn model {name} did not answer within {HUNG_MS} ms; {what_follows}")
        self._leave()
        if self._job is not None:
            self._pool.replace_thread(self._job)
        if self._hangs == HANGS_LIMIT:
            self._waiting.clear()
        self._advance()

    def _leave(self) -> None:
        self._at_work = None
        if self._hung is not None:
            self._hung.cancel()
            self._hung = None


class Question:
    """One ask of a call and its audio. ``wanted`` ends with the answer, with a newer ask, or at the deadline."""

    def __init__(self, ask: v.Ask, pcm: bytes, answer: Done) -> None:
        self.ask = ask
        self.pcm = pcm
        self.answer = answer
        self.wanted = True


class TurnJudge:
    """One call's side: keeps the audio that the model may ask for, and has it judged.

    ``on_verdict`` is called on the event loop with each verdict that comes in time; never after :meth:`close`, nor for
    an ask that a newer one has replaced. ``on_failure`` is called for each ask that the model could not answer or did
    not answer in time, with the code ``turn_model_failed`` or ``turn_model_late``; the first of a call is logged.
    """

    def __init__(
        self,
        desk: TurnDesk,
        *,
        on_verdict: Callable[[v.Verdict], None],
        on_failure: Callable[[str], None] = lambda code: None,
    ) -> None:
        self.failures = 0
        self._desk = desk
        self._on_verdict = on_verdict
        self._on_failure = on_failure
        self._heard = bytearray()
        self._end_ms = 0.0
        self._question: Question | None = None
        self._timer: Timer | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """A verdict is still to come, or its deadline."""
        return self._question is not None

    def feed(self, piece: Piece) -> None:
        """The caller's audio, in order. Time for which there is none is silence."""
        context_ms = self._desk.model.context_ms
        if self._heard:
            gap_ms = min(piece.media_ms - self._end_ms, context_ms)
            self._heard += bytes(max(0, round(gap_ms * TICKS_PER_MS)) * BYTES_PER_TICK)
        self._heard += piece.pcm
        self._end_ms = piece.end_ms
        if len(self._heard) > (context_ms + SPARE_MS) * BYTES_PER_MS:
            del self._heard[: len(self._heard) - context_ms * BYTES_PER_MS]

    def ask(self, ask: v.Ask) -> None:
        """Have the audio judged from shortly before the turn's first voiced sample until now."""
        if self._closed:
            return
        self._forget()
        wanted_ms = min(self._desk.model.context_ms, self._end_ms - ask.speech_start_ms + LEAD_MS)
        wanted_bytes = max(0, int(wanted_ms)) * BYTES_PER_MS
        pcm = bytes(self._heard[max(0, len(self._heard) - wanted_bytes) :])
        question = Question(ask, pcm, lambda probability, error: self._answered(question, probability, error))
        self._question = question
        self._timer = self._desk.clock.call_later(VERDICT_DEADLINE_MS, lambda: self._time_out(question))
        self._desk.put(question)

    def close(self) -> None:
        """Nothing is wanted any more."""
        self._closed = True
        self._forget()
        self._heard.clear()

    def _answered(self, question: Question, probability: float | None, error: Exception | None) -> None:
        self._forget()
        if error is not None:
            self._fail(
                "turn_model_failed", f"turn model {self._desk.model.name} raised {type(error).__name__}: {error}"
            )
        elif probability is not None:
            self._on_verdict(v.Verdict(question.ask.ask, probability))

    def _time_out(self, question: Question) -> None:
        if question is self._question:
            self._forget()
            name = self._desk.model.name
            self._fail("turn_model_late", f"turn model {name} gave no verdict within {VERDICT_DEADLINE_MS} ms")

    def _fail(self, code: str, detail: str) -> None:
        self.failures += 1
        if self.failures == 1:
            log.warning(code, message=f"{detail}; silence alone says when the caller is done")
        self._on_failure(code)

    def _forget(self) -> None:
        if self._question is not None:
            self._question.wanted = False
            self._question = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
