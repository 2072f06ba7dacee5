"""Inputs and commands of the turn machine. All times are milliseconds of the caller's media time."""

from __future__ import annotations

from typing import NamedTuple


class Heard(NamedTuple):
    """One window of the caller's audio and how likely it is speech. ``stale``: too old to stop the agent for."""

    probability: float
    start_ms: int
    end_ms: int
    stale: bool = False


class Partial(NamedTuple):
    """A run's text so far."""

    run: int
    text: str


class Final(NamedTuple):
    """A run is over. ``failed``: the engine gave up; ``text`` is what was known by then."""

    run: int
    text: str
    confidence: float = 1.0
    failed: bool = False


class PlayoutBegan(NamedTuple):
    """The caller begins to hear an utterance of the agent."""

    utterance_id: int


class PlayoutEnded(NamedTuple):
    """The caller hears no more of an utterance: finished or flushed."""

    utterance_id: int


class Key(NamedTuple):
    """The caller pressed a key at ``at_ms``."""

    digit: str
    at_ms: int


class Expect(NamedTuple):
    """The agent expects this many digits, spoken or pressed; 0: no such rule."""

    digits: int


class Tick(NamedTuple):
    """Time passed and nothing was heard."""


Input = Heard | Partial | Final | PlayoutBegan | PlayoutEnded | Key | Expect | Tick


class VadStarted(NamedTuple):
    """Speech began; ``at_ms`` is its first voiced sample."""

    at_ms: int
    turn: int


class VadStopped(NamedTuple):
    """Speech ended; ``at_ms`` is its last voiced sample."""

    at_ms: int
    turn: int


class TurnStarted(NamedTuple):
    """The caller began a turn. ``why``: ``speech`` or ``dtmf``."""

    turn: int
    at_ms: int
    why: str


class OpenRun(NamedTuple):
    """Begin to recognise, with the audio from ``since_ms`` on that no other run has had."""

    run: int
    turn: int
    part: int
    since_ms: int


class FinishRun(NamedTuple):
    """No more audio for this run: its final is wanted. Times are those of its speech."""

    run: int
    speech_start_ms: int
    speech_end_ms: int


class EndTurn(NamedTuple):
    """The caller is done: the agent's turn. ``why`` as in ``schemas.turn.TurnEnded``."""

    turn: int
    why: str
    text: str
    digits: str
    confidence: float
    speech_start_ms: int
    speech_end_ms: int


class Interrupt(NamedTuple):
    """The agent must stop speaking. ``why``: ``speech``, ``words`` or ``dtmf``."""

    utterance_id: int
    turn: int
    why: str
    at_ms: int
    speech_start_ms: int


Command = VadStarted | VadStopped | TurnStarted | OpenRun | FinishRun | EndTurn | Interrupt
