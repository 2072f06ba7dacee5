"""The events of one call's asr stage: the machine's commands and the engine's outcomes in the words of the bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bus.metrics.engines import ASR_SECONDS
from bus.publish import Recorder
from schemas.asr import AsrFinal, AsrPartial, AsrPreflight
from schemas.failure import FAILURES, Failure
from schemas.subjects import event_subject
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnMeasured, TurnResumed, TurnStarted
from schemas.vad import VadStarted, VadStopped
from services.asr.measuring import Measured
from services.asr.recognition import Outcome
from services.asr.turn import values as v

PARTIALS_PER_EPOCH = 10_000
"""A successor numbers its partials from here times its epoch, so that none repeats a predecessor's number."""


class OpenedRun(NamedTuple):
    """Where a run belongs."""

    turn: int
    part: int


class CallEvents:
    """Records the events of one owner of one call.

    Args:
        now_us: wall clock.
        media_now_ms: the caller's media time at this moment, by the wall clock.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        call_id: str,
        tenant: str,
        epoch: int,
        worker: str,
        engine: str,
        now_us: Callable[[], int],
        media_now_ms: Callable[[], float],
    ) -> None:
        self._recorder = recorder
        self._call_id = call_id
        self._tenant = tenant
        self._epoch = epoch
        self._worker = worker
        self._engine = engine
        self._now_us = now_us
        self._media_now_ms = media_now_ms
        self._partials = PARTIALS_PER_EPOCH * max(0, epoch - 1)
        self._failures = 0
        self._transcription_delay_ms = 0.0

    def vad_started(self, command: v.VadStarted) -> None:
        self._recorder.record(VadStarted(media_time_ms=command.at_ms, turn=command.turn, **self._base()))

    def vad_stopped(self, command: v.VadStopped) -> None:
        self._recorder.record(VadStopped(media_time_ms=command.at_ms, turn=command.turn, **self._base()))

    def turn_started(self, command: v.TurnStarted) -> None:
        event = TurnStarted(turn=command.turn, media_time_ms=command.at_ms, why=command.why, **self._base())
        self._recorder.record(event)

    def turn_ended(self, command: v.EndTurn) -> None:
        event = TurnEnded(
            turn=command.turn,
            why=command.why,
            text=command.text,
            digits=command.digits,
            confidence=command.confidence,
            speech_start_ms=command.speech_start_ms,
            speech_end_ms=command.speech_end_ms,
            transcription_delay_ms=self._transcription_delay_ms if command.text else 0.0,
            end_of_turn_delay_ms=self._delay_since(command.speech_end_ms),
            **self._base(),
        )
        self._recorder.record(event, fenced=True)

    def turn_interrupted(self, command: v.Interrupt) -> None:
        self._floor_decided(TurnInterrupted, command)

    def turn_resumed(self, command: v.Resume) -> None:
        self._floor_decided(TurnResumed, command)

    def _floor_decided(self, event_type: type[TurnInterrupted | TurnResumed], command: v.Interrupt | v.Resume) -> None:
        event = event_type(
            turn=command.turn,
            utterance_id=command.utterance_id,
            why=command.why,
            media_time_ms=command.at_ms,
            speech_start_ms=command.speech_start_ms,
            **self._base(),
        )
        self._recorder.record(event)

    def turn_away(self, command: v.Away) -> None:
        event = TurnAway(
            turn=command.turn,
            number=command.number,
            last=command.last,
            media_time_ms=command.at_ms,
            silent_ms=command.silent_ms,
            **self._base(),
        )
        self._recorder.record(event)

    def turn_stuck(self, command: v.Stuck) -> None:
        """No stage can say it itself: it is the one that gives no sign."""
        detail = f"stage {command.stage} gave no sign for {command.waited_ms} ms"
        self.failure("turn_stuck", detail, turn=command.turn, gap_ms=command.waited_ms)

    def turn_measured(self, measured: Measured) -> TurnMeasured:
        event = TurnMeasured(**measured._asdict(), **self._base())
        self._recorder.record(event)
        return event

    async def prepare(self) -> None:
        """At a takeover: learn what the predecessor wrote last, so that the first final goes straight to the record."""
        base = self._base()
        await self._recorder.prepare(
            *(event_subject(event_type, base["call_id"], base["tenant"]) for event_type in (AsrFinal, TurnEnded))
        )

    def partial(self, run: OpenedRun, text: str) -> None:
        self._recorder.record(AsrPartial(turn=run.turn, revision=self._partials, text=text, **self._base()))
        self._partials += 1

    def preflight(self, command: v.Preflight) -> None:
        event = AsrPreflight(turn=command.turn, number=command.number, text=command.text, **self._base())
        self._recorder.record(event)

    def final(self, run: OpenedRun, outcome: Outcome, speech: v.FinishRun, through_sequence: int) -> None:
        self._transcription_delay_ms = self._delay_since(speech.speech_end_ms)
        if not outcome.error:
            ASR_SECONDS.observe(self._transcription_delay_ms / 1000, engine=outcome.engine or self._engine)
        event = AsrFinal(
            turn=run.turn,
            part=run.part,
            text=outcome.text,
            through_sequence=through_sequence,
            confidence=min(1.0, max(0.0, outcome.confidence)),
            words=outcome.words,
            speech_start_ms=speech.speech_start_ms,
            speech_end_ms=speech.speech_end_ms,
            transcription_delay_ms=self._transcription_delay_ms,
            engine=outcome.engine or self._engine,
            **self._base(),
        )
        self._recorder.record(event, fenced=True)

    def failure(self, code: str, detail: str, *, turn: int = 0, gap_ms: int = 0, hears: str = "") -> None:
        """``hears``: what the caller hears of it; empty: as in the table."""
        row = FAILURES[code]
        event = Failure(
            code=code,
            stage="asr",
            worker=self._worker,
            number=self._failures,
            retryable=row.retryable,
            caller_hears=hears or row.caller_hears,
            detail=detail,
            turn=turn,
            gap_ms=gap_ms,
            **self._base(),
        )
        self._recorder.record(event)
        self._failures += 1

    def _delay_since(self, media_ms: int) -> float:
        return max(0.0, round(self._media_now_ms() - media_ms, 3))

    def _base(self) -> dict[str, Any]:
        return {"call_id": self._call_id, "tenant": self._tenant, "epoch": self._epoch, "at_us": self._now_us()}
