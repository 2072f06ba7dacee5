"""Spans of the asr stage: ``turn`` for each turn of the caller, and ``asr`` for what was heard in it. Pure.

A turn begins with the caller's first voiced sample and ends where its answer was played out or cut off, or was empty;
one whose answer nobody heard ends with the next turn, at the latest with the call. The greeting is turn 0: it begins
with the answer to the call. Both spans of a turn go out at its end: a worker that dies before takes neither with it,
and its successor tells them.
"""

from __future__ import annotations

from bus.spans import (
    Attributes,
    Moment,
    OpenSpan,
    Owner,
    Span,
    StageSpans,
    root_id_of,
    seconds,
    span_id_of,
    turn_id_of,
)
from bus.spans_edge import ended_call, opened_call
from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import EDGE_LOST, CallAnswered, CallEnded, CallOffered, MediaCounts
from schemas.failure import Failure
from schemas.llm import APOLOGY_PART, LlmDone, turn_of, utterance_of
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutStarted
from schemas.tts import TtsStarted
from schemas.turn import LATENCIES, TurnEnded, TurnInterrupted, TurnMeasured

TURN = "turn"
ASR = "asr"
AUDIO_OUT = "rt.*.*.audio.out"
GREETING = "greeting"


class AsrSpans(StageSpans):
    """The turns of a call."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._offered: CallOffered | None = None
        self._turns: dict[int, OpenSpan] = {}
        self._heard: dict[int, Span] = {}
        self._finals: dict[int, list[AsrFinal]] = {}
        self._failures: dict[int, list[Failure]] = {}
        self._audio: dict[int, int] = {}
        self._started: set[int] = set()
        self._void: dict[int, int] = {}

    def fold(self, event: Event, at_us: int) -> list[Span]:
        match event:
            case CallOffered():
                self._offered = event
            case CallAnswered():
                self._open_turn(0, event.media_epoch_us, GREETING)
            case AsrFinal():
                self._finals.setdefault(event.turn, []).append(event)
            case TurnEnded():
                return self._end_speech(event)
            case TurnMeasured():
                self._measured(event)
            case Failure():
                self._fail(event)
            case TurnInterrupted():
                self._interrupted(event)
            case LlmDone() if not event.sentences and event.utterance_id == utterance_of(event.turn):
                return self._close_turn(event.turn, at_us) if event.turn in self._turns else []
            case TtsStarted():
                self._audio.setdefault(event.utterance_id, event.at_us)
            case PlayoutStarted():
                self._started.add(event.utterance_id)
                self._void.pop(turn_of(event.utterance_id), None)
                return self._audio_hop(event)
            case PlayoutFinished() | PlayoutFlushed():
                return self._played(event)
            case CallEnded():
                return self._end_call(event)
            case _:
                pass
        return []

    def _open_turn(self, turn: int, start_us: int, why: str) -> OpenSpan:
        span = self.open(TURN, f"turn:{turn}", turn, start_us)
        span.parent_id = root_id_of(self.owner.call_id)
        span.attributes |= {
            "callbus.tenant": self.owner.tenant,
            "turn.number": turn,
            "turn.was_interrupted": False,
            "callbus.turn.why": why,
        }
        self._turns[turn] = span
        return span

    def _end_speech(self, event: TurnEnded) -> list[Span]:
        start_us = self.media_us(event.speech_start_ms, event.at_us)
        # What is heard still, ends where it stops: the caller may have said all before the agent is cut off.
        earlier = [turn for turn in sorted(self._turns) if turn < event.turn]
        silent = [turn for turn in earlier if self._started.isdisjoint(_answers(turn))]
        over = [span for turn in silent for span in self._close_turn(turn, start_us)]
        turn = self._open_turn(event.turn, start_us, event.why)
        heard = self.open(ASR, f"asr:{event.turn}", event.turn, start_us)
        finals = self._finals.pop(event.turn, [])
        for final in finals:
            heard.note(Moment("final", final.at_us, {"callbus.asr.part": final.part}))
        heard.attributes |= {
            "callbus.asr.finals": len(finals),
            "callbus.asr.confidence": round(event.confidence, 4),
            "callbus.asr.end_of_turn_delay": seconds(event.end_of_turn_delay_ms),
            "callbus.turn.why": event.why,
        }
        if event.text:
            heard.attributes["callbus.asr.transcription_delay"] = seconds(event.transcription_delay_ms)
        if finals:
            heard.attributes["callbus.engine"] = finals[-1].engine
        if self.owner.content:
            said = {"callbus.pii.text": event.text, "callbus.pii.digits": event.digits}
            for span in (turn, heard):
                span.attributes |= {name: text for name, text in said.items() if text}
        for failure in self._failures.pop(event.turn, []):
            turn.fail(failure)
            if failure.stage == ASR:
                heard.fail(failure)
        if event.epoch != self.owner.epoch:
            heard.attributes |= {"callbus.epoch": event.epoch, "callbus.told_by_successor": True}
        self._heard[event.turn] = self.close(heard, event.at_us)
        return over

    def _measured(self, event: TurnMeasured) -> None:
        span = self._turns.get(event.turn)
        if span is None:
            return
        for name in LATENCIES:
            value_ms: float | None = getattr(event, f"{name}_ms")
            if value_ms is not None:
                span.attributes[f"callbus.turn.{name}"] = seconds(value_ms)
        if event.e2e_latency_ms is not None:
            span.attributes["turn.user_bot_latency_seconds"] = seconds(event.e2e_latency_ms)
        if event.preemptive:
            span.attributes["callbus.turn.preemptive"] = event.preemptive

    def _fail(self, event: Failure) -> None:
        span = self._turns.get(event.turn)
        if span is not None:
            span.fail(event)
        elif event.turn:
            self._failures.setdefault(event.turn, []).append(event)

    def _interrupted(self, event: TurnInterrupted) -> None:
        """An answer that was not heard yet ends here, unless its first frame is just being told: what this stage says
        because of an event comes before it."""
        turn = turn_of(event.utterance_id)
        span = self._turns.get(turn)
        if span is None:
            return
        span.attributes["turn.was_interrupted"] = True
        span.note(Moment("interrupted", event.at_us, {"callbus.why": event.why}))
        if event.utterance_id not in self._started:
            self._void[turn] = event.at_us

    def _played(self, event: PlayoutFinished | PlayoutFlushed) -> list[Span]:
        """The turn is over with its answer, or with the apology in its place; not with what was said beside."""
        turn = turn_of(event.utterance_id)
        if turn not in self._turns or event.utterance_id not in _answers(turn):
            return []
        return self._close_turn(turn, self.media_us(event.media_time_ms, event.at_us))

    def _audio_hop(self, event: PlayoutStarted) -> list[Span]:
        """The way of the first audio to the edge. It carries no headers: this stage alone hears of both ends."""
        sent_us = self._audio.pop(event.utterance_id, None)
        turn = turn_of(event.utterance_id)
        if sent_us is None or not self.owner.hops or turn not in self._turns:
            return []
        span_id = span_id_of(self.owner.call_id, f"hop:audio:{event.utterance_id}")
        attributes: Attributes = {"callbus.hop.from": "tts", "callbus.hop.to": "edge", "callbus.turn": turn}
        end_us = self.media_us(event.media_time_ms, event.at_us)
        parent_id = turn_id_of(self.owner.call_id, turn)
        return [Span(AUDIO_OUT, span_id, parent_id, sent_us, max(sent_us, end_us), attributes, consumer=True)]

    def _close_turn(self, turn: int, end_us: int) -> list[Span]:
        heard = self._heard.pop(turn, None)
        end_us = self._void.pop(turn, end_us)
        return [*([heard] if heard is not None else []), self.close(self._turns.pop(turn), end_us)]

    def _end_call(self, event: CallEnded) -> list[Span]:
        spans = [span for turn in sorted(self._turns) for span in self._close_turn(turn, event.at_us)]
        if event.reason == EDGE_LOST and self._offered is not None and event.media == MediaCounts():
            # Another edge says so: nobody else is left to tell of the call itself.
            spans.append(self.close(ended_call(opened_call(self._offered, self.owner), event), event.at_us))
        return spans


def _answers(turn: int) -> tuple[int, int]:
    """The utterances that answer a turn: the answer, or the apology in its place."""
    return utterance_of(turn), utterance_of(turn, APOLOGY_PART)
