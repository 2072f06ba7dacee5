"""Who has the floor while the agent speaks: pause, interruption, and what turns out to be neither.

Theory of operation. While an utterance of the agent is heard, VOICE makes it suspect of being interrupted: under the
policy ``pause`` it is held at once, under ``confirm`` it goes on until the suspicion is confirmed, under ``off``
nothing happens. The suspicion is CONFIRMED by speech of ``interruption_min_ms``, by ``interruption_min_words`` words,
by a key, or by a turn that ends with words; it is TAKEN_BACK where the words turn out to be none (noise), or only to
say "I am listening" (a backchannel), or do not come within ``false_interruption_ms``. A backchannel in the last
``backchannel_boundary_ms`` of what the agent has to say is an answer.

The edge plays utterances in rising order of their ids, one at a time, so one id says which of them are over.
"""

from __future__ import annotations

from enum import Enum

from config.settings import TurnSection
from services.asr.turn import values as v
from services.asr.turn.backchannels import is_backchannel, may_become_backchannel
from services.asr.turn.gate import Gate
from services.asr.turn.table import Table, Tabled

BACKCHANNEL_LIMIT_MS = 2000
"""Speech of this length is an interruption even where every word of it so far says "I am listening"."""

OPENING = 0
"""The utterance of the agent's first words; what else is said before the caller's first turn (a question whether
anybody is there) has a later part."""


class FloorState(Enum):
    """What the caller hears of the agent."""

    SILENT = "silent"
    """Nothing."""
    SPEAKING = "speaking"
    """An utterance plays."""
    PAUSED = "paused"
    """It is held: the caller may have interrupted it."""
    DOUBTED = "doubted"
    """It plays on, and the caller may have interrupted it."""
    YIELDED = "yielded"
    """It was interrupted; its end is awaited."""


class FloorTrigger(Enum):
    """What moves the floor."""

    BEGAN = "began"
    ENDED = "ended"
    VOICE = "voice"
    """The caller began to speak over it, under the policy ``pause``."""
    DOUBT = "doubt"
    """The same under the policy ``confirm``."""
    CONFIRMED = "confirmed"
    TAKEN_BACK = "taken_back"
    GOES_ON = "goes_on"
    """The edge went on by itself: the pause had lasted too long."""


_S, _T = FloorState, FloorTrigger

FLOOR_TABLE: Table[FloorState, FloorTrigger] = {
    (_S.SILENT, _T.BEGAN): (_S.SPEAKING, ()),
    (_S.SPEAKING, _T.BEGAN): (_S.SPEAKING, ()),
    (_S.SPEAKING, _T.ENDED): (_S.SILENT, ("fall_silent",)),
    (_S.SPEAKING, _T.VOICE): (_S.PAUSED, ("fall_silent", "pause")),
    (_S.SPEAKING, _T.DOUBT): (_S.DOUBTED, ()),
    (_S.SPEAKING, _T.CONFIRMED): (_S.YIELDED, ("fall_silent", "interrupt")),
    (_S.SPEAKING, _T.TAKEN_BACK): (_S.SPEAKING, ("resume",)),
    (_S.PAUSED, _T.BEGAN): (_S.SPEAKING, ()),
    (_S.PAUSED, _T.ENDED): (_S.SILENT, ()),
    (_S.PAUSED, _T.CONFIRMED): (_S.YIELDED, ("interrupt",)),
    (_S.PAUSED, _T.TAKEN_BACK): (_S.SPEAKING, ("resume_held",)),
    (_S.PAUSED, _T.GOES_ON): (_S.SPEAKING, ()),
    (_S.DOUBTED, _T.BEGAN): (_S.DOUBTED, ()),
    (_S.DOUBTED, _T.ENDED): (_S.SILENT, ("fall_silent",)),
    (_S.DOUBTED, _T.CONFIRMED): (_S.YIELDED, ("fall_silent", "interrupt")),
    (_S.DOUBTED, _T.TAKEN_BACK): (_S.SPEAKING, ("resume",)),
    (_S.YIELDED, _T.BEGAN): (_S.SPEAKING, ()),
    (_S.YIELDED, _T.ENDED): (_S.SILENT, ()),
}
"""(state, trigger) -> (next state, actions). A pair that is absent means: nothing to do."""

_HEARD = (_S.SPEAKING, _S.DOUBTED)
_SUSPECT = (_S.PAUSED, _S.DOUBTED)


class Floor(Tabled[FloorState, FloorTrigger]):
    """The agent's utterance that plays, and whether the caller takes the floor.

    Attributes:
        utterance_id: what plays or played last; None before the first.
        stopped: the caller has interrupted the agent and has not been answered since; set back by who answers.
        commands: taken by the machine after each input.
    """

    def __init__(
        self,
        settings: TurnSection,
        language: str,
        *,
        playing: int | None = None,
        paused: bool = False,
        interrupted: frozenset[int] = frozenset(),
    ) -> None:
        state = _S.SILENT
        if playing is not None:
            state = _S.YIELDED if playing in interrupted else _S.PAUSED if paused else _S.SPEAKING
        super().__init__(FLOOR_TABLE, state)
        self.utterance_id = playing
        self.commands: list[v.Command] = []
        self.turn = 0
        self._settings = settings
        self._language = language
        self._extra = frozenset(word.strip().lower() for word in settings.backchannels.split(",") if word.strip())
        self._interrupted = set(interrupted)
        self._over = -1
        self._began_ms = 0
        self._now_ms = 0
        self._silent_since_ms: int | None = None
        self._suspect_since_ms: int | None = None
        self._voice_ms = 0
        self._judged_ms: int | None = None
        self._overlooked_ms: int | None = None
        self._overlapped = False
        self._near_end = False
        self.stopped = False
        self._why = ""

    @property
    def silent(self) -> bool:
        """Nothing of the agent is heard or held."""
        return self.state in (_S.SILENT, _S.YIELDED)

    @property
    def suspect(self) -> bool:
        """The caller may have interrupted an utterance, and it is not known yet."""
        return self.state in _SUSPECT

    def may_echo(self, at_ms: int) -> bool:
        """Whether the agent's own voice may come back to it at this time."""
        if self.state in _HEARD:
            return True
        return self._silent_since_ms is not None and at_ms - self._silent_since_ms < self._settings.echo_tail_ms

    def is_backchannel(self, text: str) -> bool:
        """Whether all of this only says "I am listening"."""
        return bool(text) and is_backchannel(text, self._language, self._extra)

    # What the edge says.

    def began(self, utterance_id: int, now_ms: int) -> None:
        """An utterance is heard. One that is over can't begin again: the same news twice, or late."""
        if utterance_id <= self._over or utterance_id in self._interrupted:
            return
        if utterance_id == self.utterance_id and self.state in (*_HEARD, _S.PAUSED):
            return
        self._over = max(self._over, utterance_id - 1)
        self._now_ms = self._began_ms = now_ms
        self.utterance_id = utterance_id
        self._near_end = False
        # A voice that stopped the utterance before is weighed anew: what waited behind that one begins at once.
        self._judged_ms = None
        self._overlapped = self._overlapped and self.state in _SUSPECT
        self.pull(_T.BEGAN)

    def ended(self, utterance_id: int, now_ms: int) -> None:
        """It was sent to its end, or flushed."""
        self._now_ms = now_ms
        self._over = max(self._over, utterance_id)
        if self.utterance_id is not None and utterance_id >= self.utterance_id:
            self.pull(_T.ENDED)

    def held(self, utterance_id: int, remaining_ms: int | None) -> None:
        """The edge holds it; now it is known how much of it is left."""
        if utterance_id == self.utterance_id:
            boundary_ms = self._settings.backchannel_boundary_ms
            self._near_end = remaining_ms is not None and remaining_ms < boundary_ms

    def goes_on(self, utterance_id: int) -> None:
        """The edge went on by itself."""
        if utterance_id == self.utterance_id:
            self.pull(_T.GOES_ON)

    # What the caller does.

    def weigh(self, gate: Gate, partial: str, turn: int, now_ms: int) -> None:
        """Look at the caller's voice and words so far."""
        self._now_ms, self.turn = now_ms, turn
        weighed = gate.began_ms in (self._judged_ms, self._overlooked_ms)
        if gate.voiced and self.state is _S.SPEAKING and not weighed and self._allowed():
            self._judged_ms, self._voice_ms = gate.began_ms, gate.first_sound_ms
            self._suspect_since_ms = now_ms
            self._overlapped = True
            self.pull(_T.VOICE if self._settings.interruption == "pause" else _T.DOUBT)
        if self.state in _SUSPECT:
            self._decide(gate, partial)

    def _decide(self, gate: Gate, partial: str) -> None:
        settings = self._settings
        spoken_ms = gate.last_voiced_ms - gate.began_ms if gate.voiced else 0
        listening = self.is_backchannel(partial) or may_become_backchannel(partial, self._language, self._extra)
        if spoken_ms >= (BACKCHANNEL_LIMIT_MS if listening else settings.interruption_min_ms):
            self._confirm("speech")
        elif not listening and len(partial.split()) >= settings.interruption_min_words:
            self._confirm("words")
        elif (deadline := self.deadline_ms(gate)) is not None and self._now_ms >= deadline:
            self._take_back("silence")

    def deadline_ms(self, gate: Gate) -> int | None:
        """When a suspicion without words is given up; None while there is none, or the caller speaks."""
        if self.state not in _SUSPECT or gate.voiced:
            return None
        since = self._suspect_since_ms or 0
        return max(since, gate.last_voiced_ms) + self._settings.false_interruption_ms

    def key(self, turn: int, at_ms: int, now_ms: int) -> bool:
        """A key stops the agent at once; whether it did."""
        self._now_ms, self.turn = now_ms, turn
        if self.state not in (*_HEARD, _S.PAUSED) or not self._allowed():
            return False
        self._voice_ms = at_ms
        self._confirm("dtmf")
        return True

    def settle(self, text: str, now_ms: int, *, voiced: bool, certain: bool) -> bool:
        """The caller's words are final; True: they belong to no turn, for they only said "I am listening".

        ``voiced``: the caller speaks again already, and what that will be is not known: nothing is taken back.
        ``certain``: these words will be answered in any case.
        """
        self._now_ms = now_ms
        if self.silent or not (self._overlapped or self.state in _SUSPECT):
            return False
        listening = self.is_backchannel(text) and not self._near_end and not certain
        if text and not listening:
            self._confirm("words")
            return False
        if not voiced:
            self._overlapped = False
            if listening or self.state in _SUSPECT:
                self._take_back("backchannel" if listening else "noise")
        return listening

    def overlook(self, began_ms: int) -> None:
        """The voice that began then is no reason to stop: a monologue goes on under the answer to it."""
        self._overlooked_ms = began_ms

    def _allowed(self) -> bool:
        settings = self._settings
        if settings.interruption == "off":
            return False
        opening = self.utterance_id == OPENING
        return not (opening and self._now_ms - self._began_ms < settings.protected_opening_ms)

    def _confirm(self, why: str) -> None:
        self._why = why
        self.pull(_T.CONFIRMED)

    def _take_back(self, why: str) -> None:
        self._why = why
        self.pull(_T.TAKEN_BACK)

    # Actions, named by the table.

    def _do_fall_silent(self) -> None:
        self._silent_since_ms = self._now_ms

    def _do_pause(self) -> None:
        assert self.utterance_id is not None
        self.commands.append(v.Pause(self.utterance_id, self.turn, self._now_ms, self._voice_ms))

    def _do_interrupt(self) -> None:
        assert self.utterance_id is not None
        self._interrupted.add(self.utterance_id)
        self._over = max(self._over, self.utterance_id)
        self._overlapped = False
        self.stopped = True
        self.commands.append(v.Interrupt(self.utterance_id, self.turn, self._why, self._now_ms, self._voice_ms))

    def _do_resume(self) -> None:
        self._taken_back(held=False)

    def _do_resume_held(self) -> None:
        self._taken_back(held=True)

    def _taken_back(self, *, held: bool) -> None:
        assert self.utterance_id is not None
        self.commands.append(v.Resume(self.utterance_id, self.turn, self._why, self._now_ms, self._voice_ms, held))
