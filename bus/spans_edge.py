"""Spans of the edge: ``call``, and ``playout`` for each utterance of the agent. Pure."""

from __future__ import annotations

from bus.spans import Attributes, Moment, OpenSpan, Owner, Span, StageSpans, root_id_of, seconds
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallHeld, CallOffered, CallResult, CallTransferred, DtmfIn
from schemas.failure import Failure
from schemas.llm import turn_of
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)

CALL = "call"
PLAYOUT = "playout"


class EdgeSpans(StageSpans):
    """The call from its offer to its end, and what of the agent's speech left as RTP."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._call: OpenSpan | None = None
        self._playouts: dict[int, OpenSpan] = {}

    def fold(self, event: Event, at_us: int) -> list[Span]:
        match event:
            case CallOffered():
                self._call = opened_call(event, self.owner)
            case CallAnswered():
                self._note("answered", event.at_us, {"callbus.codec": event.codec})
            case CallHeld():
                self._note("held" if event.held else "taken back", event.at_us)
            case CallTransferred():
                self._note("transferred", event.at_us, {"callbus.transfer.result": event.result.value})
            case DtmfIn():
                pressed: Attributes = {"callbus.dtmf.source": event.source}
                if self.owner.content:
                    pressed["callbus.pii.digit"] = event.digit
                self._note("dtmf", event.at_us, pressed)
            case Failure():
                if self._call is not None:
                    self._call.fail(event)
            case CallEnded():
                return self._end(event)
            case _:
                return self._fold_playout(event)
        return []

    def _note(self, name: str, at_us: int, attributes: Attributes | None = None) -> None:
        if self._call is not None:
            self._call.note(Moment(name, at_us, attributes or {}))

    def _end(self, event: CallEnded) -> list[Span]:
        spans = [self._close_playout(utterance_id, event.at_us, "call_ended") for utterance_id in list(self._playouts)]
        call, self._call = self._call, None
        if call is not None:
            spans.append(self.close(ended_call(call, event), event.at_us))
        return spans

    def _fold_playout(self, event: Event) -> list[Span]:
        match event:
            case PlayoutStarted():
                start_us = self.media_us(event.media_time_ms, event.at_us)
                turn = turn_of(event.utterance_id)
                span = self.open(PLAYOUT, f"playout:{event.utterance_id}", turn, start_us)
                span.attributes |= {"callbus.utterance_id": event.utterance_id, "callbus.playout.sentences": 0}
                self._playouts[event.utterance_id] = span
            case PlayoutMark():
                if (playing := self._playouts.get(event.utterance_id)) is not None:
                    playing.attributes["callbus.playout.sentences"] = event.index + 1
            case PlayoutPaused() | PlayoutResumed():
                if (playing := self._playouts.get(event.utterance_id)) is not None:
                    name = "paused" if isinstance(event, PlayoutPaused) else "resumed"
                    moment_us = self.media_us(event.media_time_ms, event.at_us)
                    playing.note(Moment(name, moment_us, {"callbus.why": event.why}))
            case PlayoutFinished() | PlayoutFlushed():
                if event.utterance_id in self._playouts:
                    end_us = self.media_us(event.media_time_ms, event.at_us)
                    result = "finished" if isinstance(event, PlayoutFinished) else "flushed"
                    return [self._close_playout(event.utterance_id, end_us, result)]
            case _:
                pass
        return []

    def _close_playout(self, utterance_id: int, end_us: int, result: str) -> Span:
        span = self._playouts.pop(utterance_id)
        span.attributes["callbus.playout.result"] = result
        return self.close(span, end_us)


def opened_call(event: CallOffered, owner: Owner) -> OpenSpan:
    """The span ``call``, which nothing is above."""
    span = OpenSpan(CALL, root_id_of(event.call_id), 0, event.at_us)
    span.attributes |= {
        "callbus.tenant": owner.tenant,
        "callbus.edge": event.edge,
        "network.transport": event.transport,
    }
    if owner.content:
        span.attributes |= {"callbus.pii.caller": event.caller, "callbus.pii.called": event.called}
    return span


def ended_call(span: OpenSpan, event: CallEnded) -> OpenSpan:
    """The same with what is known at its end."""
    media = event.media
    span.attributes |= {
        "callbus.call.result": event.result.value,
        "callbus.call.reason": event.reason,
        "callbus.call.ended_by": event.ended_by.value,
        "callbus.call.duration": seconds(event.duration_ms),
        "callbus.rtp.packets_received": media.packets_received,
        "callbus.rtp.packets_sent": media.packets_sent,
        "callbus.rtp.lost": media.lost,
        "callbus.rtp.late": media.late,
        "callbus.rtp.jitter": seconds(media.jitter_ms),
    }
    if event.result is CallResult.FAILED:
        span.error = event.reason
    return span
