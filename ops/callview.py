"""A call as a person wants to see it, folded out of its events: who said what when, and how long each turn took.

Pure: events in, a view out. Latencies (ms) are LiveKit's seven: their clock starts at the caller's last voiced sample
and ends at the first audible sample sent. They are computed here, also where the call holds no ``turn.measured``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from ops.engines_used import EnginesUsed, count_engine
from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallHeld, CallOffered, DtmfIn
from schemas.failure import FAILURES, Failure
from schemas.llm import LlmDone, LlmSentence, ToolReturned, turn_of
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.tts import TtsDone
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnMeasured, TurnResumed
from services.asr.answer import Playout
from services.asr.measuring import Measured, TurnMeasures
from services.llm.heard import heard_text

LATENCY_NAMES = (
    "transcription_delay",
    "end_of_turn_delay",
    "llm_node_ttft",
    "llm_node_ttfs",
    "tts_node_ttfb",
    "playback_latency",
    "e2e_latency",
    "filler_latency",
    "barge_in",
)
STUCK = "turn_stuck"
MARGIN_MS = 100
"""What the asr stage has heard and what the edge has sent are not of the same instant."""


@dataclass(slots=True)
class Line:
    """One line of the transcript.

    ``at_ms``: media time. ``cut``: the caller spoke over it and heard only this much. ``filler``: it bridged a wait.
    """

    at_ms: int
    speaker: str
    text: str
    turn: int
    cut: bool = False
    filler: bool = False


@dataclass(slots=True)
class Pause:
    """The agent was held at ``at_ms``. ``duration_ms`` None: it did not go on. ``why`` it did, as in ``turn.resumed``;
    ``limit`` where the edge took the pause back by itself; empty where it did not go on. ``text``: what the caller said
    in it, of which no turn came."""

    at_ms: int
    utterance_id: int
    duration_ms: int | None
    why: str
    text: str = ""


@dataclass(slots=True)
class Unanswered:
    """The caller was heard from ``at_ms`` on, nothing was understood, and neither a turn nor a pause came of it."""

    at_ms: int
    duration_ms: int


@dataclass(slots=True)
class Interruption:
    """The caller, voiced from ``at_ms`` on, made the agent stop.

    ``barge_in_ms``: until the end of the last agent packet; None where it has not stopped, or nothing of the answer had
    been heard yet.
    """

    at_ms: int
    turn: int
    utterance_id: int
    why: str
    barge_in_ms: float | None


@dataclass(slots=True)
class TurnView:
    """One turn: the caller's words and the way to the answer. Latencies in ms; a name not reached is missing.

    ``stuck``: the failure that says so, where the caller got no answer. ``preemptive``, ``bus_hop_ms``,
    ``queue_wait_ms``: as in ``turn.measured``.
    """

    turn: int
    why: str = ""
    text: str = ""
    digits: str = ""
    speech_start_ms: int = 0
    speech_end_ms: int = 0
    ended: bool = False
    intent: str = ""
    tools: list[str] = field(default_factory=list)
    interrupted: bool = False
    stuck: str = ""
    preemptive: str = ""
    answer_started_ms: int | None = None
    answer_ended_ms: int | None = None
    latencies_ms: dict[str, float] = field(default_factory=dict)
    bus_hop_ms: dict[str, float] = field(default_factory=dict)
    queue_wait_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Utterance:
    """What is known of one agent utterance while folding."""

    sentences: dict[int, str] = field(default_factory=dict)
    fillers: set[int] = field(default_factory=set)
    spoken: dict[int, TtsDone] = field(default_factory=dict)
    heard: set[int] = field(default_factory=set)
    started: PlayoutStarted | None = None
    finished: PlayoutFinished | None = None
    flushed: PlayoutFlushed | None = None
    paused: list[PlayoutPaused] = field(default_factory=list)
    resumed: dict[int, PlayoutResumed] = field(default_factory=dict)


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
    pauses: list[Pause] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    away: list[TurnAway] = field(default_factory=list)
    unanswered: list[Unanswered] = field(default_factory=list)
    measured: dict[int, TurnMeasured] = field(default_factory=dict)
    engines: EnginesUsed = field(default_factory=dict)
    events: int = 0

    @property
    def stuck(self) -> list[Failure]:
        """Failures that say that a caller got no answer."""
        return [failure for failure in self.failures if failure.code == STUCK]

    @property
    def state(self) -> str:
        """``ringing``, ``active``, or the result class."""
        if self.ended is not None:
            return self.ended.result.value
        return "active" if self.answered is not None else "ringing"

    def latencies(self, name: str) -> list[float]:
        """All values of one latency name, in turn order; of ``barge_in`` one per interruption."""
        if name == "barge_in":
            return [each.barge_in_ms for each in self.interruptions if each.barge_in_ms is not None]
        return [turn.latencies_ms[name] for turn in self.turns.values() if name in turn.latencies_ms]


def view_of(events: Iterable[Event]) -> CallView:
    """Fold a call's events, in their order, into a view."""
    fold = _Fold()
    for event in events:
        fold.apply(event)
    return fold.finish()


class _Fold:
    """The view while it grows, and what is needed for it only."""

    def __init__(self) -> None:
        self.view = CallView()
        self._measures = TurnMeasures()
        self._playouts: dict[int, Playout] = {}
        self._interrupted: list[TurnInterrupted] = []
        self._taken_back: list[TurnResumed] = []
        self._finals: list[AsrFinal] = []

    def apply(self, event: Event) -> None:
        """Take the next event."""
        view = self.view
        view.events += 1
        count_engine(view.engines, event)
        view.call_id = view.call_id or event.call_id
        view.tenant = view.tenant or event.tenant
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
                self._fail(event)
            case TurnMeasured():
                # What is shown is computed from the events; this is what the call says of itself.
                view.measured[event.turn] = event
                return
            case _:
                self._apply_turn(event)
                self._apply_utterance(event)
        self._measures.fold(event)
        for measured in self._measures.due():
            self._keep(measured)

    def _fail(self, event: Failure) -> None:
        self.view.failures.append(event)
        if event.code == STUCK:
            self._turn(event.turn).stuck = event.detail or event.code

    def _apply_turn(self, event: Event) -> None:
        match event:
            case AsrFinal():
                self._finals.append(event)
            case TurnEnded():
                turn = self._turn(event.turn)
                turn.why, turn.text, turn.digits, turn.ended = event.why, event.text, event.digits, True
                turn.speech_start_ms, turn.speech_end_ms = event.speech_start_ms, event.speech_end_ms
            case TurnInterrupted():
                self._turn(turn_of(event.utterance_id)).interrupted = True
                self._interrupted.append(event)
            case TurnResumed():
                self._taken_back.append(event)
            case TurnAway():
                self.view.away.append(event)
            case LlmDone():
                self._turn(event.turn).intent = self._turn(event.turn).intent or event.intent
            case ToolReturned():
                self._turn(event.turn).tools.append(event.name + (f" ({event.error})" if event.error else ""))
            case _:
                pass

    def _apply_utterance(self, event: Event) -> None:
        utterance_id = getattr(event, "utterance_id", None)
        if utterance_id is None or isinstance(event, TurnInterrupted | TurnResumed):
            return
        self._playouts.setdefault(utterance_id, Playout()).apply(event)
        utterance = self.view.utterances.setdefault(utterance_id, Utterance())
        match event:
            case LlmSentence():
                utterance.sentences[event.index] = event.text
                if event.filler:
                    utterance.fillers.add(event.index)
            case TtsDone():
                utterance.spoken[event.index] = event
            case PlayoutStarted():
                utterance.started = event
            case PlayoutMark():
                utterance.heard.add(event.index)
            case PlayoutPaused():
                utterance.paused.append(event)
            case PlayoutResumed():
                utterance.resumed[event.number] = event
            case PlayoutFinished():
                utterance.finished = event
            case PlayoutFlushed():
                utterance.flushed = event
            case _:
                pass

    def _turn(self, number: int) -> TurnView:
        return self.view.turns.setdefault(number, TurnView(turn=number))

    def _keep(self, measured: Measured) -> None:
        turn = self._turn(measured.turn)
        fields = measured._asdict()
        found = {name: fields[f"{name}_ms"] for name in LATENCY_NAMES}
        turn.latencies_ms = {name: value for name, value in found.items() if value is not None}
        turn.bus_hop_ms, turn.queue_wait_ms = dict(measured.bus_hop_ms), measured.queue_wait_ms
        turn.preemptive = measured.preemptive

    # -- when all events are known ---------------------------------------------------------------------------------

    def finish(self) -> CallView:
        """The view; nothing may be applied after this."""
        view = self.view
        for measured in self._measures.open_turns():
            self._keep(measured)
        for number, said in view.measured.items():
            # How long an event was on its way to the asr stage is known by that stage alone.
            turn = self._turn(number)
            turn.bus_hop_ms = said.bus_hop_ms | turn.bus_hop_ms
        for turn in view.turns.values():
            if turn.text or turn.digits:
                text = turn.text or "[keys] " + " ".join(turn.digits)
                view.lines.append(Line(turn.speech_start_ms, "caller", text, turn.turn))
        for utterance_id, utterance in view.utterances.items():
            self._finish_utterance(utterance_id, utterance)
        view.interruptions = [self._interruption(event) for event in self._interrupted]
        for final in self._finals:
            self._finish_final(final)
        for found in (view.lines, view.pauses):
            found.sort(key=lambda each: each.at_ms)
        view.turns = dict(sorted(view.turns.items()))
        return view

    def _finish_utterance(self, utterance_id: int, utterance: Utterance) -> None:
        started = utterance.started
        if started is None:
            return
        self.view.lines += self._lines(utterance_id, utterance, started)
        self.view.pauses += [self._pause(utterance, event) for event in utterance.paused]
        turn = self._turn(turn_of(utterance_id))
        end = utterance.flushed or utterance.finished
        turn.answer_ended_ms = end.media_time_ms if end is not None else None
        if turn.answer_started_ms is None or turn.answer_started_ms > started.media_time_ms:
            turn.answer_started_ms = started.media_time_ms

    def _finish_final(self, final: AsrFinal) -> None:
        """Where no turn came of what was heard, its words belong to the pause that it made, else it goes unanswered."""
        begin_ms, end_ms = final.speech_start_ms, final.speech_end_ms
        if any(t.ended and t.speech_start_ms < end_ms and begin_ms < t.speech_end_ms for t in self.view.turns.values()):
            return
        for pause in self.view.pauses:
            if pause.duration_ms is not None and begin_ms < pause.at_ms + pause.duration_ms and pause.at_ms < end_ms:
                pause.text = f"{pause.text} {final.text}".strip()
                return
        if not final.text and end_ms > begin_ms and final.turn not in {each.turn for each in self._interrupted}:
            self.view.unanswered.append(Unanswered(begin_ms, end_ms - begin_ms))

    def _lines(self, utterance_id: int, utterance: Utterance, started: PlayoutStarted) -> list[Line]:
        """What was heard of it: a line for the answer, and one for each stretch of fillers before and within it."""
        found: list[Line] = []
        indexes = sorted({*utterance.sentences, *utterance.spoken})
        finished = utterance.finished is not None
        for filler, group in groupby(indexes, lambda index: index in utterance.fillers):
            wanted = list(group)
            text = heard_text(
                {index: utterance.sentences[index] for index in wanted if index in utterance.sentences},
                {index: utterance.spoken[index] for index in wanted if index in utterance.spoken},
                utterance.heard,
                finished=finished,
                flushed=utterance.flushed,
                held=utterance.paused[-1] if utterance.paused else None,
            )
            began = self._playouts[utterance_id].began(wanted[0])
            at_ms = began.media_ms if began is not None else started.media_time_ms
            if text:
                found.append(Line(at_ms, "agent", text, turn_of(utterance_id), filler=filler))
        if found and utterance.flushed is not None and not finished:
            found[-1].cut = True
        return found

    def _pause(self, utterance: Utterance, event: PlayoutPaused) -> Pause:
        resumed = utterance.resumed.get(event.number)
        if resumed is None:
            return Pause(event.media_time_ms, event.utterance_id, None, "")
        duration_ms = resumed.media_time_ms - event.media_time_ms
        return Pause(event.media_time_ms, event.utterance_id, duration_ms, self._why(event, resumed))

    def _why(self, paused: PlayoutPaused, resumed: PlayoutResumed) -> str:
        """Why it went on, in the words of the turn machine; the edge's own where that said nothing of this pause."""
        for event in self._taken_back:
            within = paused.media_time_ms <= event.media_time_ms <= resumed.media_time_ms + MARGIN_MS
            if event.utterance_id == paused.utterance_id and within and resumed.why != "limit":
                return event.why or resumed.why
        return resumed.why

    def _interruption(self, event: TurnInterrupted) -> Interruption:
        playout = self._playouts.get(event.utterance_id)
        stopped_ms = playout.stopped_ms if playout is not None and playout.started else None
        barge_in_ms = None if stopped_ms is None else max(0.0, float(stopped_ms - event.speech_start_ms))
        return Interruption(event.speech_start_ms, event.turn, event.utterance_id, event.why, barge_in_ms)


def describe_failure(failure: Failure) -> str:
    """A failure in one line of words."""
    row = FAILURES.get(failure.code)
    text = row.text if row is not None else failure.code
    gap = f", gap {failure.gap_ms} ms" if failure.gap_ms else ""
    detail = f" ({failure.detail})" if failure.detail else ""
    return f"{failure.code} at {failure.stage}{gap}: {text}{detail}"
