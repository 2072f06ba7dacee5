"""What is to be said in a call and what of it is done: a fold over the call's events. Pure.

A successor folds the same events and goes on from there: what the edge has not marked as sent is said again from the
start of its sentence, and the edge drops the frames that it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.base import Event
from schemas.llm import UTTERANCES_PER_TURN, LlmDone, LlmSentence, turn_of
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted

MISSING_SENTENCE_MS = 2000
"""How long a sentence is waited for once a later one, or the end of the utterance, is known."""


class Speak(NamedTuple):
    """Say this sentence now.

    ``received``: monotonic seconds when it arrived here; ``bus_hop_ms``: said until then. ``ordered``: no event holds
    its text, a command does.
    """

    sentence: LlmSentence
    received: float
    bus_hop_ms: float = 0.0
    ordered: bool = False


class Finish(NamedTuple):
    """Every sentence of the utterance is through: tell the edge how many there were."""

    utterance_id: int
    sentences: int


class Skip(NamedTuple):
    """A sentence has not come in time: go on without it. ``lost``: a predecessor knew it, by a command."""

    utterance_id: int
    sentence: int
    turn: int
    lost: bool = False


class WaitUntil(NamedTuple):
    """Nothing to do before this time (monotonic seconds), unless an event comes."""

    time: float


Step = Speak | Finish | Skip | WaitUntil


class Utterance:
    """One utterance of the agent, as far as it is known."""

    def __init__(self, utterance_id: int) -> None:
        self.utterance_id = utterance_id
        self.turn = turn_of(utterance_id)
        self.sentences: dict[int, Speak] = {}
        self.total: int | None = None
        self.next_index = 0
        self.recorded: set[tuple[str, int]] = set()
        """Events of sentences that stand in the record already: ``("started", index)``, ``("done", index)``."""
        self.replaced: set[int] = set()
        """Sentences in whose place something else was said, or nothing."""
        self.ordered_text: str | None = None
        """What a command ordered to be said as this utterance."""
        self.sent = False
        """Audio of it is at the edge, or was."""
        self.failed = False
        """The last sentence was given up."""
        self.cut_short = False
        """It ended before its last sentence: with an apology."""
        self.over = False
        """Interrupted, flushed, or played to the end."""
        self.cut_off = False
        """Interrupted or flushed."""
        self.finish_sent = False
        self.gap_since: float | None = None

    def step(self, now: float) -> Step | None:
        """What to do next for it; None: nothing before another event comes."""
        if self.over or self.finish_sent:
            return None
        if self.total is not None and self.next_index >= self.total:
            return Finish(self.utterance_id, self.total)
        if self.next_index in self.sentences:
            return self.sentences[self.next_index]
        orphan = not self.sentences and self.total is None and bool(self.recorded)
        if self.total is None and not orphan and not any(index > self.next_index for index in self.sentences):
            return None
        if self.gap_since is None:
            self.gap_since = now
        deadline = self.gap_since + MISSING_SENTENCE_MS / 1000
        if now < deadline:
            return WaitUntil(deadline)
        if orphan:
            return self._close_orphan()
        return Skip(self.utterance_id, self.next_index, self.turn)

    def _close_orphan(self) -> Step:
        """A command ordered it of a predecessor, who took its text along: only what is on record can be ended."""
        begun = max(index for _, index in self.recorded)
        if ("done", begun) not in self.recorded and self.next_index <= begun:
            return Skip(self.utterance_id, begun, self.turn, lost=True)
        return Finish(self.utterance_id, begun + 1)

    def has_told(self, kind: str, index: int) -> bool:
        """Whether the record holds ``started`` or ``done`` of that sentence."""
        return (kind, index) in self.recorded

    @property
    def answered(self) -> bool:
        """A sentence of it that is no filler was said as it stands."""
        return any(
            kind == "done"
            and index not in self.replaced
            and not (index in self.sentences and self.sentences[index].sentence.filler)
            for kind, index in self.recorded
        )

    @property
    def mute(self) -> bool:
        """Whether it was spoken to its end and nothing of the answer was said as it stands."""
        told = [index for kind, index in self.recorded if kind == "done"]
        return bool(told) and not self.cut_off and not self.answered and bool(self.replaced)

    def cut_after(self, index: int) -> list[int]:
        """Sentence ``index`` is the last one, whatever was planned. Those known that will not be said."""
        self.total = index + 1
        self.cut_short = True
        return sorted(each for each in self.sentences if each > index)

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

    def last_was_mute(self, utterance_id: int) -> bool:
        """Whether this is the answer to a turn, and of the answer to the turn before it nothing could be said."""
        before = self._utterances.get(utterance_id - UTTERANCES_PER_TURN)
        return utterance_id % UTTERANCES_PER_TURN == 0 and before is not None and before.mute

    def is_new(self, utterance_id: int) -> bool:
        """Whether nothing was heard of it yet, not even its end."""
        return utterance_id not in self._utterances

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

    def order(self, utterance_id: int, text: str, sentences: Sequence[LlmSentence], now: float) -> list[int]:
        """Say a text as this utterance, by command. All older ones of its turn are void by it; those that this
        changed, of which some may not be known yet."""
        first = turn_of(utterance_id) * UTTERANCES_PER_TURN
        void = [each for older in range(first, utterance_id) for each in self._end(older)]
        utterance = self.utterance(utterance_id)
        utterance.ordered_text = text
        utterance.total = len(sentences)
        for sentence in sentences:
            utterance.sentences[sentence.index] = Speak(sentence, now, ordered=True)
        return void

    def fold(self, event: Event, now: float, bus_hop_ms: float = 0.0) -> list[int]:
        """Take an event of the call. Returns the utterances that are void by it: work on them stops.

        ``bus_hop_ms``: how long ago the event was said.
        """
        match event:
            case LlmSentence():
                utterance = self.utterance(event.utterance_id)
                utterance.turn = event.turn
                utterance.sentences.setdefault(event.index, Speak(event, now, bus_hop_ms))
            case LlmDone():
                utterance = self.utterance(event.utterance_id)
                utterance.turn = event.turn
                if utterance.total is None:
                    utterance.total = event.sentences
            case TtsStarted():
                utterance = self.utterance(event.utterance_id)
                utterance.recorded.add(("started", event.index))
                utterance.sent = True
            case TtsDone():
                self._synthesised(event)
            case PlayoutMark():
                utterance = self.utterance(event.utterance_id)
                utterance.sent = True
                utterance.advance(event.index)
            case PlayoutFinished():
                return self._end(event.utterance_id)
            case PlayoutFlushed() | TurnInterrupted():
                self.utterance(event.utterance_id).cut_off = True
                return self._end(event.utterance_id)
        return []

    def _synthesised(self, event: TtsDone) -> None:
        """What was said in a sentence's place can't be said again from the sentence: it is through."""
        utterance = self.utterance(event.utterance_id)
        utterance.recorded.add(("done", event.index))
        if event.text is not None:
            utterance.replaced.add(event.index)
            utterance.advance(event.index)

    def void(self, utterance_id: int | None) -> list[int]:
        """Give up an utterance, or all of them; those that this changed."""
        wanted = [each.utterance_id for each in self.open_utterances()] if utterance_id is None else [utterance_id]
        return [each for wanted_id in wanted if self.known(wanted_id) for each in self._end(wanted_id)]

    def _end(self, utterance_id: int) -> list[int]:
        utterance = self.utterance(utterance_id)
        changed = not utterance.over
        utterance.over = True
        return [utterance_id] if changed else []
