"""A scenario in virtual time: the real turn machine and the real playout, with a caller, a recogniser, a turn model and
an agent that take exactly as long as the scenario says. A minute of conversation takes some hundredths of a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from config.load import ConfigError
from config.settings import Settings
from ops.scenario.agent import Line, Speaker
from ops.scenario.document import Scenario, settings_of
from ops.scenario.expectations import check
from ops.scenario.recogniser import Recogniser
from ops.scenario.report import Result
from ops.scenario.virtual_caller import WINDOW_MS, Caller
from ops.scenario.world import BUS_MS, World
from schemas.asr import AsrPreflight
from schemas.base import Event
from schemas.call import CallAnswered, CallHeld, DtmfIn, EndedBy
from schemas.failure import FAILURES, Failure
from schemas.llm import LlmDone, LlmSentence
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutPaused, PlayoutResumed, PlayoutStarted
from schemas.tts import TtsStarted
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnResumed, TurnStarted
from schemas.vad import VadStarted, VadStopped
from services.asr.turn import values as v
from services.asr.turn.machine import TurnMachine

VERDICT_MS = 60
"""How long the turn model thinks."""
PAUSE_LIMIT_MS = 10_000
SILENT_LINE_MS = 100
"""While no audio comes, time moves the machine as often as this."""
CALL_LIMIT_MS = 900_000
PATIENCE_MS = 60_000
"""A caller whose next step never comes hangs up after so long without an event."""
STUCK_TWICE = 2


class Call:
    """One conversation from the answer to the end."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        self.world = World(scenario.faults)
        self.line = Line(self.world)
        self.caller = Caller(self.world, scenario, speaking=lambda: self.line.speaking, hang_up=self._hung_up)
        self._scenario = scenario
        self._agent = Speaker(self.world, self.line, scenario.agent, settings)
        self._machine = TurnMachine(settings.turn, language=settings.asr.language)
        self._recogniser = Recogniser(self.world, self.caller, self._input)
        self._failures = 0

    def run(self) -> None:
        """Have the conversation."""
        world = self.world
        world.follow(self._agent.hear)
        world.follow(self._hear, faulty=True)
        world.say(CallAnswered, edge="virtual", codec="PCMU", media_epoch_us=0)
        self.caller.begin()
        world.at(WINDOW_MS, self._listen)
        world.run(lambda: self.line.ended, CALL_LIMIT_MS)
        if not self.line.ended:
            self._hung_up()

    def _hung_up(self) -> None:
        self.line.hang_up("caller_hung_up", EndedBy.CALLER)

    # The caller's audio.

    def _listen(self) -> None:
        """The window that has just ended."""
        now = self.world.now_ms
        if self.caller.holding:
            deadline = self._machine.deadline_ms
            if deadline is not None and now >= deadline:
                self._input(v.Tick())
            self.world.after(SILENT_LINE_MS // WINDOW_MS * WINDOW_MS, self._listen)
        else:
            probability, level_dbfs = self.caller.window(now - WINDOW_MS)
            self._input(v.Heard(probability, now - WINDOW_MS, now, level_dbfs=level_dbfs))
            self.world.after(WINDOW_MS, self._listen)
        quiet_ms = now - self.world.quiet_since_ms
        over = self.caller.finished and quiet_ms >= self._scenario.linger_ms and self._nothing_to_come()
        if over or (quiet_ms >= PATIENCE_MS and self._nothing_to_come() and self.caller.waiting):
            self._hung_up()

    def _nothing_to_come(self) -> bool:
        return not (self.line.busy or self._agent.busy)

    # The machine.

    def _input(self, given: v.Input) -> None:
        if self.line.ended:
            return
        for command in self._machine.handle(given, self.world.now_ms):
            self._execute(command)

    def _hear(self, event: Event) -> None:
        """What the asr stage follows of the call."""
        match event:
            case PlayoutStarted():
                self._input(v.PlayoutBegan(event.utterance_id))
            case PlayoutPaused():
                self._input(v.PlayoutPaused(event.utterance_id, event.remaining_ms if event.complete else None))
            case PlayoutResumed() if event.why == "limit":
                self._input(v.PlayoutResumed(event.utterance_id))
            case PlayoutFinished() | PlayoutFlushed():
                self._input(v.PlayoutEnded(event.utterance_id))
            case LlmSentence():
                self._input(v.Sentence(event.utterance_id))
            case TtsStarted():
                self._input(v.Speech(event.utterance_id))
            case LlmDone():
                self._input(v.Expect(event.listen_for.digits))
                self._input(v.Answered(event.utterance_id, event.sentences))
            case DtmfIn():
                self._input(v.Key(event.digit, event.media_time_ms))
            case CallHeld():
                self.line.hold(held=event.held)
                self._input(v.Held(event.held))

    def _execute(self, command: v.Command) -> None:
        world, recogniser = self.world, self._recogniser
        match command:
            case v.OpenRun():
                recogniser.open(command)
            case v.FinishRun():
                recogniser.finish(command)
            case v.Ask():
                verdict = v.Verdict(command.ask, self.caller.done_at(command.speech_end_ms))
                world.after(VERDICT_MS, lambda: self._input(verdict))
            case v.Pause():
                utterance_id = command.utterance_id
                world.after(BUS_MS, lambda: self.line.pause(utterance_id, PAUSE_LIMIT_MS, "barge_in"))
            case v.Resume():
                self._resume(command)
            case v.Interrupt():
                self._interrupt(command)
            case v.Stuck():
                self._stuck(command)
            case _:
                event_type, fields = _told(command)
                world.say(event_type, **fields)

    def _resume(self, command: v.Resume) -> None:
        utterance_id, why = command.utterance_id, command.why
        if command.held:
            self.world.after(BUS_MS, lambda: self.line.resume(utterance_id, why))
        self.world.say(
            TurnResumed,
            turn=command.turn,
            utterance_id=utterance_id,
            media_time_ms=command.at_ms,
            why=why,
            speech_start_ms=command.speech_start_ms,
        )

    def _interrupt(self, command: v.Interrupt) -> None:
        utterance_id = command.utterance_id
        self.world.after(BUS_MS, lambda: self.line.flush(utterance_id, "interruption"))
        self.world.say(
            TurnInterrupted,
            turn=command.turn,
            utterance_id=utterance_id,
            why=command.why,
            media_time_ms=command.at_ms,
            speech_start_ms=command.speech_start_ms,
        )

    def _stuck(self, command: v.Stuck) -> None:
        row = FAILURES["turn_stuck"]
        self.world.say(
            Failure,
            code=row.code,
            stage="asr",
            number=self._failures,
            retryable=row.retryable,
            caller_hears=row.caller_hears,
            detail=command.stage,
            turn=command.turn,
            gap_ms=command.waited_ms,
        )
        self._failures += 1
        if command.in_a_row >= STUCK_TWICE:
            self.world.after(BUS_MS, lambda: self.line.hang_up("turn_stuck", EndedBy.AGENT))
        elif command.stage == "llm":
            self.world.after(BUS_MS, lambda: self._agent.apologise(command.turn))


def _told(command: v.Command) -> tuple[type[Event], dict[str, Any]]:
    """The event that says what the machine decided."""
    match command:
        case v.VadStarted():
            return VadStarted, {"media_time_ms": command.at_ms, "turn": command.turn}
        case v.VadStopped():
            return VadStopped, {"media_time_ms": command.at_ms, "turn": command.turn}
        case v.TurnStarted():
            return TurnStarted, {"turn": command.turn, "media_time_ms": command.at_ms, "why": command.why}
        case v.Preflight():
            return AsrPreflight, command._asdict()
        case v.EndTurn():
            return TurnEnded, command._asdict()
        case v.Away():
            fields = command._asdict()
            fields["media_time_ms"] = fields.pop("at_ms")
            return TurnAway, fields
    raise TypeError(f"{type(command).__name__} has no event")


def run_virtual(scenario: Scenario, environment: Mapping[str, str] | None = None) -> Result:
    """Run a scenario in virtual time. The environment's and app.ini's settings count below the scenario's own.

    ``environment``: of the process where it is None. A setting of it that is wrong is a failure of the result.
    """
    began = time.perf_counter()
    reason = scenario.lacks(environment)
    if reason:
        return Result(scenario=scenario, way="virtual", skipped=reason)
    try:
        call = Call(scenario, settings_of(scenario, environment))
    except ConfigError as error:
        return Result(scenario=scenario, way="virtual", failures=(str(error),))
    call.run()
    events = call.world.events
    return Result(
        scenario=scenario,
        way="virtual",
        failures=tuple(check(scenario, events, call.caller.steps)),
        events=tuple(events),
        steps=call.caller.steps,
        duration_ms=call.world.now_ms,
        wall_s=time.perf_counter() - began,
    )
