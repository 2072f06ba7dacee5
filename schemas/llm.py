"""What the agent decided to say and do. Sentences, not tokens, go to tts."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from schemas.base import Event, NonNegative

UTTERANCES_PER_TURN = 100
APOLOGY_PART = 50
"""The part that the tts stage says by itself where a turn is stuck; what is said late for an earlier part is void."""


def utterance_of(turn: int, part: int = 0) -> int:
    """The id of part ``part`` of the answer to turn ``turn``, the same for a successor; part 0 is the answer itself."""
    return turn * UTTERANCES_PER_TURN + part


def turn_of(utterance_id: int) -> int:
    """Inverse of :func:`utterance_of`: the turn that an utterance answers."""
    return utterance_id // UTTERANCES_PER_TURN


class NextStep(StrEnum):
    """What follows once the caller heard the answer."""

    LISTEN = "listen"
    HANG_UP = "hang_up"
    TRANSFER = "transfer"


class ListenFor(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent expects to hear next, so that asr can listen for it.

    Attributes:
        state: name of the dialogue state, for people.
        phrases: phrases in JSGF expansion syntax: words, ``(a | b)``, ``[optional]``, ``<digit>``; empty: anything.
        digits: how many digits or keys complete the turn at once; 0: no such rule.
    """

    state: str = ""
    phrases: tuple[str, ...] = ()
    digits: NonNegative = 0


class LlmSentence(Event, frozen=True, kw_only=True, tag="llm.sentence.v1"):
    """Sentence ``index`` (from 0) of an utterance, ready to be spoken. ``filler``: it bridges a wait and answers
    nothing; latency figures count it apart. ``away``: number of the ``turn.away`` that it asks after."""

    identity = ("utterance_id", "index")

    turn: NonNegative
    utterance_id: NonNegative
    index: NonNegative
    text: str
    language: str = "en"
    filler: bool = False
    away: NonNegative | None = None


class LlmDone(Event, frozen=True, kw_only=True, tag="llm.done.v1"):
    """The answer is complete: ``sentences`` of it were said. ``ttft_ms``: turn.ended received to first token.

    ``preemptive``: ``hit`` where the answer had been prepared on a preflight with the same words, ``miss`` where the
    words had changed, empty where none was prepared. ``bus_hop_ms``: ``turn.ended`` said until received;
    ``queue_wait_ms``: received until the engine was asked.

    With ``listen_for.state`` the ``slots`` are all that the agent remembers beside the conversation's text: a successor
    that has read this event goes on from here.
    """

    identity = ("utterance_id",)

    turn: NonNegative
    utterance_id: NonNegative
    sentences: NonNegative
    intent: str = ""
    then: NextStep = NextStep.LISTEN
    listen_for: ListenFor = ListenFor()
    ttft_ms: float = 0.0
    ttfs_ms: float = 0.0
    engine: str = ""
    slots: dict[str, str] = {}
    preemptive: str = ""
    bus_hop_ms: float = 0.0
    queue_wait_ms: float = 0.0


class ToolCalled(Event, frozen=True, kw_only=True, tag="tool.called.v1"):
    """The agent uses a tool. Recorded before it runs; ``tool_call_id`` is the tool's idempotency key."""

    identity = ("tool_call_id",)

    turn: NonNegative
    tool_call_id: str
    name: str
    arguments: dict[str, Any] = {}


class ToolReturned(Event, frozen=True, kw_only=True, tag="tool.returned.v1"):
    """What the tool said; ``error`` is a code of the failure table, empty where it worked."""

    identity = ("tool_call_id",)

    turn: NonNegative
    tool_call_id: str
    name: str
    result: dict[str, Any] = {}
    error: str = ""
    duration_ms: float = 0.0
