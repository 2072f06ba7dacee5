"""What the tts stage tells of one call: its events, each once, its failures, and figures of its worker."""

from __future__ import annotations

from collections.abc import Callable

from bus.clock import wall_us
from bus.logs import get_logger
from bus.metrics import EngineFigures
from bus.ownership import Claim
from schemas.base import Event
from schemas.failure import FAILURES, Failure
from schemas.llm import LlmSentence
from schemas.tts import TtsDone, TtsStarted
from services.resilience.attempts import FAILED, TAKEOVER_HEARD, TIMEOUT, StageDownError, Takeover
from services.tts.delivery import HEARS_NOTHING
from services.tts.ledger import SpeechLedger

log = get_logger(__name__)

STAGE = "tts"
ENGINES = EngineFigures(STAGE)


class SpeechTelling:
    """Events and figures of one call."""

    def __init__(
        self,
        record: Callable[[Event], None],
        claim: Claim,
        ledger: SpeechLedger,
        *,
        worker: str,
        figures: dict[str, float],
    ) -> None:
        """``figures`` go out with the worker's heartbeat and are shared by all its calls."""
        self._record = record
        self._claim = claim
        self._ledger = ledger
        self._worker = worker
        self._figures = figures
        self._log = log.bind(tenant=claim.tenant, call_id=claim.call_id)
        self.failures = 0
        self.sentences = 0
        self.slowest_ttfb_ms = 0.0

    def synthesis(self, event: TtsStarted | TtsDone) -> None:
        """A successor repeats audio, never events."""
        kind = "started" if isinstance(event, TtsStarted) else "done"
        utterance = self._ledger.utterance(event.utterance_id)
        if not utterance.has_told(kind, event.index):
            utterance.recorded.add((kind, event.index))
            utterance.sent = utterance.sent or kind == "started"
            if isinstance(event, TtsDone) and event.text is not None:
                utterance.replaced.add(event.index)
            self._record(event)

    def unsaid(self, utterance_id: int, index: int, turn: int) -> None:
        """Nothing of that sentence will be heard, so that nobody takes it for heard."""
        self.synthesis(
            TtsDone(
                call_id=self._claim.call_id,
                tenant=self._claim.tenant,
                at_us=wall_us(),
                epoch=self._claim.epoch,
                turn=turn,
                utterance_id=utterance_id,
                index=index,
                frames=0,
                duration_ms=0,
                text="",
            )
        )

    def said(self, ttfb_ms: float) -> None:
        """Count a sentence."""
        self.sentences += 1
        self.slowest_ttfb_ms = max(self.slowest_ttfb_ms, ttfb_ms)
        self._figures["sentences"] = self._figures.get("sentences", 0) + 1
        self._figures["ttfb_ms"] = round(ttfb_ms, 3)

    def engine_failed(self, error: Exception, hears: str, sentence: LlmSentence, engine: str, deadline_ms: int) -> None:
        """Record what the engine did. Its own words may hold what was to be said, so only their type is told."""
        if isinstance(error, StageDownError):
            self.fail("stage_down", sentence.turn, str(error), hears)
        elif isinstance(error, TimeoutError):
            ENGINES.error(engine, TIMEOUT)
            self.fail("engine_timeout", sentence.turn, f"no audio within {deadline_ms} ms", hears)
        else:
            ENGINES.error(engine, FAILED)
            self.fail("engine_failed", sentence.turn, f"{engine}: {type(error).__name__}", hears)

    def taken_over(self, takeover: Takeover, turn: int) -> None:
        """Record that another engine went on with a sentence."""
        self.fail(takeover.code, turn, takeover.detail, TAKEOVER_HEARD)

    def fail(self, code: str, turn: int, detail: str, hears: str = HEARS_NOTHING) -> None:
        """Record a failure; ``hears``: what the caller hears of it."""
        spec = FAILURES[code]
        name = "engine_taken_over" if hears == TAKEOVER_HEARD else "sentence_failed"
        self._log.warning(name, message=f"{spec.text} ({detail})", code=code)
        self._figures["failures"] = self._figures.get("failures", 0) + 1
        self._record(
            Failure(
                call_id=self._claim.call_id,
                tenant=self._claim.tenant,
                at_us=wall_us(),
                epoch=self._claim.epoch,
                code=code,
                stage=STAGE,
                worker=self._worker,
                number=self.failures,
                retryable=spec.retryable,
                caller_hears=hears,
                detail=detail,
                turn=turn,
            )
        )
        self.failures += 1
