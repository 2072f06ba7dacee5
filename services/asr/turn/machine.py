"""The turn machine: whose turn it is, decided by tables.

House rules of this room:

1. Every transition is a row of a table: the caller's turn (``caller.py``), the agent's floor (``floor.py``), the
   caller's presence (``presence.py``), the wait for the answer (``watch.py``). Code may derive a trigger and may do
   what a row names; it never sets a state in any other way.
2. The machine knows the caller's media time and nothing else: not which clock moves it, which engine listens, or
   whether its audio is live or heard a second time. The same inputs give the same commands.
"""

from __future__ import annotations

from config.settings import TurnSection
from services.asr.turn import values as v
from services.asr.turn.caller import CallerTurn
from services.asr.turn.caller_table import CallerState
from services.asr.turn.floor import Floor, FloorState
from services.asr.turn.gate import VoiceBegan, VoiceEnded
from services.asr.turn.presence import Presence
from services.asr.turn.start import Start
from services.asr.turn.watch import Watch

NO_GUARD_DBFS = -96.0

__all__ = ["Start", "TurnMachine"]


class TurnMachine:
    """One call's turns. ``handle`` takes an input; ``deadline_ms`` says when a ``Tick`` is due if nothing is heard."""

    def __init__(self, settings: TurnSection, start: Start = Start(), language: str = "en") -> None:  # noqa: B008
        """``language``: of the caller, for words that say "I am listening" and for words that end no sentence."""
        self._settings = settings
        self._floor = Floor(
            settings, language, playing=start.playing, paused=start.paused, interrupted=start.interrupted
        )
        self._caller = CallerTurn(settings, self._floor, start, language)
        self._presence = Presence(settings, number=start.away_number, asked=start.away_asked, gone=start.away_gone)
        self._watch = Watch(
            settings,
            turn=start.awaited_turn,
            stage=start.awaited_stage,
            complete=start.awaited_complete,
            said=start.awaited_said,
            marked=start.awaited_marked,
            in_a_row=start.stuck_in_a_row,
        )
        self._held = self._stale = False
        self._now_ms = 0

    @property
    def turn(self) -> int:
        """The caller's turn that is open, or comes next."""
        return self._caller.turn

    @property
    def caller_state(self) -> CallerState:
        """Where the caller's turn stands."""
        return self._caller.state

    @property
    def floor_state(self) -> FloorState:
        """What the caller hears of the agent."""
        return self._floor.state

    @property
    def deadline_ms(self) -> int | None:
        """The media time at which something is due even if nothing more is heard; None: nothing is."""
        due = (self._caller.deadline_ms, self._floor.deadline_ms(self._caller.gate), self._presence.deadline_ms,
               self._watch.deadline_ms)  # fmt: skip
        return min((at for at in due if at is not None), default=None)

    def handle(self, given: v.Input, now_ms: int) -> list[v.Command]:
        """Take one input at media time ``now_ms``; the commands that follow, in order."""
        now_ms = self._now_ms = max(self._now_ms, now_ms)
        self._take(given, now_ms)
        commands = self._collect()
        self._caller.pass_deadlines(now_ms)
        if isinstance(given, v.Heard | v.Tick):
            self._stale = isinstance(given, v.Heard) and given.stale
        if not self._stale:
            self._floor.weigh(self._caller.gate, self._caller.partial, self._caller.turn, now_ms)
        commands += self._collect()
        self._watch.look(held=self._held, busy=not self._floor.silent, now_ms=now_ms)
        self._presence.look(
            callers_turn=self._floor.silent and not self._watch.waiting and not self._held,
            undisturbed=self._caller.undisturbed,
            turn=self._caller.turn,
            now_ms=now_ms,
        )
        return commands + self._collect()

    def _take(self, given: v.Input, now_ms: int) -> None:
        caller = self._caller
        match given:
            case v.Heard():
                caller.heard(self._hear(given), now_ms)
            case v.Tick():
                caller.gate.silence()
                caller.heard(caller.gate.quiet(now_ms), now_ms)
            case v.Partial():
                caller.partially(given, now_ms)
            case v.Final():
                caller.final(given, now_ms)
            case v.Verdict():
                caller.judged(given)
            case v.Key() if not caller.ends_nothing(given):
                self._floor.key(caller.turn, given.at_ms, now_ms)
                caller.key(given, now_ms)
            case v.Expect():
                caller.expects(given.digits)
            case v.Held():
                self._held = given.held
            case _:
                self._follow_agent(given, now_ms)

    def _follow_agent(self, given: v.Input, now_ms: int) -> None:
        match given:
            case v.PlayoutBegan():
                self._floor.began(given.utterance_id, now_ms)
                self._watch.sign(given, now_ms)
            case v.PlayoutPaused():
                self._floor.held(given.utterance_id, given.remaining_ms)
            case v.PlayoutResumed():
                self._floor.goes_on(given.utterance_id)
            case v.PlayoutEnded():
                self._floor.ended(given.utterance_id, now_ms)
                self._watch.sign(given, now_ms)
            case v.Marked():
                self._watch.marked(given, now_ms)
            case v.Working():
                self._watch.at_work(now_ms)
            case v.Sentence() | v.Speech():
                self._watch.sign(given, now_ms)
            case v.Answered():
                self._watch.answered(given, now_ms)

    def _hear(self, heard: v.Heard) -> VoiceBegan | VoiceEnded | None:
        """The gate's view of a window; what is no louder than the agent's echo is silence while that may come back."""
        guard_dbfs = self._settings.echo_dbfs
        echo = guard_dbfs > NO_GUARD_DBFS and heard.level_dbfs < guard_dbfs and self._floor.may_echo(heard.start_ms)
        probability = 0.0 if echo else heard.probability
        return self._caller.gate.hear(probability, heard.start_ms, heard.end_ms, heard.level_dbfs, heard.sound_ms)

    def _collect(self) -> list[v.Command]:
        """What the parts have to say, those of the floor first: an agent that must stop does so before all else."""
        commands: list[v.Command] = []
        for part in (self._floor, self._caller, self._watch, self._presence):
            for command in part.commands:
                commands.append(command)
                if isinstance(command, v.EndTurn):
                    self._watch.turn_ended(command.turn, self._now_ms)
                    self._presence.spoke()
            part.commands.clear()
        return commands
