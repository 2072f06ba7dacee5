"""What follows from the turn machine's decisions outside recognition: events, counts, commands to other stages."""

from __future__ import annotations

from collections.abc import Callable

from bus import metrics
from services.asr.commands import CallCommands
from services.asr.events import CallEvents
from services.asr.measuring import Measured, TurnFacts
from services.asr.summary import tell_turn
from services.asr.turn import values as v

STUCK_LIMIT = 2
"""So many turns in a row without an answer end the call."""


class Consequences:
    """Carries out the machine's commands of one call.

    Args:
        apology: what tts says where llm gives no sign.
        count: counts an event of this name among the worker's figures.
    """

    def __init__(
        self, events: CallEvents, commands: CallCommands, *, apology: str, count: Callable[[str], None]
    ) -> None:
        self._events = events
        self._commands = commands
        self._apology = apology
        self._count = count

    def carry_out(self, command: v.Command) -> None:
        """Do what the command asks for; those about runs and the turn model are none of its business."""
        events = self._events
        match command:
            case v.VadStarted():
                events.vad_started(command)
            case v.VadStopped():
                events.vad_stopped(command)
            case v.TurnStarted():
                events.turn_started(command)
            case v.Preflight():
                events.preflight(command)
            case v.EndTurn():
                self._count("turns")
                events.turn_ended(command)
            case v.Away():
                metrics.count_away()
                events.turn_away(command)
            case v.Stuck():
                metrics.count_stuck(command.stage)
                events.turn_stuck(command)
                self._help_out(command)
            case v.Pause() | v.Resume() | v.Interrupt():
                self._rule_floor(command)

    def _rule_floor(self, command: v.Pause | v.Resume | v.Interrupt) -> None:
        match command:
            case v.Pause():
                self._commands.pause(command)
            case v.Resume():
                metrics.count_false_interruption(command.why)
                self._events.turn_resumed(command)
                if command.held:
                    self._commands.resume(command)
            case v.Interrupt():
                self._count("interruptions")
                metrics.count_interruption(command.why)
                self._events.turn_interrupted(command)
                self._commands.flush(command.utterance_id)

    def _help_out(self, stuck: v.Stuck) -> None:
        """A caller waits for nothing: apologise where a voice is left to do so; end what keeps going wrong."""
        if stuck.in_a_row >= STUCK_LIMIT:
            self._commands.hang_up()
        elif stuck.stage == "llm" and self._apology:
            self._commands.apologise(stuck.turn, self._apology)

    def measured(self, found: list[Measured], facts: Callable[[int], TurnFacts]) -> None:
        """Tell of turns that were measured; ``facts``: what else is known of one."""
        for each in found:
            event = self._events.turn_measured(each)
            metrics.observe_measured(event)
            tell_turn(event, facts(each.turn))
