"""Whether the caller is still there: asks after silence, and after enough questions says goodbye. Pure.

Silence counts while it is the caller's turn: the agent has spoken, nothing of it is heard or on its way, the call is
not on hold. Sounds without words do not end it, for a telephone left on a table hears those.
"""

from __future__ import annotations

from enum import Enum

from config.settings import TurnSection
from services.asr.turn import values as v
from services.asr.turn.table import Table, Tabled


class PresenceState(Enum):
    """What is known of the caller's presence."""

    PRESENT = "present"
    ASKED = "asked"
    """Silence was long enough to ask, once or more."""
    GONE = "gone"
    """The agent said goodbye."""


class PresenceTrigger(Enum):
    """What moves it."""

    SILENCE = "silence"
    """Nobody has spoken for ``away_ms``."""
    SILENCE_AGAIN = "silence_again"
    """The same, and all questions were asked."""
    SPOKE = "spoke"
    """The caller ended a turn."""


_S, _T = PresenceState, PresenceTrigger

PRESENCE_TABLE: Table[PresenceState, PresenceTrigger] = {
    (_S.PRESENT, _T.SILENCE): (_S.ASKED, ("ask",)),
    (_S.PRESENT, _T.SILENCE_AGAIN): (_S.GONE, ("say_goodbye",)),
    (_S.ASKED, _T.SILENCE): (_S.ASKED, ("ask",)),
    (_S.ASKED, _T.SILENCE_AGAIN): (_S.GONE, ("say_goodbye",)),
    (_S.ASKED, _T.SPOKE): (_S.PRESENT, ("forget",)),
    (_S.GONE, _T.SPOKE): (_S.PRESENT, ("forget",)),
}
"""(state, trigger) -> (next state, actions). A pair that is absent means: nothing to do."""


class Presence(Tabled[PresenceState, PresenceTrigger]):
    """Counts silence. ``commands`` are taken by the machine after each input."""

    def __init__(self, settings: TurnSection, *, number: int = 0, asked: int = 0, gone: bool = False) -> None:
        """``number``: questions of the whole call so far; ``asked``: of them since the caller's last turn; ``gone``:
        the last of them was the goodbye."""
        super().__init__(PRESENCE_TABLE, _S.GONE if gone else _S.ASKED if asked else _S.PRESENT)
        self.commands: list[v.Command] = []
        self._settings = settings
        self._number = number
        self._asked = asked
        self._since_ms: int | None = None
        self._turn = 0
        self._now_ms = 0

    def look(self, *, callers_turn: bool, undisturbed: bool, turn: int, now_ms: int) -> None:
        """Look at the clock. ``callers_turn``: the caller may speak; ``undisturbed``: and does not try to."""
        self._turn, self._now_ms = turn, now_ms
        if not callers_turn:
            self._since_ms = None
            return
        if self._since_ms is None:
            self._since_ms = now_ms
        deadline = self.deadline_ms
        if undisturbed and deadline is not None and now_ms >= deadline:
            enough = self._asked >= self._settings.away_prompts
            self.pull(_T.SILENCE_AGAIN if enough else _T.SILENCE)

    def spoke(self) -> None:
        """The caller ended a turn."""
        self._since_ms = None
        self.pull(_T.SPOKE)

    @property
    def deadline_ms(self) -> int | None:
        """When silence is too long; None while it does not count."""
        if self._since_ms is None or not self._settings.away_ms or self.state is _S.GONE:
            return None
        return self._since_ms + self._settings.away_ms

    # Actions, named by the table.

    def _do_ask(self) -> None:
        self._say(last=False)

    def _do_say_goodbye(self) -> None:
        self._say(last=True)

    def _do_forget(self) -> None:
        self._asked = 0

    def _say(self, *, last: bool) -> None:
        silent_ms = self._now_ms - (self._since_ms or 0)
        self.commands.append(v.Away(self._turn, self._number, last, self._now_ms, silent_ms))
        self._number += 1
        self._asked += 1
        self._since_ms = self._now_ms
