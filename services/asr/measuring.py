"""How long each step of a turn took, folded out of the call's events. Pure.

A turn is measured once, as soon as all of this is known: its end, the first audible sample of its answer, and what the
llm stage says of it (``llm.done``, waited for no longer than the answer plays). A turn that gets no answer is measured
when the next turn ends, or the call. The answer to turn n is utterance n × 100; apologies and questions whether anybody
is there are none. ``callbus show`` computes its figures here, too, so that it never differs from ``turn.measured``.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import CallEnded
from schemas.llm import LlmDone, LlmSentence, turn_of, utterance_of
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.subjects import subject_of, template_of
from schemas.tts import TtsStarted
from schemas.turn import TurnEnded, TurnInterrupted, TurnMeasured
from services.asr.answer import Playout

NAMES = (
    "asr.final", "turn.ended", "turn.interrupted", "turn.measured", "llm.sentence", "llm.done", "tts.started",
    "playout.*", "call.ended",
)  # fmt: skip
"""Events that are needed."""

TURN_ENDED = "call.*.*.turn.ended"
LLM_SENTENCE = "call.*.*.llm.sentence"

Utterance = (
    LlmSentence | LlmDone | TtsStarted | PlayoutStarted | PlayoutMark | PlayoutPaused | PlayoutResumed
    | PlayoutFinished | PlayoutFlushed
)  # fmt: skip


class Measured(NamedTuple):
    """The fields of ``schemas.turn.TurnMeasured`` that are not common to all events; meanings are said there."""

    turn: int
    end_of_turn_delay_ms: float | None = None
    transcription_delay_ms: float | None = None
    llm_node_ttft_ms: float | None = None
    llm_node_ttfs_ms: float | None = None
    tts_node_ttfb_ms: float | None = None
    playback_latency_ms: float | None = None
    e2e_latency_ms: float | None = None
    filler_latency_ms: float | None = None
    barge_in_ms: float | None = None
    bus_hop_ms: dict[str, float] = {}
    queue_wait_ms: dict[str, float] = {}
    preemptive: str = ""


class TurnFacts(NamedTuple):
    """What else is known of a turn. ``why`` it ended; did it stop the agent; ``engines`` by stage, where told."""

    why: str = ""
    interrupted_agent: bool = False
    engines: dict[str, str] = {}


class TurnMeasures:
    """The turns of one call. ``apply`` for what comes live; ``fold`` for what a successor reads of the past, then
    ``due`` once."""

    def __init__(self) -> None:
        self._ended: dict[int, TurnEnded] = {}
        self._finals: dict[int, AsrFinal] = {}
        self._playouts: dict[int, Playout] = {}
        self._interrupted: dict[int, list[TurnInterrupted]] = {}
        self._hops: dict[int, dict[str, float]] = {}
        self._said: set[int] = set()
        self._call_over = False

    def apply(self, event: Event, received_us: int) -> list[Measured]:
        """Take a live event, received at that wall clock (microseconds); the turns that are measured by it."""
        if isinstance(event, Utterance):
            hop_ms = max(0.0, round((received_us - event.at_us) / 1000, 3))
            hops = self._hops.setdefault(turn_of(event.utterance_id), {})
            template = template_of(subject_of(event))
            # Of several messages of a kind the slowest: a turn is as late as its latest step.
            hops[template] = max(hop_ms, hops.get(template, 0.0))
        self.fold(event)
        return self.due()

    def fold(self, event: Event) -> None:
        """Take an event without measuring anything by it. Events of other kinds change nothing."""
        match event:
            case AsrFinal():
                self._finals[event.turn] = event
            case TurnEnded():
                self._ended.setdefault(event.turn, event)
            case TurnInterrupted():
                known = self._interrupted.setdefault(event.turn, [])
                if all(each.utterance_id != event.utterance_id for each in known):
                    known.append(event)
            case TurnMeasured():
                self._said.add(event.turn)
            case CallEnded():
                self._call_over = True
            case _ if isinstance(event, Utterance):
                self._playouts.setdefault(event.utterance_id, Playout()).apply(event)
            case _:
                pass

    def due(self) -> list[Measured]:
        """The turns that can be measured now and have not been; each is told once."""
        ready = [turn for turn in sorted(self._ended) if turn not in self._said and self._is_ready(turn)]
        found = [self.measure(turn) for turn in ready]
        self._said.update(ready)
        if ready:
            self._forget(ready[-1])
        return found

    def open_turns(self) -> list[Measured]:
        """What is known of turns that ended and are not measured yet."""
        return [self.measure(turn) for turn in sorted(self._ended) if turn not in self._said]

    def measure(self, turn: int) -> Measured:
        """What is known of an ended turn by now. Raises ``KeyError`` for a turn that has not ended."""
        ended = self._ended[turn]
        final = self._finals.get(turn)
        answer = self._playouts.get(utterance_of(turn), Playout())
        done = answer.done
        index = answer.first(filler=False)
        audio = None if index is None else answer.audio.get(index)
        heard = None if index is None else answer.audible(index)
        playback_ms = None
        if heard is not None and audio is not None:
            playback_ms = max(0.0, (heard.began.at_us - audio.at_us) / 1000)
        return Measured(
            turn=turn,
            end_of_turn_delay_ms=ended.end_of_turn_delay_ms,
            transcription_delay_ms=final.transcription_delay_ms if final is not None and ended.text else None,
            llm_node_ttft_ms=done.ttft_ms if done is not None else None,
            llm_node_ttfs_ms=done.ttfs_ms if done is not None else None,
            tts_node_ttfb_ms=audio.ttfb_ms if audio is not None else None,
            playback_latency_ms=playback_ms,
            e2e_latency_ms=None if heard is None else max(0.0, float(heard.media_ms - ended.speech_end_ms)),
            filler_latency_ms=self._filler_ms(answer, index, ended.speech_end_ms),
            barge_in_ms=self._barge_in_ms(turn),
            bus_hop_ms=self._bus_hops(turn, done, audio),
            queue_wait_ms=_queue_waits(done, audio),
            preemptive=done.preemptive if done is not None else "",
        )

    def facts(self, turn: int) -> TurnFacts:
        """Of a turn that is measured now; nothing of one that is long past."""
        ended, final = self._ended.get(turn), self._finals.get(turn)
        answer = self._playouts.get(utterance_of(turn), Playout())
        index = answer.first(filler=False)
        audio = None if index is None else answer.audio.get(index)
        engines = {
            "asr": final.engine if final is not None else "",
            "llm": answer.done.engine if answer.done is not None else "",
            "tts": audio.engine if audio is not None else "",
        }
        return TurnFacts(ended.why if ended is not None else "", turn in self._interrupted, engines)

    def _is_ready(self, turn: int) -> bool:
        if self._call_over or any(later > turn for later in self._ended):
            return True
        answer = self._playouts.get(utterance_of(turn))
        if answer is None:
            return False
        if answer.over:
            return True
        index = answer.first(filler=False)
        return answer.done is not None and index is not None and answer.audible(index) is not None

    @staticmethod
    def _filler_ms(answer: Playout, index: int | None, speech_end_ms: int) -> float | None:
        """Of a filler that came before the answer; one in the middle of it bridges no wait for its begin."""
        filler = answer.first(filler=True)
        if filler is None or (index is not None and filler > index):
            return None
        heard = answer.audible(filler)
        return None if heard is None else max(0.0, float(heard.media_ms - speech_end_ms))

    def _barge_in_ms(self, turn: int) -> float | None:
        """Of all utterances that the turn stopped while they played, the slowest to stop. One that was held already
        when the caller spoke has stopped in no time."""
        found = []
        for interrupted in self._interrupted.get(turn, []):
            playout = self._playouts.get(interrupted.utterance_id)
            if playout is None or not playout.started or (stopped_ms := playout.stopped_ms) is None:
                continue
            found.append(max(0.0, float(stopped_ms - interrupted.speech_start_ms)))
        return max(found, default=None)

    def _bus_hops(self, turn: int, done: LlmDone | None, audio: TtsStarted | None) -> dict[str, float]:
        """What the stages on the way to the answer say, over what was seen from here. 0 means that nobody measured."""
        said = {
            TURN_ENDED: done.bus_hop_ms if done is not None else 0.0,
            LLM_SENTENCE: audio.bus_hop_ms if audio is not None else 0.0,
        }
        return self._hops.get(turn, {}) | {template: value for template, value in said.items() if value}

    def _forget(self, turn: int) -> None:
        """Drop what lies before the turn before ``turn``: nothing that comes can concern it any more."""
        for number in [each for each in self._ended if each < turn - 1]:
            for kept in (self._ended, self._finals, self._interrupted, self._hops):
                kept.pop(number, None)
        for utterance_id in [each for each in self._playouts if turn_of(each) < turn - 1]:
            del self._playouts[utterance_id]


def _queue_waits(done: LlmDone | None, audio: TtsStarted | None) -> dict[str, float]:
    """0 is a wait too: shorter than the clock can tell."""
    said = {"llm": done, "tts": audio}
    return {stage: event.queue_wait_ms for stage, event in said.items() if event is not None}
