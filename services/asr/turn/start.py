"""Where a turn machine begins."""

from __future__ import annotations

from typing import NamedTuple


class Start(NamedTuple):
    """Where a machine begins: the defaults for a new call, else what a successor knows from the call's events.

    Attributes:
        turn, open: the caller's turn; ``open``: it was announced and has not ended.
        part, text, confidence: number of its next final, and the words of its finals so far.
        speech_start_ms, speech_end_ms: of those words.
        voiced: the caller was still speaking when those finals were made.
        playing, paused, interrupted: the agent's utterance that is heard or held, and those that were interrupted.
        awaited_turn, awaited_stage: a turn whose answer is awaited, and who has to give the next sign; None: none is.
        awaited_complete, awaited_said, awaited_marked: llm has said all of that answer; how many sentences of it are
            known, and how many have left.
        stuck_in_a_row: turns before it, one after another, that nobody answered.
        away_number, away_asked, away_gone: questions after silence, of the call and since the caller's last turn; the
            last of them was the goodbye.
        preflights: of this turn so far.
    """

    turn: int = 1
    open: bool = False
    part: int = 0
    text: str = ""
    confidence: float = 1.0
    speech_start_ms: int | None = None
    speech_end_ms: int = 0
    voiced: bool = False
    expected_digits: int = 0
    playing: int | None = None
    paused: bool = False
    interrupted: frozenset[int] = frozenset()
    awaited_turn: int | None = 0
    awaited_stage: str = "llm"
    awaited_complete: bool = False
    awaited_said: int = 0
    awaited_marked: int = 0
    stuck_in_a_row: int = 0
    away_number: int = 0
    away_asked: int = 0
    away_gone: bool = False
    preflights: int = 0
