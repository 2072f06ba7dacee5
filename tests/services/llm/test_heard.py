"""What a caller heard: pauses that are taken back or not, apologies, fillers; and whatever order, repetition or loss of
events: never a word whose audio had not left."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.base import Event
from schemas.call import CallAnswered
from schemas.llm import LlmDone, LlmSentence, NextStep, turn_of
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from schemas.session import Speaker
from schemas.tts import SpokenWord, TtsDone
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnResumed, TurnStarted
from services.llm.conversation import Conversation

pytestmark = pytest.mark.unit

BASE: dict[str, Any] = {"call_id": "0199aabbccdd7eeff001122334455667", "at_us": 1}
WORD_MS = 100


def sentence(utterance_id: int, index: int, text: str, *, filler: bool = False) -> LlmSentence:
    turn = turn_of(utterance_id)
    return LlmSentence(**BASE, turn=turn, utterance_id=utterance_id, index=index, text=text, filler=filler)


def spoken(utterance_id: int, index: int, words: str, *, text: str | None = None) -> TtsDone:
    pieces = words.split()
    return TtsDone(
        **BASE,
        turn=turn_of(utterance_id),
        utterance_id=utterance_id,
        index=index,
        frames=5 * len(pieces),
        duration_ms=WORD_MS * len(pieces),
        words=tuple(
            SpokenWord(text=piece, start_ms=WORD_MS * at, end_ms=WORD_MS * (at + 1)) for at, piece in enumerate(pieces)
        ),
        text=text,
    )


def mark(utterance_id: int, index: int) -> PlayoutMark:
    return PlayoutMark(**BASE, utterance_id=utterance_id, index=index, media_time_ms=0)


def paused(utterance_id: int, index: int, sent_ms: int, at_ms: int = 0) -> PlayoutPaused:
    return PlayoutPaused(**BASE, utterance_id=utterance_id, media_time_ms=at_ms, index=index, sent_ms=sent_ms)


def resumed(utterance_id: int, at_ms: int = 0) -> PlayoutResumed:
    return PlayoutResumed(**BASE, utterance_id=utterance_id, media_time_ms=at_ms)


def flushed(utterance_id: int, index: int, sent_ms: int) -> PlayoutFlushed:
    return PlayoutFlushed(**BASE, utterance_id=utterance_id, media_time_ms=0, index=index, sent_ms=sent_ms)


def finished(utterance_id: int) -> PlayoutFinished:
    return PlayoutFinished(**BASE, utterance_id=utterance_id, media_time_ms=0)


def fold(*events: Event) -> Conversation:
    conversation = Conversation(BASE["call_id"], "default")
    for event in events:
        conversation.apply(event)
    return conversation


def agent(conversation: Conversation, **how: bool) -> list[tuple[str, bool]]:
    lines = conversation.history(**how)  # type: ignore[arg-type]
    return [(line.text, line.interrupted) for line in lines if line.speaker is Speaker.AGENT]


SAID = (
    sentence(0, 0, "Welcome to the bank."),
    spoken(0, 0, "Welcome to the bank."),
    sentence(0, 1, "How can I help you?"),
    spoken(0, 1, "How can I help you?"),
)


class TestPauses:
    def test_held_it_is_heard_up_to_where_it_stands(self) -> None:
        assert agent(fold(*SAID, paused(0, 0, 250))) == [("Welcome to", False)]
        assert agent(fold(*SAID, mark(0, 0), paused(0, 1, 100))) == [("Welcome to the bank. How", False)]

    def test_held_and_resumed_it_is_heard_to_its_end(self) -> None:
        taken_back = TurnResumed(**BASE, turn=1, utterance_id=0, media_time_ms=700, why="noise")
        events = (*SAID, paused(0, 0, 250), taken_back, resumed(0), mark(0, 0), mark(0, 1), finished(0))
        assert agent(fold(*events)) == [("Welcome to the bank. How can I help you?", False)]

    def test_held_and_flushed_it_is_heard_up_to_the_words_that_left(self) -> None:
        interrupted = TurnInterrupted(**BASE, turn=1, utterance_id=0)
        events = (*SAID, mark(0, 0), paused(0, 1, 230), interrupted)
        assert agent(fold(*events, flushed(0, 1, 230))) == [("Welcome to the bank. How can", True)]
        # Without the edge's last word the pause says it.
        assert agent(fold(*events)) == [("Welcome to the bank. How can", True)]

    def test_held_twice_the_furthest_place_counts_in_any_order(self) -> None:
        places = (paused(0, 0, 150, 1), paused(0, 1, 120, 2), resumed(0, 1))
        for order in itertools.permutations(places):
            assert agent(fold(*SAID, *order)) == [("Welcome to the bank. How", False)]

    def test_nothing_that_resumes_brings_back_what_was_flushed(self) -> None:
        late = TurnResumed(**BASE, turn=1, utterance_id=0, media_time_ms=900)
        events = (TurnInterrupted(**BASE, turn=1, utterance_id=0), flushed(0, 0, 120), late, resumed(0, 900))
        for order in itertools.permutations(events):
            conversation = fold(CallAnswered(**BASE, edge="e", codec="PCMU", media_epoch_us=1), *SAID, *order)
            assert agent(conversation) == [("Welcome", True)]
            assert conversation.pending_turn() is None

    def test_interrupted_before_a_word_left(self) -> None:
        ended = TurnEnded(**BASE, turn=1, why="silence", text="hello")
        answered = CallAnswered(**BASE, edge="e", codec="PCMU", media_epoch_us=1)
        greeted = LlmDone(**BASE, turn=0, utterance_id=0, sentences=0)
        interrupted = TurnInterrupted(**BASE, turn=2, utterance_id=100)
        conversation = fold(answered, greeted, ended, sentence(100, 0, "Yes."), interrupted, flushed(100, 0, 0))
        assert agent(conversation) == []
        assert conversation.pending_turn() is None


class TestWhatTheEdgeEnded:
    def test_a_sentence_that_never_left_was_not_heard(self) -> None:
        """The edge also ends an utterance whose audio stopped coming."""
        assert agent(fold(*SAID, mark(0, 0), finished(0))) == [("Welcome to the bank.", False)]

    def test_without_marks_what_was_synthesised_counts(self) -> None:
        assert agent(fold(*SAID[:3], finished(0))) == [("Welcome to the bank.", False)]
        assert agent(fold(SAID[0], finished(0))) == [("Welcome to the bank.", False)]


class TestWhatTheSynthesisSaid:
    def test_an_apology_of_a_stuck_turn(self) -> None:
        words = spoken(199, 0, "I am sorry. Please say that again.", text="I am sorry. Please say that again.")
        events = (TurnEnded(**BASE, turn=1, why="silence", text="hello"), words)
        assert agent(fold(*events)) == []
        assert agent(fold(*events, flushed(199, 0, 320))) == [("I am sorry.", True)]
        assert agent(fold(*events, mark(199, 0), finished(199))) == [("I am sorry. Please say that again.", False)]

    def test_words_alone_are_enough(self) -> None:
        assert agent(fold(spoken(199, 0, "I am sorry."), mark(199, 0))) == [("I am sorry.", False)]
        assert agent(fold(spoken(199, 0, "I am sorry."), flushed(199, 0, 200))) == [("I am", True)]
        bare = TtsDone(**BASE, turn=1, utterance_id=199, index=0, frames=5, duration_ms=100)
        assert agent(fold(bare, mark(199, 0))) == []

    def test_in_other_words_than_the_sentences(self) -> None:
        instead = spoken(0, 1, "I am sorry.", text="I am sorry.")
        events = (*SAID[:3], instead, mark(0, 0), mark(0, 1), finished(0))
        assert agent(fold(*events)) == [("Welcome to the bank. I am sorry.", False)]
        nothing = spoken(0, 1, "", text="")
        assert agent(fold(*SAID[:3], nothing, mark(0, 0), finished(0))) == [("Welcome to the bank.", False)]


class TestFillers:
    EVENTS = (
        sentence(100, 0, "One moment.", filler=True),
        spoken(100, 0, "One moment."),
        sentence(100, 1, "It is shipped."),
        spoken(100, 1, "It is shipped."),
    )

    def test_heard_and_left_out_for_the_engine(self) -> None:
        conversation = fold(*self.EVENTS, mark(100, 0), flushed(100, 1, 250))
        assert agent(conversation) == [("One moment. It is", True)]
        assert agent(conversation, fillers=False) == [("It is", True)]
        assert conversation.utterance(100).answer == (1,)

    def test_alone_it_is_nothing_to_an_engine(self) -> None:
        conversation = fold(*self.EVENTS[:2], mark(100, 0), flushed(100, 1, 0))
        assert agent(conversation) == [("One moment.", True)]
        assert agent(conversation, fillers=False) == []


@dataclass
class Truth:
    """A call as it was: its events in their order, and the words that left."""

    events: list[Event] = field(default_factory=list)
    left: set[str] = field(default_factory=set)


@st.composite
def calls(draw: st.DrawFn) -> Truth:
    """Turns that are answered, paused, resumed, flushed, stuck, silent; every word of the agent is unique."""
    truth, names = Truth([CallAnswered(**BASE, edge="e", codec="PCMU", media_epoch_us=1)]), itertools.count()
    for turn in range(draw(st.integers(1, 3))):
        if turn:
            truth.events += [
                TurnStarted(**BASE, turn=turn),
                TurnEnded(**BASE, turn=turn, why="silence", text=f"caller {turn}"),
            ]
        for part in draw(st.sampled_from([(0,), (0, 1), (0, 50)])):
            _utter(draw, truth, turn * 100 + part, names)
    return truth


def _utter(draw: st.DrawFn, truth: Truth, utterance_id: int, names: Iterator[int]) -> None:
    add, turn = truth.events.append, turn_of(utterance_id)
    texts = [[f"w{next(names)}" for _ in range(draw(st.integers(1, 4)))] for _ in range(draw(st.integers(1, 3)))]
    if utterance_id % 100 == 1:
        add(TurnAway(**BASE, turn=turn, number=turn, last=draw(st.booleans())))
    for index, words in enumerate(texts):
        if utterance_id % 100 != 50:
            add(sentence(utterance_id, index, " ".join(words), filler=draw(st.booleans())))
        add(spoken(utterance_id, index, " ".join(words)))
    if utterance_id % 100 != 50:
        then = draw(st.sampled_from(NextStep))
        add(LlmDone(**BASE, turn=turn, utterance_id=utterance_id, sentences=len(texts), then=then))
    fate = draw(st.sampled_from(["finished", "flushed", "abandoned", "silent"]))
    if fate == "silent":
        return
    add(PlayoutStarted(**BASE, utterance_id=utterance_id, media_time_ms=0))
    lengths = [WORD_MS * len(words) for words in texts]
    whole = sum(lengths)
    end = whole if fate == "finished" else draw(st.integers(0, whole - 1))
    stops = sorted(draw(st.lists(st.integers(0, end), max_size=2)))
    for at, stop in enumerate([*stops, end]):
        begin = 0
        for index, length in enumerate(lengths):
            if (stops[at - 1] if at else -1) < begin + length <= stop:
                add(mark(utterance_id, index))
            begin += length
        index, sent = _place(lengths, stop)
        if at < len(stops):
            add(paused(utterance_id, index, sent, stop))
            add(TurnResumed(**BASE, turn=turn + 1, utterance_id=utterance_id, media_time_ms=stop))
            add(resumed(utterance_id, stop))
        elif fate == "finished":
            add(finished(utterance_id))
        elif fate == "flushed":
            add(TurnInterrupted(**BASE, turn=turn + 1, utterance_id=utterance_id))
            add(flushed(utterance_id, index, sent))
    truth.left |= {word for at, word in enumerate(itertools.chain(*texts)) if WORD_MS * (at + 1) <= end}


def _place(lengths: list[int], position: int) -> tuple[int, int]:
    """The sentence that is being sent at a position, and how much of it has left; as the edge counts it."""
    for index, length in enumerate(lengths):
        if position < length:
            return index, position
        position -= length
    return len(lengths), 0


def words_heard(conversation: Conversation) -> list[str]:
    lines = conversation.context(1).conversation_history
    return [word for line in lines if line.speaker is Speaker.AGENT for word in line.text.split()]


@settings(max_examples=300, deadline=None)
@given(calls(), st.data())
def test_no_unheard_word_whatever_becomes_of_the_events(truth: Truth, data: st.DataObject) -> None:
    kept = [event for event in truth.events if data.draw(st.integers(0, 4))]
    repeated = data.draw(st.lists(st.sampled_from(truth.events), max_size=5))
    conversation = fold()
    for event in data.draw(st.permutations([*kept, *repeated])):
        conversation.apply(event)
        heard = words_heard(conversation)
        assert set(heard) <= truth.left
        assert len(set(heard)) == len(heard)
        told = [line.text for line in conversation.history(fillers=False)]
        assert set(" ".join(told).split()) <= {*truth.left, "caller", "1", "2"}
        conversation.pending_turn()
        conversation.pending_away()
        conversation.closing()
        conversation.next_part(conversation.current_turn())


@settings(max_examples=200, deadline=None)
@given(calls(), st.data())
def test_every_word_that_left_is_heard_where_nothing_is_lost(truth: Truth, data: st.DataObject) -> None:
    """But for an utterance whose end the edge never told: of its last sentence it is not known how much left."""
    straight = fold(*truth.events)
    shuffled = fold(*data.draw(st.permutations([*truth.events, *truth.events])))
    assert straight.context(1) == shuffled.context(1)
    assert straight.pending_turn() == shuffled.pending_turn()
    assert straight.closing() == shuffled.closing()
    told = {u.utterance_id for u in straight.utterances.values() if u.finished or u.flushed}
    owed = {
        word.text
        for u in straight.utterances.values()
        if u.utterance_id in told
        for done in u.spoken.values()
        for word in done.words
        if word.text in truth.left
    }
    assert owed <= set(words_heard(straight))
