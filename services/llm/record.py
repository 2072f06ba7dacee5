"""What the agent says and does in one call, on the record: each event sent, stored, and taken into the conversation.

Ids are the same whoever says it: a successor that repeats an answer repeats its ids, and what is on record already is
not said again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bus.clock import Clock
from bus.publish import Recorder
from schemas.base import Event
from schemas.failure import FAILURES, Failure
from schemas.llm import ListenFor, LlmDone, LlmSentence, NextStep, ToolCalled, ToolReturned, turn_of
from schemas.subjects import event_subject
from services.llm.conversation import Conversation
from services.llm.tools import ToolOutcome


class Timing(NamedTuple):
    """How an answer came about; the fields are those of ``schemas.llm.LlmDone``."""

    ttft_ms: float = 0.0
    ttfs_ms: float = 0.0
    preemptive: str = ""
    bus_hop_ms: float = 0.0
    queue_wait_ms: float = 0.0


UNTIMED = Timing()


class AgentRecord:
    """Says what the agent says.

    Args:
        epoch: of this worker's ownership of the call.
        engine: name of the engine, for the record.
    """

    def __init__(
        self, recorder: Recorder, conversation: Conversation, clock: Clock, *, epoch: int, worker: str, engine: str
    ) -> None:
        self.recorder = recorder
        self._conversation = conversation
        self._clock = clock
        self._epoch = epoch
        self._worker = worker
        self._engine = engine
        self._failures = 0

    async def prepare(self) -> None:
        """At a takeover: learn what the predecessor wrote last, so that the first answer is stored at once."""
        base = self._base()
        await self.recorder.prepare(event_subject(LlmDone, base["call_id"], base["tenant"]))

    def sentence(
        self,
        utterance_id: int,
        index: int,
        text: str,
        language: str = "en",
        *,
        filler: bool = False,
        away: int | None = None,
    ) -> None:
        """Say a sentence; one that is on record already is not said again. Fenced, in one with :meth:`done`: refused
        where a successor has said something since."""
        if index not in self._conversation.utterance(utterance_id).sentences:
            self._record(
                LlmSentence(
                    **self._base(),
                    turn=turn_of(utterance_id),
                    utterance_id=utterance_id,
                    index=index,
                    text=text,
                    language=language,
                    filler=filler,
                    away=away,
                ),
                fenced=True,
            )

    def done(
        self,
        utterance_id: int,
        *,
        intent: str,
        then: NextStep,
        listen_for: ListenFor,
        slots: dict[str, str],
        timing: Timing = UNTIMED,
        engine: str = "",
    ) -> None:
        """End an utterance. Fenced: refused where a successor has said something since. ``engine``: who answered, of
        several; empty: the only one."""
        self._record(
            LlmDone(
                **self._base(),
                turn=turn_of(utterance_id),
                utterance_id=utterance_id,
                sentences=len(self._conversation.utterance(utterance_id).sentences),
                intent=intent,
                then=then,
                listen_for=listen_for,
                slots=slots,
                engine=engine or self._engine,
                **timing._asdict(),
            ),
            fenced=True,
        )

    def beside(self, utterance_id: int, then: NextStep = NextStep.LISTEN, timing: Timing = UNTIMED) -> None:
        """End an utterance that changes nothing: the agent listens for what it listened for before, if it listens."""
        said = self._conversation
        self.done(
            utterance_id,
            intent=said.intent,
            then=then,
            listen_for=said.listen_for,
            slots=dict(said.slots),
            timing=timing,
        )

    def tool_called(self, turn: int, tool_call_id: str, name: str, arguments: dict[str, Any]) -> None:
        """Before a tool runs."""
        self._record(ToolCalled(**self._base(), turn=turn, tool_call_id=tool_call_id, name=name, arguments=arguments))

    def tool_returned(self, turn: int, tool_call_id: str, name: str, outcome: ToolOutcome) -> None:
        """After a tool ran, and whatever became of it."""
        self._record(
            ToolReturned(
                **self._base(),
                turn=turn,
                tool_call_id=tool_call_id,
                name=name,
                result=outcome.result,
                error=outcome.error,
                duration_ms=outcome.duration_ms,
            )
        )

    def failure(self, code: str, turn: int, detail: str, *, hears: str = "") -> None:
        """Something went wrong; ``detail`` holds no caller content. ``hears``: what the caller hears of it; empty: as
        in the table."""
        spec = FAILURES[code]
        self._record(
            Failure(
                **self._base(),
                code=code,
                stage="llm",
                worker=self._worker,
                number=self._failures,
                retryable=spec.retryable,
                caller_hears=hears or spec.caller_hears,
                detail=detail,
                turn=turn,
            )
        )
        self._failures += 1

    def _base(self) -> dict[str, Any]:
        return {
            "call_id": self._conversation.call_id,
            "tenant": self._conversation.tenant,
            "at_us": self._clock.now_us(),
            "epoch": self._epoch,
        }

    def _record(self, event: Event, *, fenced: bool = False) -> None:
        self._conversation.apply(event)
        self.recorder.record(event, fenced=fenced)
