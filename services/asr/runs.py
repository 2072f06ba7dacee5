"""The engine's runs of one call: opened and finished as the turn machine says, fed with what is heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from bus.clock import Clock
from bus.metrics import EngineFigures
from schemas.llm import ListenFor
from services.asr.engine import Engine
from services.asr.events import CallEvents, OpenedRun
from services.asr.expected import ExpectedPhrases, expected_phrases
from services.asr.failover import STAGE, FailoverEngine, FailoverRecognition
from services.asr.hearing import Piece
from services.asr.pool import EnginePool
from services.asr.recognition import Outcome, Recognition
from services.asr.turn import values as v
from services.resilience.attempts import FAILED, TAKEOVER_HEARD, TIMEOUT, Takeover

ENGINES = EngineFigures(STAGE)
WHY = {"engine_failed": FAILED, "engine_timeout": TIMEOUT}
"""What an engine that is alone is counted under; several count their own tries."""

DEAF_AFTER = 2
"""An engine that is alone and fails so often in a row hears nothing any more, as far as a caller is concerned."""

HEARS_MENU = "what the keys of the telephone stand for, where it was a turn"
"""What the caller hears where no engine is left."""

PARTIAL_INTERVAL_US = 100_000
"""No more than ten partials a second go out."""


class _Active(NamedTuple):
    opened: OpenedRun
    expected: ExpectedPhrases
    recognition: Recognition | FailoverRecognition


class CallRuns:
    """Recognition of one call.

    Args:
        give: takes what the machine must know: partials and finals.
        on_idle: the engine has nothing to do until more audio comes.
        count: counts an event of this name among the worker's figures.
    """

    def __init__(
        self,
        engine: Engine,
        pool: EnginePool,
        clock: Clock,
        *,
        deadline_ms: int,
        events: CallEvents,
        give: Callable[[v.Input], None],
        on_idle: Callable[[], None],
        count: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._pool = pool
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._events = events
        self._give = give
        self._on_idle = on_idle
        self._count = count
        self._open: int | None = None
        self._runs: dict[int, _Active] = {}
        self._finishing: dict[int, v.FinishRun] = {}
        self._partial_us = 0
        self._partial_waiting: tuple[OpenedRun, str] | None = None
        self._failed_in_a_row = 0

    @property
    def listening(self) -> bool:
        """A run is open: audio belongs to it."""
        return self._open is not None

    @property
    def busy(self) -> bool:
        """The engine has work to do."""
        return any(active.recognition.busy for active in self._runs.values())

    def open(self, command: v.OpenRun, listen_for: ListenFor, audio: Iterable[Piece]) -> None:
        """Begin to recognise; ``audio``: what was heard before."""
        recognition = self._recognition(command, listen_for)
        opened = OpenedRun(command.turn, command.part)
        self._runs[command.run] = _Active(opened, expected_phrases(listen_for), recognition)
        self._open = command.run
        self.feed(audio)

    def _recognition(self, command: v.OpenRun, listen_for: ListenFor) -> Recognition | FailoverRecognition:
        run, engine = command.run, self._engine
        if isinstance(engine, FailoverEngine):
            return FailoverRecognition(
                engine,
                listen_for,
                clock=self._clock,
                deadline_ms=self._deadline_ms,
                on_partial=lambda text: self._on_partial(run, text),
                on_outcome=lambda outcome: self._on_outcome(run, outcome),
                on_idle=self._on_idle,
                on_takeover=lambda takeover: self._on_takeover(command.turn, takeover),
            )
        return Recognition(
            engine,
            listen_for,
            pool=self._pool,
            clock=self._clock,
            deadline_ms=self._deadline_ms,
            on_partial=lambda text: self._on_partial(run, text),
            on_outcome=lambda outcome: self._on_outcome(run, outcome),
            on_idle=self._on_idle,
        )

    def feed(self, audio: Iterable[Piece]) -> None:
        """Give audio to the open run."""
        if self._open is not None:
            recognition = self._runs[self._open].recognition
            for piece in audio:
                recognition.feed(piece)

    def finish(self, command: v.FinishRun) -> None:
        """No more audio: its final is wanted."""
        self._open = None
        self._finishing[command.run] = command
        self._runs[command.run].recognition.finish()

    def say_partial(self) -> None:
        """Say the newest partial, if the last one is long enough ago."""
        if self._partial_waiting is None:
            return
        now_us = self._clock.now_us()
        if now_us - self._partial_us >= PARTIAL_INTERVAL_US:
            self._events.partial(*self._partial_waiting)
            self._partial_waiting = None
            self._partial_us = now_us

    def cancel(self) -> None:
        """Nothing is wanted any more."""
        for active in self._runs.values():
            active.recognition.cancel()

    def _on_partial(self, run: int, text: str) -> None:
        active = self._runs[run]
        self._partial_waiting = (active.opened, text)
        self.say_partial()
        self._give(v.Partial(run, text, active.expected.is_whole(text)))

    def _on_takeover(self, turn: int, takeover: Takeover) -> None:
        self._count("engine_takeovers")
        self._events.failure(takeover.code, takeover.detail, turn=turn, hears=TAKEOVER_HEARD)

    def _on_outcome(self, run: int, outcome: Outcome) -> None:
        """A run is over. What a caller hears of a stage that is down begins with the final that is given here: a
        turn without words that is ``unheard``, to which llm has an answer of its own."""
        active, speech = self._runs.pop(run), self._finishing.pop(run)
        self._partial_waiting = None
        self._failed_in_a_row = self._failed_in_a_row + 1 if outcome.error else 0
        down = outcome.error == "stage_down" or self._failed_in_a_row >= DEAF_AFTER
        if outcome.error:
            self._count("engine_failures")
            if outcome.error in WHY:
                ENGINES.error(self._engine.name, WHY[outcome.error])
            hears = HEARS_MENU if down and not outcome.text else ""
            self._events.failure(outcome.error, outcome.detail, turn=active.opened.turn, hears=hears)
        # Also where nothing was understood: a final is the checkpoint of a successor.
        self._events.final(active.opened, outcome, speech, max(0, active.recognition.through_sequence))
        self._give(v.Final(run, outcome.text, outcome.confidence, bool(outcome.error), down))
        self._on_idle()
