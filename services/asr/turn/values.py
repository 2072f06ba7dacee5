"""Inputs and commands of the turn machine. All times are milliseconds of the caller's media time."""

from __future__ import annotations

from typing import NamedTuple


class Heard(NamedTuple):
    """One window of the caller's audio and how likely it is speech.

    ``stale``: too old to stop the agent for. ``level_dbfs``: its loudness, for the echo guard. ``sound_ms``: the first
    sample in it that can be heard; None: not known.
    """

    probability: float
    start_ms: int
    end_ms: int
    stale: bool = False
    level_dbfs: float = 0.0
    sound_ms: int | None = None


class Partial(NamedTuple):
    """A run's text so far. ``whole``: it is all of a phrase that the agent expects."""

    run: int
    text: str
    whole: bool = False


class Final(NamedTuple):
    """A run is over. ``failed``: the engine gave up; ``text`` is what was known by then. ``down``: no engine hears."""

    run: int
    text: str
    confidence: float = 1.0
    failed: bool = False
    down: bool = False


class Verdict(NamedTuple):
    """What the turn model says to an ``Ask``: how likely the caller is done, 0 to 1."""

    ask: int
    probability: float


class PlayoutBegan(NamedTuple):
    """The caller begins to hear an utterance of the agent."""

    utterance_id: int


class PlayoutPaused(NamedTuple):
    """The edge holds an utterance. ``remaining_ms``: what is left of it; None: more may be to come."""

    utterance_id: int
    remaining_ms: int | None = None


class PlayoutResumed(NamedTuple):
    """The edge goes on by itself with an utterance that it held: nobody took the pause back in time."""

    utterance_id: int


class PlayoutEnded(NamedTuple):
    """The caller hears no more of an utterance: finished or flushed."""

    utterance_id: int


class Sentence(NamedTuple):
    """The llm stage has said sentence ``number`` (from 0) of an utterance."""

    utterance_id: int
    number: int = 0


class Speech(NamedTuple):
    """The tts stage has sent the first audio of a sentence of an utterance."""

    utterance_id: int


class Working(NamedTuple):
    """The llm stage has called a tool for the answer to a turn, or has its result."""

    turn: int


class Marked(NamedTuple):
    """Sentence ``number`` (from 0) of an utterance has left to its last sample."""

    utterance_id: int
    number: int


class Answered(NamedTuple):
    """The llm stage has ended an utterance of so many sentences."""

    utterance_id: int
    sentences: int


class Key(NamedTuple):
    """The caller pressed a key at ``at_ms``."""

    digit: str
    at_ms: int


class Expect(NamedTuple):
    """The agent expects this many digits, spoken or pressed; 0: no such rule."""

    digits: int


class Held(NamedTuple):
    """The call was put on hold, or taken back."""

    held: bool


class Tick(NamedTuple):
    """Time passed and nothing was heard."""


Input = (
    Heard | Partial | Final | Verdict | PlayoutBegan | PlayoutPaused | PlayoutResumed | PlayoutEnded | Sentence
    | Speech | Working
    | Marked
    | Answered | Key | Expect | Held | Tick
)  # fmt: skip


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


class Ask(NamedTuple):
    """Ask the turn model whether the caller, silent since ``speech_end_ms``, is done with what began at
    ``speech_start_ms``. Answered by ``Verdict`` with the same number, or never."""

    ask: int
    speech_start_ms: int
    speech_end_ms: int


class Preflight(NamedTuple):
    """These words of the turn have stood still: an answer may be prepared on them."""

    turn: int
    number: int
    text: str


class EndTurn(NamedTuple):
    """The caller is done: the agent's turn. ``why`` as in ``schemas.turn.TurnEnded``."""

    turn: int
    why: str
    text: str
    digits: str
    confidence: float
    speech_start_ms: int
    speech_end_ms: int


class Pause(NamedTuple):
    """Hold the agent's utterance until it is known whether this is an interruption."""

    utterance_id: int
    turn: int
    at_ms: int
    speech_start_ms: int


class Resume(NamedTuple):
    """It was none: go on. ``why`` as in ``schemas.turn.TurnResumed``; ``held``: the edge holds it."""

    utterance_id: int
    turn: int
    why: str
    at_ms: int
    speech_start_ms: int
    held: bool = True


class Interrupt(NamedTuple):
    """The agent must stop speaking. ``why``: ``speech``, ``words`` or ``dtmf``."""

    utterance_id: int
    turn: int
    why: str
    at_ms: int
    speech_start_ms: int


class Away(NamedTuple):
    """The caller says nothing: ask (``number`` counts in the call), or say goodbye and hang up (``last``)."""

    turn: int
    number: int
    last: bool
    at_ms: int
    silent_ms: int


class Stuck(NamedTuple):
    """The caller waits for the answer to ``turn``, and ``stage`` (llm, tts or edge) gave no sign within its deadline.

    ``in_a_row``: how many turns one after another were stuck, this one counted.
    """

    turn: int
    stage: str
    waited_ms: int
    in_a_row: int


Command = (
    VadStarted | VadStopped | TurnStarted | OpenRun | FinishRun | Ask | Preflight | EndTurn | Pause | Resume
    | Interrupt | Away | Stuck
)  # fmt: skip
