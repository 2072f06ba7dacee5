"""What the call's events mean to the turn machine. Pure."""

from __future__ import annotations

from schemas.base import Event
from schemas.call import CallAnswered, CallHeld
from schemas.llm import LlmDone, LlmSentence, ToolCalled, ToolReturned
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.tts import TtsStarted
from services.asr.turn import values as v

LIMIT = "limit"
"""Why the edge goes on where nobody told it to."""


def inputs_of(event: Event) -> list[v.Input]:
    """The machine's inputs of an event of another stage; none where it means nothing to it."""
    match event:
        case CallAnswered():
            return [v.Tick()]
        case CallHeld():
            return [v.Held(event.held)]
        case LlmSentence():
            return [v.Sentence(event.utterance_id, event.index)]
        case LlmDone():
            return [v.Answered(event.utterance_id, event.sentences), v.Expect(event.listen_for.digits)]
        case ToolCalled() | ToolReturned():
            return [v.Working(event.turn)]
        case TtsStarted():
            return [v.Speech(event.utterance_id)]
        case PlayoutStarted():
            return [v.PlayoutBegan(event.utterance_id)]
        case PlayoutMark():
            return [v.Marked(event.utterance_id, event.index)]
        case PlayoutPaused():
            return [v.PlayoutPaused(event.utterance_id, event.remaining_ms if event.complete else None)]
        case PlayoutResumed() if event.why == LIMIT:
            return [v.PlayoutResumed(event.utterance_id)]
        case PlayoutFinished() | PlayoutFlushed():
            return [v.PlayoutEnded(event.utterance_id)]
        case _:
            return []
