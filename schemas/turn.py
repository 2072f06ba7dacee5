"""Whose turn it is; said by the turn policy, which lives where the caller's audio is (asr)."""

from __future__ import annotations

from schemas.base import Event, NonNegative


class TurnStarted(Event, frozen=True, kw_only=True, tag="turn.started.v1"):
    """The caller began turn ``turn`` (from 1; turn 0 is the agent's greeting)."""

    identity = ("turn",)

    turn: NonNegative
    media_time_ms: NonNegative = 0
    why: str = "speech"


class TurnEnded(Event, frozen=True, kw_only=True, tag="turn.ended.v1"):
    """The caller is done and the agent answers.

    Attributes:
        why: ``silence``, ``semantic``, ``dtmf``, ``monologue``, ``timeout``.
        text: everything the caller said in this turn; empty for a turn of keys.
        digits: keys pressed in this turn.
        speech_end_ms: last voiced sample (or last key), caller's media time: latency starts here.
        end_of_turn_delay_ms: last voiced sample to this decision.
    """

    identity = ("turn",)

    turn: NonNegative
    why: str
    text: str = ""
    digits: str = ""
    confidence: float = 1.0
    speech_start_ms: NonNegative = 0
    speech_end_ms: NonNegative = 0
    transcription_delay_ms: float = 0.0
    end_of_turn_delay_ms: float = 0.0


class TurnInterrupted(Event, frozen=True, kw_only=True, tag="turn.interrupted.v1"):
    """The caller spoke over the agent and the agent stops. Work on ``utterance_id`` is void in every stage."""

    identity = ("utterance_id",)

    turn: NonNegative
    utterance_id: NonNegative
    why: str = "speech"
    media_time_ms: NonNegative = 0
    speech_start_ms: NonNegative = 0


class TurnResumed(Event, frozen=True, kw_only=True, tag="turn.resumed.v1"):
    """An interruption that was none: the agent's speech goes on from the sample it paused at."""

    identity = ("utterance_id", "media_time_ms")

    turn: NonNegative
    utterance_id: NonNegative
    media_time_ms: NonNegative = 0
