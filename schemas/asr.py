"""What the caller said."""

from __future__ import annotations

import msgspec

from schemas.base import Event, NonNegative, Ratio


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One word with its place in the caller's media time; confidence 1.0 where the engine gives none."""

    text: str
    start_ms: NonNegative
    end_ms: NonNegative
    confidence: Ratio = 1.0


class AsrPartial(Event, frozen=True, kw_only=True, tag="asr.partial.v1"):
    """A transcript that may still change. ``revision`` counts the partials of the turn."""

    identity = ("turn", "revision")

    turn: NonNegative
    revision: NonNegative
    text: str


class AsrPreflight(Event, frozen=True, kw_only=True, tag="asr.preflight.v1"):
    """Words that have stood still: an answer may be prepared on them. It is void when the turn ends with other words.

    ``text``: all of the turn so far. ``number`` counts the preflights of the turn.
    """

    identity = ("turn", "number")

    turn: NonNegative
    number: NonNegative
    text: str


class AsrFinal(Event, frozen=True, kw_only=True, tag="asr.final.v1"):
    """A transcript that does not change any more; also the checkpoint that a successor starts from.

    Attributes:
        turn: the caller's turn; from 1.
        part: number of the final within its turn, from 0 (a long turn may have several).
        through_sequence: the last ``audio.in`` sequence that this text covers; a successor asks for what follows.
        speech_start_ms, speech_end_ms: first and last voiced sample, caller's media time.
        transcription_delay_ms: last voiced sample to this event.
    """

    identity = ("turn", "part")

    turn: NonNegative
    text: str
    through_sequence: NonNegative
    part: NonNegative = 0
    confidence: Ratio = 1.0
    words: tuple[Word, ...] = ()
    speech_start_ms: NonNegative = 0
    speech_end_ms: NonNegative = 0
    transcription_delay_ms: float = 0.0
    engine: str = ""
