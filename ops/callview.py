"""A call as a person wants to see it, folded out of its events: who said what when, and how long each turn took.

Pure: events in, a view out. Latency names and definitions are the field's (LiveKit's seven, in seconds there, in
milliseconds here): the clock starts at the caller's last voiced sample and ends at the first audible sample sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallHeld, CallOffered, DtmfIn
from schemas.failure import FAILURES, Failure
from schemas.llm import LlmDone, LlmSentence, ToolReturned, turn_of
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutStarted
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnEnded, TurnInterrupted
from services.llm.heard import heard_text

LATENCY_NAMES = (
    "transcription_delay",
    "end_of_turn_delay",
    "llm_node_ttft",
    "llm_node_ttfs",
    "tts_node_ttfb",
    "playback_latency",
    "e2e_latency",
)


@dataclass(slots=True)
class Line:
    """One line of the transcript. ``at_ms``: media time; ``cut``: the caller spoke over it and heard only this much."""

    at_ms: int
    speaker: str
    text: str
    turn: int
    cut: bool = False


@dataclass(slots=True)
class TurnView:
    """One turn: the caller's words and the way to the answer. Latencies in ms; a name not reached is missing."""

    turn: int
    why: str = ""
    text: str = ""
    digits: str = ""
    speech_start_ms: int = 0
    speech_end_ms: int = 0
    intent: str = ""
    tools: list[str] = field(default_factory=list)
    interrupted: bool = False
    answer_started_ms: int | None = None
    answer_ended_ms: int | None = None
    latencies_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Utterance:
    """What is known of one agent utterance while folding."""

    sentences: dict[int, str] = field(default_factory=dict)
    spoken: dict[int, TtsDone] = field(default_factory=dict)
    heard: set[int] = field(default_factory=set)
    started: PlayoutStarted | None = None
    finished: PlayoutFinished | None = None
    flushed: PlayoutFlushed | None = None
    first_audio: TtsStarted | None = None


@dataclass(slots=True)
class CallView:
    """Everything ``callbus show`` prints."""

    call_id: str = ""
    tenant: str = ""
    offered: CallOffered | None = None
    answered: CallAnswered | None = None
    ended: CallEnded | None = None
    holds: list[CallHeld] = field(default_factory=list)
    keys: list[DtmfIn] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    turns: dict[int, TurnView] = field(default_factory=dict)
    utterances: dict[int, Utterance] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    events: int = 0

    @property
    def state(self) -> str:
        """``ringing``, ``active``, or the result class."""
        if self.ended is not None:
            return self.ended.result.value
        return "active" if self.answered is not None else "ringing"

    def latencies(self, name: str) -> list[float]:
        """All values of one latency name, in turn order."""
        return [turn.latencies_ms[name] for turn in self.turns.values() if name in turn.latencies_ms]


def view_of(events: Iterable[Event]) -> CallView:
    """Fold a call's events, in their order, into a view."""
    view = CallView()
    for event in events:
        view.events += 1
        view.call_id = view.call_id or event.call_id
        view.tenant = view.tenant or event.tenant
        _fold(view, event)
    _finish(view)
    return view


def _fold(view: CallView, event: Event) -> None:
    match event:
        case CallOffered():
            view.offered = event
        case CallAnswered():
            view.answered = event
        case CallEnded():
            view.ended = event
        case CallHeld():
            view.holds.append(event)
        case DtmfIn():
            view.keys.append(event)
        case Failure():
            view.failures.append(event)
        case AsrFinal() | TurnEnded() | TurnInterrupted() | LlmDone() | ToolReturned():
            _fold_turn(view, event)
        case _:
            _fold_utterance(view, event)


def _fold_turn(view: CallView, event: Event) -> None:
    match event:
        case AsrFinal():
            turn = _turn(view, event.turn)
            turn.latencies_ms["transcription_delay"] = event.transcription_delay_ms
        case TurnEnded():
            turn = _turn(view, event.turn)
            turn.why, turn.text, turn.digits = event.why, event.text, event.digits
            turn.speech_start_ms, turn.speech_end_ms = event.speech_start_ms, event.speech_end_ms
            turn.latencies_ms["end_of_turn_delay"] = event.end_of_turn_delay_ms
        case TurnInterrupted():
            _turn(view, turn_of(event.utterance_id)).interrupted = True
        case LlmDone():
            turn = _turn(view, event.turn)
            turn.intent = event.intent
            turn.latencies_ms["llm_node_ttft"] = event.ttft_ms
            turn.latencies_ms["llm_node_ttfs"] = event.ttfs_ms
        case ToolReturned():
            _turn(view, event.turn).tools.append(event.name + (f" ({event.error})" if event.error else ""))


def _fold_utterance(view: CallView, event: Event) -> None:
    match event:
        case LlmSentence():
            _utterance(view, event.utterance_id).sentences[event.index] = event.text
        case TtsStarted():
            utterance = _utterance(view, event.utterance_id)
            if utterance.first_audio is None or event.index < utterance.first_audio.index:
                utterance.first_audio = event
        case TtsDone():
            _utterance(view, event.utterance_id).spoken[event.index] = event
        case PlayoutStarted():
            _utterance(view, event.utterance_id).started = event
        case PlayoutMark():
            _utterance(view, event.utterance_id).heard.add(event.index)
        case PlayoutFinished():
            _utterance(view, event.utterance_id).finished = event
        case PlayoutFlushed():
            _utterance(view, event.utterance_id).flushed = event


def _turn(view: CallView, number: int) -> TurnView:
    return view.turns.setdefault(number, TurnView(turn=number))


def _utterance(view: CallView, utterance_id: int) -> Utterance:
    return view.utterances.setdefault(utterance_id, Utterance())


def _finish(view: CallView) -> None:
    for turn in view.turns.values():
        if turn.text or turn.digits:
            text = turn.text or "[keys] " + " ".join(turn.digits)
            view.lines.append(Line(turn.speech_start_ms, "caller", text, turn.turn))
    for utterance_id, utterance in view.utterances.items():
        _finish_utterance(view, utterance_id, utterance)
    view.lines.sort(key=lambda line: line.at_ms)
    view.turns = dict(sorted(view.turns.items()))


def _finish_utterance(view: CallView, utterance_id: int, utterance: Utterance) -> None:
    started = utterance.started
    if started is None:
        return
    finished, flushed = utterance.finished is not None, utterance.flushed
    text = heard_text(utterance.sentences, utterance.spoken, utterance.heard, finished=finished, flushed=flushed)
    if text:
        cut = flushed is not None and not finished
        view.lines.append(Line(started.media_time_ms, "agent", text, turn_of(utterance_id), cut))
    turn = _turn(view, turn_of(utterance_id))
    end = utterance.flushed or utterance.finished
    turn.answer_ended_ms = end.media_time_ms if end is not None else None
    if turn.answer_started_ms is not None and turn.answer_started_ms <= started.media_time_ms:
        return
    turn.answer_started_ms = started.media_time_ms
    first = utterance.first_audio
    silence_ms = first.leading_silence_ms if first is not None else 0
    if turn.speech_end_ms:
        turn.latencies_ms["e2e_latency"] = float(started.media_time_ms + silence_ms - turn.speech_end_ms)
    if first is not None:
        turn.latencies_ms["tts_node_ttfb"] = first.ttfb_ms
        turn.latencies_ms["playback_latency"] = max(0.0, (started.at_us - first.at_us) / 1000)


def describe_failure(failure: Failure) -> str:
    """A failure in one line of words."""
    row = FAILURES.get(failure.code)
    text = row.text if row is not None else failure.code
    gap = f", gap {failure.gap_ms} ms" if failure.gap_ms else ""
    detail = f" ({failure.detail})" if failure.detail else ""
    return f"{failure.code} at {failure.stage}{gap}: {text}{detail}"
