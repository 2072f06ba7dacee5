"""Spans of the llm stage: ``llm`` for each answer, ``tool`` for each use of a tool. Pure.

Attributes follow OpenTelemetry's conventions for generative AI (``gen_ai.*``, status: development).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from bus.spans import Attributes, Moment, OpenSpan, Owner, Span, StageSpans, seconds
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, ToolCalled, ToolReturned, turn_of, utterance_of
from schemas.playout import PlayoutFlushed
from schemas.turn import TurnEnded, TurnInterrupted

LLM = "llm"
TOOL = "tool"


class Model(NamedTuple):
    """What stands behind an engine's name. ``model`` empty: the engine has none that could be named."""

    provider: str
    model: str = ""


class LlmSpans(StageSpans):
    """The answers of a call. ``models``: by engine's name in the settings."""

    def __init__(self, owner: Owner, models: Mapping[str, Model] | None = None) -> None:
        super().__init__(owner)
        self._models = models or {}
        self._answers: dict[int, OpenSpan] = {}
        self._tools: dict[str, OpenSpan] = {}
        self._early: dict[int, Attributes] = {}

    def fold(self, event: Event, at_us: int) -> list[Span]:
        match event:
            case CallAnswered():
                self._open_answer(0, at_us)
            case TurnEnded():
                self._open_answer(event.turn, at_us)
                if self.owner.content:
                    self._answers[event.turn].attributes["callbus.pii.input"] = event.text or event.digits
            case LlmSentence():
                self._said(event)
            case LlmDone():
                return self._done(event)
            case ToolCalled():
                self._tool_called(event)
            case ToolReturned():
                return self._tool_returned(event)
            case Failure():
                if event.stage == LLM and event.turn in self._answers:
                    self._answers[event.turn].fail(event)
            case TurnInterrupted() | PlayoutFlushed():
                return self._void(event.utterance_id, event.at_us)
            case CallEnded():
                return self._end(event.at_us)
            case _:
                pass
        return []

    def annotate(self, turn: int, attributes: Attributes) -> None:
        """What the engine tells of an answer in the making and no event holds, such as the tokens it took. Of one that
        is made before the turn has ended, too."""
        if (span := self._answers.get(turn)) is not None:
            span.attributes |= attributes
        else:
            self._early = {turn: attributes}

    def _open_answer(self, turn: int, at_us: int) -> None:
        span = self.open(LLM, f"llm:{turn}", turn, at_us)
        span.attributes |= {"gen_ai.operation.name": "chat", "callbus.utterance_id": utterance_of(turn)}
        span.attributes |= self._early.pop(turn, {})
        self._answers.setdefault(turn, span)

    def _said(self, event: LlmSentence) -> None:
        span = self._answers.get(event.turn)
        if span is None or event.utterance_id != utterance_of(event.turn):
            return
        attributes: Attributes = {"callbus.llm.sentence": event.index}
        if self.owner.content:
            attributes["callbus.pii.text"] = event.text
        span.note(Moment("filler" if event.filler else "sentence", event.at_us, attributes))

    def _done(self, event: LlmDone) -> list[Span]:
        if event.utterance_id != utterance_of(event.turn):
            return []
        span = self._answers.pop(event.turn, None)
        if span is None:
            return []
        model = self._models.get(event.engine, Model(event.engine or "none"))
        span.attributes |= {
            "callbus.engine": event.engine,
            "gen_ai.provider.name": model.provider,
            "callbus.llm.sentences": event.sentences,
            "callbus.llm.ttft": seconds(event.ttft_ms),
            "callbus.llm.ttfs": seconds(event.ttfs_ms),
            "metrics.ttfb": seconds(event.ttft_ms),
            "callbus.llm.queue_wait": seconds(event.queue_wait_ms),
            "callbus.llm.then": event.then.value,
        }
        if model.model:
            span.attributes["gen_ai.request.model"] = model.model
        if event.preemptive:
            span.attributes["callbus.llm.preemptive"] = event.preemptive
        if not span.error:
            span.attributes.setdefault("gen_ai.response.finish_reasons", ("stop",))
        return [self.close(span, event.at_us)]

    def _void(self, utterance_id: int, at_us: int) -> list[Span]:
        turn = turn_of(utterance_id)
        if utterance_id != utterance_of(turn) or turn not in self._answers:
            return []
        return [self._break_off(turn, at_us, "interrupted")]

    def _break_off(self, turn: int, at_us: int, why: str) -> Span:
        span = self._answers.pop(turn)
        span.attributes |= {"callbus.llm.broken_off": why, "gen_ai.response.finish_reasons": ("cancelled",)}
        return self.close(span, at_us)

    def _tool_called(self, event: ToolCalled) -> None:
        span = self.open(TOOL, f"tool:{event.tool_call_id}", event.turn, event.at_us)
        span.attributes |= {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": event.name,
            "gen_ai.tool.call.id": event.tool_call_id,
        }
        if self.owner.content:
            span.attributes["callbus.pii.arguments"] = msgspec.json.encode(event.arguments).decode()
        self._tools.setdefault(event.tool_call_id, span)

    def _tool_returned(self, event: ToolReturned) -> list[Span]:
        span = self._tools.pop(event.tool_call_id, None)
        if span is None:
            return []
        span.error = event.error
        if event.error:
            span.attributes["error.type"] = event.error
        if self.owner.content:
            span.attributes["callbus.pii.result"] = msgspec.json.encode(event.result).decode()
        return [self.close(span, event.at_us)]

    def _end(self, at_us: int) -> list[Span]:
        spans = [self._break_off(turn, at_us, "call_ended") for turn in sorted(self._answers)]
        for span in self._tools.values():
            span.error = "call_ended"
            spans.append(self.close(span, at_us))
        self._tools.clear()
        return spans
