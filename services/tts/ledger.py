"""What is to be said in a call and what of it is done: a fold over the call's events. Pure.

A successor folds the same events and goes on from there: what the edge has not marked as sent is said again from the
start of its sentence, and the edge drops the frames that it has.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.base import Event
from schemas.llm import LlmDone, LlmSentence
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted

MISSING_SENTENCE_MS = 2000
"""How long a sentence is waited for once a later one, or the end of the utterance, is known."""


class Speak(NamedTuple):
    """Say this sentence now. ``received``: monotonic seconds when it arrived here."""

    sentence: LlmSentence
    received: float


class Finish(NamedTuple):
    """Every sentence of the utterance is through: tell the edge how many there were."""

    utterance_id: int
    sentences: int


class Skip(NamedTuple):
    """A sentence has not come in time: go on without it."""

    utterance_id: int
    sentence: int
    turn: int


class WaitUntil(NamedTuple):
    """Nothing to do before this time (monotonic seconds), unless an event comes."""

    time: float


Step = Speak | Finish | Skip | WaitUntil


class Utterance:
    """One utterance of the agent, as far as it is known."""

    def __init__(self, utterance_id: int) -> None:
        self.utterance_id = utterance_id
        self.turn = 0
        self.sentences: dict[int, Speak] = {}
        self.total: int | None = None
        self.next_index = 0
        self.recorded: set[tuple[str, int]] = set()
        """Events of sentences that stand in the record already: ``("started", index)``, ``("done", index)``."""
        self.over = False
        """Interrupted, flushed, or played to the end."""
        self.finish_sent = False
        self.gap_since: float | None = None

    def step(self, now: float) -> Step | None:
        """What to do next for it; None: nothing before another event comes."""
        if self.over or self.finish_sent:
            return None
        if self.next_index in self.sentences:
            return self.sentences[self.next_index]
        if self.total is not None and self.next_index >= self.total:
            return Finish(self.utterance_id, self.total)
        if self.total is None and not any(index > self.next_index for index in self.sentences):
            return None
        if self.gap_since is None:
            self.gap_since = now
        deadline = self.gap_since + MISSING_SENTENCE_MS / 1000
        return Skip(self.utterance_id, self.next_index, self.turn) if now >= deadline else WaitUntil(deadline)

    def advance(self, index: int) -> None:
        """Sentence ``index`` is through: said, played, or given up."""
        self.next_index = max(self.next_index, index + 1)
        self.gap_since = None


class SpeechLedger:
    """All utterances of one call."""

    def __init__(self) -> None:
        self._utterances: dict[int, Utterance] = {}

    def utterance(self, utterance_id: int) -> Utterance:
        """The utterance of that id, made where it is new."""
        if utterance_id not in self._utterances:
            self._utterances[utterance_id] = Utterance(utterance_id)
        return self._utterances[utterance_id]

    def known(self, utterance_id: int) -> bool:
        """Whether it is known and not over."""
        return utterance_id in self._utterances and not self._utterances[utterance_id].over

    def open_utterances(self) -> list[Utterance]:
        """Those not over, in order."""
        return [each for _, each in sorted(self._utterances.items()) if not each.over]

    def step(self, now: float) -> Step | None:
        """What to do next: the oldest utterance that has something to do goes first. ``now``: monotonic seconds."""
        waits: list[WaitUntil] = []
        for utterance in self.open_utterances():
            step = utterance.step(now)
            if step is not None and not isinstance(step, WaitUntil):
                return step
            if step is not None:
                waits.append(step)
        return min(waits) if waits else None

    def fold(self, event: Event, now: float) -> list[int]:
        """Take an event of the call. Returns the utterances that are void by it: work on them stops."""
        match event:
            case LlmSentence():
                utterance = self.utterance(event.utterance_id)
                utterance.turn = event.turn
                utterance.sentences.setdefault(event.index, Speak(event, now))
            case LlmDone():
                utterance = self.utterance(event.utterance_id)
                utterance.turn = event.turn
                if utterance.total is None:
                    utterance.total = event.sentences
            case TtsStarted():
                self.utterance(event.utterance_id).recorded.add(("started", event.index))
            case TtsDone():
                self.utterance(event.utterance_id).recorded.add(("done", event.index))
            case PlayoutMark():
                self.utterance(event.utterance_id).advance(event.index)
            case PlayoutFinished() | PlayoutFlushed() | TurnInterrupted():
                return self._end(event.utterance_id)
        return []

    def void(self, utterance_id: int | None) -> list[int]:
        """Give up an utterance, or all of them; those that this changed."""
        wanted = [each.utterance_id for each in self.open_utterances()] if utterance_id is None else [utterance_id]
        return [each for wanted_id in wanted if self.known(wanted_id) for each in self._end(wanted_id)]

    def _end(self, utterance_id: int) -> list[int]:
        utterance = self.utterance(utterance_id)
        changed = not utterance.over
        utterance.over = True
        return [utterance_id] if changed else []
