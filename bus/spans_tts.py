"""Spans of the tts stage: ``tts`` for each sentence, from its arrival to its last audio. Pure."""

from __future__ import annotations

from bus.spans import OpenSpan, Owner, Span, StageSpans, failure_moment, is_fatal, seconds
from schemas.base import Event
from schemas.call import CallEnded
from schemas.failure import Failure
from schemas.llm import LlmSentence, turn_of
from schemas.playout import PlayoutFlushed
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted

TTS = "tts"
Key = tuple[int, int]


class TtsSpans(StageSpans):
    """The sentences of a call."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._sentences: dict[Key, OpenSpan] = {}
        self._void: set[int] = set()

    def fold(self, event: Event, at_us: int) -> list[Span]:
        match event:
            case LlmSentence() if event.utterance_id not in self._void:
                span = self._open(event.utterance_id, event.index, at_us)
                span.attributes["callbus.tts.filler"] = event.filler
                if self.owner.content:
                    span.attributes["callbus.pii.text"] = event.text
            case TtsStarted() if event.utterance_id not in self._void:
                key = (event.utterance_id, event.index)
                # What a command ordered has no sentence on record.
                span = self._sentences.get(key) or self._open(*key, event.at_us - round(event.ttfb_ms * 1000))
                span.attributes |= {
                    "callbus.engine": event.engine,
                    "callbus.tts.ttfb": seconds(event.ttfb_ms),
                    "metrics.ttfb": seconds(event.ttfb_ms),
                    "callbus.tts.queue_wait": seconds(event.queue_wait_ms),
                    "callbus.tts.leading_silence": seconds(event.leading_silence_ms),
                }
            case TtsDone():
                return self._done(event)
            case Failure():
                self._fail(event)
            case TurnInterrupted() | PlayoutFlushed():
                self._void.add(event.utterance_id)
                return self._break_off([key for key in self._sentences if key[0] == event.utterance_id], event.at_us)
            case CallEnded():
                return self._break_off(list(self._sentences), event.at_us)
            case _:
                pass
        return []

    def _open(self, utterance_id: int, index: int, start_us: int) -> OpenSpan:
        span = self.open(TTS, f"tts:{utterance_id}.{index}", turn_of(utterance_id), start_us)
        span.attributes |= {"callbus.utterance_id": utterance_id, "callbus.tts.sentence": index}
        return self._sentences.setdefault((utterance_id, index), span)

    def _done(self, event: TtsDone) -> list[Span]:
        span = self._sentences.pop((event.utterance_id, event.index), None)
        if span is None:
            return []
        span.attributes |= {"callbus.tts.frames": event.frames, "callbus.tts.audio": seconds(event.duration_ms)}
        if event.text is not None:
            span.attributes["callbus.tts.replaced"] = True
        return [self.close(span, event.at_us)]

    def _fail(self, event: Failure) -> None:
        """It is of the sentence in work: the oldest of its turn that is open."""
        if event.stage != TTS:
            return
        for (utterance_id, _), span in sorted(self._sentences.items()):
            if turn_of(utterance_id) == event.turn:
                span.note(failure_moment(event))
                if is_fatal(event):
                    span.error = span.error or event.code
                return

    def _break_off(self, keys: list[Key], at_us: int) -> list[Span]:
        spans = []
        for key in keys:
            span = self._sentences.pop(key)
            span.attributes["callbus.tts.broken_off"] = True
            spans.append(self.close(span, at_us))
        return spans
