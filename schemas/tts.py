"""Synthesis of the agent's sentences."""

from __future__ import annotations

import msgspec

from schemas.base import Event, NonNegative


class SpokenWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word of a sentence and where its audio lies, milliseconds from the start of the sentence's audio."""

    text: str
    start_ms: NonNegative
    end_ms: NonNegative


class TtsStarted(Event, frozen=True, kw_only=True, tag="tts.started.v1"):
    """The first audio of a sentence left for the edge. ``ttfb_ms``: sentence received to this point.

    ``leading_silence_ms``: silence at the start of the audio, so that latency can count to the first audible sample.
    ``bus_hop_ms``: the sentence said until received; ``queue_wait_ms``: received until the engine was asked for it.
    """

    identity = ("utterance_id", "index")

    turn: NonNegative
    utterance_id: NonNegative
    index: NonNegative
    ttfb_ms: float = 0.0
    leading_silence_ms: NonNegative = 0
    engine: str = ""
    bus_hop_ms: float = 0.0
    queue_wait_ms: float = 0.0


class TtsDone(Event, frozen=True, kw_only=True, tag="tts.done.v1"):
    """A sentence is synthesised. ``proportional``: the word times are spread by length, not told by the engine.

    Attributes:
        words: one for each word of what was said (white space parts words), in its order.
        text: what was said where it is not the text of the ``llm.sentence``: an apology in its place, the beginning of
            one that broke off (empty: nothing of it), what ``control.say`` ordered. None: the sentence as it stands.
    """

    identity = ("utterance_id", "index")

    turn: NonNegative
    utterance_id: NonNegative
    index: NonNegative
    frames: NonNegative
    duration_ms: NonNegative
    words: tuple[SpokenWord, ...] = ()
    proportional: bool = True
    text: str | None = None
