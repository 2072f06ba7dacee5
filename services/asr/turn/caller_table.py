"""The caller's turn as a table: its states, what moves it, what is done. The rules are told in ``caller.py``."""

from __future__ import annotations

from enum import Enum

from services.asr.turn.table import Table


class CallerState(Enum):
    """Where the caller's turn stands."""

    IDLE = "idle"
    """Nobody speaks, no keys are pending."""
    KEYING = "keying"
    """Keys are pending; no run is open."""
    VOICED = "voiced"
    """The caller speaks; a run is open."""
    PAUSED = "paused"
    """The caller fell silent, perhaps only for breath; the run is open."""
    FINISHING = "finishing"
    """The run was finished; its final is awaited."""


class CallerTrigger(Enum):
    """What moves the caller's turn, derived from inputs and time."""

    VOICE = "voice"
    SILENCE = "silence"
    CERTAIN = "certain"
    """What is heard will be answered: it has words, or is too long for a noise, or has stopped the agent."""
    PATIENCE_OVER = "patience_over"
    RUN_FULL = "run_full"
    MONOLOGUE = "monologue"
    """The turn has lasted long enough."""
    KEY = "key"
    KEYS_DONE = "keys_done"
    PART = "part"
    """A final, and another is still awaited or open."""
    WORDS = "words"
    """The last awaited final: the turn has words, its keys are done, or it wants an answer for another reason."""
    NOTHING = "nothing"
    """The last awaited final: no words in the turn, no keys."""
    BACKCHANNEL = "backchannel"
    """The last awaited final: words that belong to no turn."""
    KEYS_PENDING = "keys_pending"
    """The last awaited final, while keys are pending."""
    LEFTOVER = "leftover"
    """Words that a predecessor had recognised, and nothing follows them."""


_S, _T = CallerState, CallerTrigger

CALLER_TABLE: Table[CallerState, CallerTrigger] = {
    (_S.IDLE, _T.VOICE): (_S.VOICED, ("say_voice", "open_run")),
    (_S.IDLE, _T.SILENCE): (_S.IDLE, ("say_silence",)),
    (_S.IDLE, _T.LEFTOVER): (_S.IDLE, ("open_turn", "end_turn")),
    (_S.IDLE, _T.KEY): (_S.KEYING, ("take_key", "open_turn")),
    (_S.KEYING, _T.VOICE): (_S.VOICED, ("say_voice", "open_run")),
    (_S.KEYING, _T.SILENCE): (_S.KEYING, ("say_silence",)),
    (_S.KEYING, _T.KEY): (_S.KEYING, ("take_key",)),
    (_S.KEYING, _T.KEYS_DONE): (
        _S.IDLE,
        (
            "open_turn",
            "end_turn",
        ),
    ),
    (_S.VOICED, _T.CERTAIN): (_S.VOICED, ("open_turn",)),
    (_S.VOICED, _T.SILENCE): (_S.PAUSED, ("say_silence",)),
    (_S.VOICED, _T.KEY): (_S.VOICED, ("take_key",)),
    (_S.VOICED, _T.KEYS_DONE): (_S.FINISHING, ("finish_run",)),
    (_S.VOICED, _T.RUN_FULL): (_S.VOICED, ("finish_run", "open_run")),
    (_S.VOICED, _T.MONOLOGUE): (_S.FINISHING, ("cut_in", "finish_run")),
    (_S.VOICED, _T.PART): (_S.VOICED, ()),
    (_S.PAUSED, _T.CERTAIN): (_S.PAUSED, ("open_turn",)),
    (_S.PAUSED, _T.VOICE): (_S.VOICED, ("say_voice",)),
    (_S.PAUSED, _T.PATIENCE_OVER): (_S.FINISHING, ("finish_run",)),
    (_S.PAUSED, _T.MONOLOGUE): (_S.FINISHING, ("cut_in", "finish_run")),
    (_S.PAUSED, _T.KEY): (_S.PAUSED, ("take_key",)),
    (_S.PAUSED, _T.KEYS_DONE): (_S.FINISHING, ("finish_run",)),
    (_S.PAUSED, _T.PART): (_S.PAUSED, ()),
    (_S.FINISHING, _T.CERTAIN): (_S.FINISHING, ("open_turn",)),
    (_S.FINISHING, _T.VOICE): (_S.FINISHING, ("defer",)),
    (_S.FINISHING, _T.SILENCE): (_S.FINISHING, ("defer",)),
    (_S.FINISHING, _T.KEY): (_S.FINISHING, ("take_key",)),
    (_S.FINISHING, _T.PART): (_S.FINISHING, ()),
    (_S.FINISHING, _T.WORDS): (_S.IDLE, ("open_turn", "end_turn", "take_up_deferred")),
    (_S.FINISHING, _T.NOTHING): (_S.IDLE, ("drop_speech", "take_up_deferred")),
    (_S.FINISHING, _T.BACKCHANNEL): (_S.IDLE, ("drop_words", "drop_speech", "take_up_deferred")),
    (_S.FINISHING, _T.KEYS_PENDING): (_S.KEYING, ("take_up_deferred",)),
}
"""(state, trigger) -> (next state, actions). A pair that is absent means: nothing to do."""
