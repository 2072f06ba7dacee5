"""One utterance of the agent: what it says, and what became of it. Pure, and the same in whatever order it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.llm import LlmDone, LlmSentence
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.tts import TtsDone
from services.llm.heard import heard_text

Played = TtsDone | PlayoutStarted | PlayoutMark | PlayoutPaused | PlayoutResumed | PlayoutFinished | PlayoutFlushed
PLAYED = (TtsDone, PlayoutStarted, PlayoutMark, PlayoutPaused, PlayoutResumed, PlayoutFinished, PlayoutFlushed)
"""What synthesis and edge tell of an utterance."""


@dataclass
class Utterance:
    """What the agent said in one go.

    Attributes:
        sentences: text by index, fillers among them; ``fillers``: the indexes of those.
        spoken: synthesis by index.
        marks: sentences that were sent to their last frame.
        begun: something of it has left.
        held: the furthest place where it stood still.
    """

    utterance_id: int
    sentences: dict[int, str] = field(default_factory=dict)
    fillers: set[int] = field(default_factory=set)
    spoken: dict[int, TtsDone] = field(default_factory=dict)
    marks: set[int] = field(default_factory=set)
    done: LlmDone | None = None
    interrupted: bool = False
    begun: bool = False
    finished: bool = False
    held: PlayoutPaused | None = None
    flushed: PlayoutFlushed | None = None
    at_us: int = 0

    def say(self, event: LlmSentence) -> None:
        """A sentence was said; the first of an index stands."""
        if event.index not in self.sentences:
            self.sentences[event.index] = event.text
            if event.filler:
                self.fillers.add(event.index)

    def play(self, event: Played) -> None:
        """Synthesis or edge told of it."""
        match event:
            case TtsDone():
                self.spoken.setdefault(event.index, event)
            case PlayoutMark():
                self.marks.add(event.index)
            case PlayoutPaused():
                if self.held is None or (self.held.index, self.held.sent_ms) < (event.index, event.sent_ms):
                    self.held = event
            case PlayoutFinished():
                self.finished = True
            case PlayoutFlushed():
                self.flushed = self.flushed or event
            case PlayoutStarted():
                self.begun = True
                self.at_us = self.at_us or event.at_us

    @property
    def void(self) -> bool:
        """Whether nobody goes on with it: interrupted, or flushed at the edge. What resumes later is another."""
        return self.interrupted or self.flushed is not None

    @property
    def settling(self) -> bool:
        """Whether it was interrupted while it was heard, and the edge has not told yet where."""
        return self.interrupted and self.begun and not self.finished and self.flushed is None

    @property
    def answer(self) -> tuple[int, ...]:
        """The indexes of the engine's own sentences, in their order: what bridged a wait is none of them."""
        return tuple(sorted(self.sentences.keys() - self.fillers))

    @property
    def next_index(self) -> int:
        """The index of the next sentence."""
        return max(self.sentences, default=-1) + 1

    @property
    def reached(self) -> int:
        """The furthest sentence of which something was heard, as far as it is known; -1: none."""
        places = (place.index for place in (self.flushed, self.held) if place is not None)
        return max((*self.marks, *places), default=-1)

    @property
    def mute(self) -> bool:
        """Whether it is complete and nothing of the answer was synthesised as it stands."""
        heard = (self.spoken.get(index) for index in self.answer)
        said_else = all(done is not None and done.text is not None for done in heard)
        return self.done is not None and bool(self.answer) and not self.void and said_else

    @property
    def unsaid(self) -> bool:
        """Whether a sentence of it has yet to be heard to its end."""
        return not self.marks.issuperset(self.sentences)

    def heard(self, *, fillers: bool = True) -> str:
        """The part of it that the caller heard; without ``fillers`` only what answers."""
        left_out = set() if fillers else self.fillers
        return heard_text(
            {index: text for index, text in self.sentences.items() if index not in left_out},
            {index: done for index, done in self.spoken.items() if index not in left_out},
            self.marks,
            finished=self.finished,
            flushed=self.flushed,
            held=self.held,
        )
