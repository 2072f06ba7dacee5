"""Engines that stand in for each other, so that no word of a caller is lost whatever becomes of one of them.

The audio of a run is kept until its final: it begins with the last acknowledged audio and is 20 s long at most. An
engine that fails, or makes no progress in time, is succeeded by the next one, which is given all of it from the start.
Each engine has threads of its own, so that one that hangs holds up none of the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from bus.clock import Clock, Timer
from bus.logs import get_logger
from bus.metrics import EngineFigures
from config.settings import AsrSection, Settings
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, Engine, Run, load_engine
from services.asr.hearing import BYTES_PER_TICK, TICKS_PER_MS, Piece
from services.asr.loading import EngineChoiceError
from services.asr.pool import THREADS, WAITING_THREADS, EnginePool
from services.asr.recognition import Outcome, Recognition
from services.resilience.attempts import CUT, EMPTY, FAILED, TIMEOUT, Attempt, Attempts, Roster, Takeover
from services.warming import Warming, engines_of

log = get_logger(__name__)

STAGE = "asr"
CATCH_UP_RATIO = 4
"""An engine that takes over has to hear what was said before it: so many times faster than it was said, at least."""
RUBBISH_CHARACTERS_PER_S = 60
"""Nobody speaks that fast..."""
RUBBISH_CHARACTERS = 200
"""...and a text that is by so much longer still is not what was said."""

Load = Callable[[str, AsrSection, Settings | None], Engine]


class FailoverEngine:
    """Several engines in their order; :class:`FailoverRecognition` uses them."""

    def __init__(self, engines: Sequence[tuple[str, Engine]], settings: Settings, roster: Roster | None = None) -> None:
        """``engines``: with their names in the settings. ``roster``: of the same names; None: a new one."""
        names = [name for name, _ in engines]
        self.name = ",".join(names)
        self.engines = tuple(engine for _, engine in engines)
        self.roster = roster or Roster(names, settings.failover, random.random, EngineFigures(STAGE))
        self.attempt_ms = settings.asr.attempt_ms
        self.pools = [EnginePool(WAITING_THREADS if each.capabilities.waits else THREADS) for each in self.engines]
        # On its own threads: a model that hangs while it loads, again and again, takes none of the process's.
        warms = [partial(pool.call, engine.warm) for engine, pool in zip(self.engines, self.pools, strict=True)]
        self._warming = Warming(self.roster, warms, STAGE)

    @property
    def capabilities(self) -> Capabilities:
        """The first engine's."""
        return self.engines[0].capabilities._replace(waits=False)

    def warm(self) -> None:
        """The first engine alone; :meth:`load` loads them all."""
        self.engines[0].warm()

    def open(self, listen_for: ListenFor) -> Run:
        """A run of the first engine alone, with nobody to stand in for it."""
        return self.engines[0].open(listen_for)

    async def load(self) -> None:
        """Load every engine. Those that fail are left out, until they can be loaded.

        Raises:
            Exception: none can be loaded; what the first one raised.
        """
        await self._warming.warm()

    def close(self) -> None:
        """End the threads."""
        self._warming.close()
        for pool in self.pools:
            pool.close()


class FailoverRecognition:
    """Drives one run, by whichever engine can. What it does for its owner is as in :class:`Recognition`.

    ``on_takeover``: told where another engine goes on with it.
    """

    def __init__(
        self,
        engine: FailoverEngine,
        listen_for: ListenFor,
        *,
        clock: Clock,
        deadline_ms: int,
        on_partial: Callable[[str], None],
        on_outcome: Callable[[Outcome], None],
        on_idle: Callable[[], None],
        on_takeover: Callable[[Takeover], None],
    ) -> None:
        self.through_sequence = -1
        self._engine = engine
        self._listen_for = listen_for
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._on_partial = on_partial
        self._on_outcome = on_outcome
        self._on_idle = on_idle
        self._on_takeover = on_takeover
        self._attempts = Attempts(engine.roster)
        self._pieces: list[Piece] = []
        self._work: tuple[Recognition, Attempt] | None = None
        self._partial = ""
        self._unsaid: str | None = None
        self._heard = self._catching_up = self._finishing = self._over = False
        self._due_us = 0
        self._timer: Timer | None = None
        self._pause: Timer | None = None
        self._pausing: Attempt | None = None
        self._held: Outcome | None = None
        self._doubted: tuple[Attempt, Outcome] | None = None
        self._rested_us = 0
        self._next()

    @property
    def busy(self) -> bool:
        """There is audio or an end to work on."""
        if self._over or self._held is not None:
            return False
        return self._pause is not None or (self._work is not None and self._work[0].busy)

    def feed(self, piece: Piece) -> None:
        """The next audio. Nothing may be fed after :meth:`finish`."""
        self.through_sequence = piece.sequence
        if self._over or self._held is not None:
            return
        self._pieces.append(piece)
        if self._work is not None and self._pause is None:
            self._work[0].feed(piece)
            self._watch()
            if self._lags():
                self._give_up(f"{self._engine.attempt_ms} ms behind the caller")

    def finish(self) -> None:
        """No more audio: the outcome is wanted."""
        self._finishing = True
        if self._held is not None:
            self._end(self._held)
        elif self._work is not None and self._pause is None and not self._over:
            self._finish_work()

    def cancel(self) -> None:
        """Nothing is wanted any more."""
        if self._over:
            return
        self._over = True
        self._stop_timers()
        if self._pausing is not None:
            self._pausing.let_go(self._now_ms(), waited_ms=0.0, limit_ms=self._limit_ms(), output=False)
        if self._doubted is not None:
            self._doubted[0].let_go(self._now_ms(), waited_ms=0.0, limit_ms=self._limit_ms(), output=False)
        self._drop(self._limit_ms())

    # -- engines ---------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Have the next engine begin, at once or after a pause; where none is left, that is the outcome."""
        self._stop_timers()
        if self._doubted is not None:
            self._believe(*self._doubted)
            return
        attempt = self._attempts.next(self._now_ms())
        if attempt is None:
            outcome = Outcome(self._partial, 0.0, (), "stage_down", str(self._attempts.down()))
            log.error("stage_down", message=f"no engine of asr is left: {outcome.detail}")
            if self._finishing:
                self._end(outcome)
            else:
                self._held = outcome
                self._rest()
        elif attempt.pause_ms:
            self._pausing = attempt
            self._pause = self._clock.call_later(attempt.pause_ms, lambda: self._begin(attempt))
        else:
            self._begin(attempt)

    def _begin(self, attempt: Attempt) -> None:
        """The engine gets all that was heard so far."""
        self._pause = self._pausing = None
        recognition = Recognition(
            self._engine.engines[attempt.index],
            self._listen_for,
            pool=self._engine.pools[attempt.index],
            clock=self._clock,
            deadline_ms=self._deadline_ms,
            on_partial=lambda text: self._take_partial(attempt, text),
            on_outcome=lambda outcome: self._take_outcome(attempt, outcome),
            on_idle=lambda: self._idle(attempt),
            on_failed=lambda outcome, kind: self._failed(attempt, outcome, kind),
        )
        self._work = (recognition, attempt)
        self._heard, self._catching_up = False, bool(self._pieces)
        self._rested_us = self._clock.elapsed_us()
        for piece in list(self._pieces):
            if self._at_work(attempt):
                recognition.feed(piece)
        if self._at_work(attempt):
            if self._finishing:
                self._finish_work()
            else:
                self._watch()
                if self._pieces:
                    self._idle(attempt)

    def _finish_work(self) -> None:
        assert self._work is not None
        audio_ms = sum(len(piece.pcm) for piece in self._pieces) / (TICKS_PER_MS * BYTES_PER_TICK)
        ahead_ms = audio_ms / CATCH_UP_RATIO if self._catching_up else 0.0
        self._due_us = self._clock.elapsed_us() + round(1000 * (self._engine.attempt_ms + ahead_ms))
        self._work[0].finish()
        self._watch()

    def _at_work(self, attempt: Attempt) -> bool:
        return not self._over and self._held is None and self._work is not None and self._work[1] is attempt

    def _drop(self, limit_ms: float) -> None:
        """Let go of who is at work."""
        if self._work is None:
            return
        (recognition, attempt), self._work = self._work, None
        since_us = recognition.waiting_since_us
        waited_ms = 0.0 if since_us is None else (self._clock.elapsed_us() - since_us) / 1000
        attempt.let_go(self._now_ms(), waited_ms=waited_ms, limit_ms=limit_ms, output=self._heard)
        if waited_ms >= limit_ms:
            recognition.abandon()
        else:
            recognition.cancel()

    # -- what comes of them ----------------------------------------------------------------------------------------

    def _take_partial(self, attempt: Attempt, text: str) -> None:
        if not self._at_work(attempt):
            return
        self._heard = True
        self._tell_takeovers(attempt)
        if self._catching_up:
            # What was said already is not taken back only because another one has to hear it first.
            self._unsaid = text
        else:
            self._partial = text
            self._on_partial(text)

    def _idle(self, attempt: Attempt) -> None:
        if not self._at_work(attempt) or self._work is None or self._work[0].busy:
            return
        self._catching_up = False
        self._rested_us = self._clock.elapsed_us()
        text, self._unsaid = self._unsaid, None
        if text is not None and text != self._partial:
            self._partial = text
            self._on_partial(text)
        self._rest()

    def _take_outcome(self, attempt: Attempt, outcome: Outcome) -> None:
        if not self._at_work(attempt):
            return
        audio_s = sum(len(piece.pcm) for piece in self._pieces) / (1000 * TICKS_PER_MS * BYTES_PER_TICK)
        if len(outcome.text) > RUBBISH_CHARACTERS + RUBBISH_CHARACTERS_PER_S * audio_s:
            log.error("engine_failed", message=f"engine {attempt.name} gave more text than can be said in that time")
            self._failed(attempt, outcome, "too much text")
            return
        self._work = None
        if outcome.text.strip():
            if self._doubted is not None:
                self._doubted[0].failed(self._now_ms(), EMPTY, "no words")
            self._believe(attempt, outcome)
        elif self._doubted is not None:
            attempt.succeeded(self._now_ms())
            self._believe(*self._doubted)
        elif not self._doubt(attempt, outcome):
            self._believe(attempt, outcome)

    def _believe(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.succeeded(self._now_ms())
        if self._doubted is None or self._doubted[0] is not attempt:
            self._tell_takeovers(attempt)
        self._end(outcome._replace(engine=self._engine.engines[attempt.index].name))

    def _doubt(self, attempt: Attempt, outcome: Outcome) -> bool:
        """An engine heard no words in what was taken for speech: have another one hear it as well, where there is one.
        Who listens for phrases may have heard other ones; that is no reason for doubt."""
        if self._listen_for.phrases and self._engine.engines[attempt.index].capabilities.grammars:
            return False
        second = self._attempts.next(self._now_ms(), beside=attempt.index)
        if second is None:
            return False
        self._stop_timers()
        self._tell_takeovers(attempt)
        self._doubted = attempt, outcome
        self._begin(second)
        return True

    def _failed(self, attempt: Attempt, outcome: Outcome, kind: str) -> None:
        if self._at_work(attempt):
            self._work = None
            why = TIMEOUT if outcome.error == "engine_timeout" else CUT if self._heard else FAILED
            attempt.failed(self._now_ms(), why, kind, output=self._heard)
            self._next()

    def _rest(self) -> None:
        """There is nothing to do until more audio comes. Who has not given any yet knows that."""
        if self._pieces:
            self._on_idle()

    def _tell_takeovers(self, attempt: Attempt) -> None:
        for takeover in self._attempts.takeovers(attempt):
            self._on_takeover(takeover)

    def _end(self, outcome: Outcome) -> None:
        self._over = True
        self._stop_timers()
        self._pieces.clear()
        self._on_outcome(outcome)

    # -- time ------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look again when whoever is at work should have come on."""
        due_us = self._work_due_us()
        if self._timer is None and due_us is not None and not self._over:
            wait_ms = max(1.0, (due_us - self._clock.elapsed_us()) / 1000)
            self._timer = self._clock.call_later(wait_ms, self._look)

    def _work_due_us(self) -> int | None:
        """When it must have come on; None: it is at rest."""
        if self._work is None or self._pause is not None:
            return None
        if self._finishing:
            return self._due_us
        since_us = self._work[0].waiting_since_us
        return None if since_us is None else since_us + self._engine.attempt_ms * 1000

    def _look(self) -> None:
        self._timer = None
        due_us = self._work_due_us()
        if self._over or due_us is None or self._work is None:
            return
        if due_us > self._clock.elapsed_us():
            self._watch()
        elif self._doubted is not None or self._attempts.others(self._now_ms(), self._work[1].index):
            self._give_up(f"nothing for {self._engine.attempt_ms} ms")
        # Else it has the time that the last one has: its own deadline ends it.

    def _lags(self) -> bool:
        """Whether who is at work, and others could be, hears more slowly than the caller speaks."""
        if self._work is None or self._catching_up or self._work[0].behind_ms < self._engine.attempt_ms:
            return False
        busy_ms = (self._clock.elapsed_us() - self._rested_us) / 1000
        return busy_ms >= self._engine.attempt_ms and self._attempts.others(self._now_ms(), self._work[1].index)

    def _give_up(self, kind: str) -> None:
        """Who is at work has let its time pass."""
        assert self._work is not None
        (recognition, attempt), self._work = self._work, None
        log.error("engine_timeout", message=f"engine {attempt.name}: {kind}")
        recognition.abandon()
        attempt.failed(self._now_ms(), TIMEOUT, kind)
        self._next()

    def _limit_ms(self) -> float:
        return float(self._engine.attempt_ms)

    def _now_ms(self) -> float:
        return self._clock.elapsed_us() / 1000

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        self._timer = self._pause = None


def load_engines(settings: Settings, load: Load = load_engine) -> Engine:
    """The engine of ``[asr] engine``; where ``fallbacks`` are set, all of them as one. Not yet warm.

    Raises:
        EngineChoiceError: one of them does not exist or refuses the settings, or is named twice.
        MissingPackageError: the package of one is not installed.
    """
    section = settings.asr
    engines = engines_of(
        "asr", section.engine, section.fallbacks, lambda name: load(name, section, settings), EngineChoiceError
    )
    return engines[0][1] if len(engines) == 1 else FailoverEngine(engines, settings)
