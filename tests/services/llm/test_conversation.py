"""The conversation as a fold: what was heard, what is pending, what is remembered; whatever order, however often."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, EndedBy
from schemas.llm import (
    APOLOGY_PART,
    ListenFor,
    LlmDone,
    LlmSentence,
    NextStep,
    ToolCalled,
    ToolReturned,
    utterance_of,
)
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutStarted
from schemas.session import Speaker
from schemas.tts import SpokenWord, TtsDone
from schemas.turn import TurnEnded, TurnInterrupted, TurnResumed
from services.llm.conversation import Conversation

pytestmark = pytest.mark.unit

CALL = "0199aabbccdd7eeff001122334455667"
BASE: dict[str, Any] = {"call_id": CALL, "at_us": 1}


def answered() -> CallAnswered:
    return CallAnswered(**BASE, edge="e", codec="PCMU", media_epoch_us=1)


def ended(turn: int, text: str = "hello", at_us: int = 1) -> TurnEnded:
    return TurnEnded(call_id=CALL, at_us=at_us, turn=turn, why="silence", text=text)


def sentence(utterance_id: int, index: int, text: str) -> LlmSentence:
    return LlmSentence(**BASE, turn=utterance_id // 100, utterance_id=utterance_id, index=index, text=text)


def done(turn: int, part: int = 0, *, then: NextStep = NextStep.LISTEN, sentences: int = 1, state: str = "") -> LlmDone:
    return LlmDone(
        **BASE,
        turn=turn,
        utterance_id=utterance_of(turn, part),
        sentences=sentences,
        then=then,
        intent=f"intent_{turn}",
        listen_for=ListenFor(state=state or f"state_{turn}"),
        slots={"turn": str(turn)},
    )


def spoken(utterance_id: int, index: int, words: tuple[str, ...], *, timed: bool = True) -> TtsDone:
    return TtsDone(
        **BASE,
        turn=0,
        utterance_id=utterance_id,
        index=index,
        frames=1,
        duration_ms=100 * len(words),
        words=tuple(SpokenWord(text=word, start_ms=100 * at, end_ms=100 * at + 100) for at, word in enumerate(words))
        if timed
        else (),
    )


def flushed(utterance_id: int, index: int, sent_ms: int) -> PlayoutFlushed:
    return PlayoutFlushed(**BASE, utterance_id=utterance_id, media_time_ms=0, index=index, sent_ms=sent_ms)


def fold(*events: Event) -> Conversation:
    conversation = Conversation(CALL, "default", frozenset({"verify_customer"}))
    for event in events:
        conversation.apply(event)
    return conversation


def heard(*events: Event) -> str:
    return fold(*events).utterance(0).heard()


TWO = (sentence(0, 0, "Welcome to Example Bank."), sentence(0, 1, "How can I help you?"))


class TestHeard:
    def test_nothing_before_it_is_played(self) -> None:
        assert heard(*TWO, done(0)) == ""
        assert heard(*TWO, PlayoutStarted(**BASE, utterance_id=0, media_time_ms=0)) == ""

    def test_a_sentence_when_its_last_frame_left(self) -> None:
        assert heard(*TWO, PlayoutMark(**BASE, utterance_id=0, index=0, media_time_ms=0)) == "Welcome to Example Bank."

    def test_everything_when_it_is_finished(self) -> None:
        finished = PlayoutFinished(**BASE, utterance_id=0, media_time_ms=0)
        assert heard(*TWO, finished) == "Welcome to Example Bank. How can I help you?"

    @pytest.mark.parametrize(
        ("index", "sent_ms", "text"),
        [
            (0, 0, ""),
            (0, 99, ""),
            (0, 100, "Welcome"),
            (0, 399, "Welcome to Example"),
            (1, 0, "Welcome to Example Bank."),
            (1, 350, "Welcome to Example Bank. How can I"),
            (2, 0, "Welcome to Example Bank. How can I help you?"),
        ],
    )
    @pytest.mark.parametrize("timed", [True, False])
    def test_cut_by_word_times_or_in_proportion(self, index: int, sent_ms: int, text: str, timed: bool) -> None:
        spoke = [spoken(0, at, tuple(s.text.split()), timed=timed) for at, s in enumerate(TWO)]
        assert heard(*TWO, *spoke, flushed(0, index, sent_ms)) == text

    def test_words_as_the_synthesis_counts_them(self) -> None:
        spoke = spoken(0, 0, ("Welcome", "to", "Example", "Bank", "dot"))
        assert heard(*TWO, spoke, flushed(0, 0, 410)) == "Welcome to Example", (
            "in proportion: rather too few than unheard"
        )
        assert heard(*TWO, spoke, flushed(0, 0, 500)) == "Welcome to Example Bank."

    def test_a_cut_sentence_whose_synthesis_is_unknown_was_not_heard(self) -> None:
        assert heard(*TWO, flushed(0, 1, 500)) == "Welcome to Example Bank."

    def test_history_holds_heard_words_only(self) -> None:
        conversation = fold(
            *TWO,
            done(0),
            spoken(0, 0, ("Welcome", "to", "Example", "Bank.")),
            TurnInterrupted(**BASE, turn=1, utterance_id=0),
            flushed(0, 0, 200),
            ended(1, "where is my card"),
            sentence(100, 0, "I can help."),
        )
        first, second = conversation.history()
        assert (first.speaker, first.text, first.interrupted) == (Speaker.AGENT, "Welcome to", True)
        assert (second.speaker, second.text, second.interrupted) == (Speaker.CALLER, "where is my card", False)
        assert conversation.history(before_turn=1) == (first,)


class TestPending:
    def test_the_greeting_once_the_call_is_answered(self) -> None:
        assert fold().pending_turn() is None
        assert fold(answered()).pending_turn() == 0
        assert fold(answered(), done(0)).pending_turn() is None

    def test_turns_in_their_order(self) -> None:
        conversation = fold(answered(), done(0), ended(2), ended(1))
        assert conversation.pending_turn() == 1
        conversation.apply(done(1))
        assert conversation.pending_turn() == 2

    def test_a_turn_whose_answer_is_void_is_not_pending(self) -> None:
        interrupted = TurnInterrupted(**BASE, turn=2, utterance_id=100)
        assert fold(answered(), done(0), ended(1), interrupted).pending_turn() is None
        # What was interrupted is void in every stage: nothing brings it back.
        resumed = TurnResumed(**BASE, turn=2, utterance_id=100, media_time_ms=900)
        assert fold(answered(), done(0), ended(1), interrupted, resumed).pending_turn() is None
        assert fold(answered(), done(0), ended(1), resumed).pending_turn() == 1

    def test_nothing_after_the_end(self) -> None:
        end = CallEnded(**BASE, edge="e", result=CallResult.COMPLETED, reason="x", ended_by=EndedBy.CALLER)
        assert fold(answered(), end).pending_turn() is None


class TestClosing:
    def test_only_what_the_last_answer_wants(self) -> None:
        assert fold(answered()).closing() is None
        assert fold(answered(), done(0)).closing() is None
        bye = (answered(), done(0), ended(1), done(1, then=NextStep.HANG_UP))
        assert fold(*bye).closing() == (NextStep.HANG_UP, False, 100, False)
        finished = PlayoutFinished(**BASE, utterance_id=100, media_time_ms=0)
        assert fold(*bye, finished).closing() == (NextStep.HANG_UP, True, 100, False)
        assert fold(*bye, finished, ended(2)).closing() is None
        assert fold(*bye, flushed(100, 0, 0)).closing() is None

    def test_after_everything_said_beside_it(self) -> None:
        events = (
            answered(),
            done(0, then=NextStep.HANG_UP),
            done(0, 1),
            PlayoutFinished(**BASE, utterance_id=0, media_time_ms=0),
        )
        assert fold(*events).closing() == (NextStep.HANG_UP, False, 0, False)
        later = PlayoutFinished(**BASE, utterance_id=1, media_time_ms=0)
        assert fold(*events, later).closing() == (NextStep.HANG_UP, True, 0, False)


def test_an_utterance_beside_the_answer_changes_no_state() -> None:
    conversation = fold(answered(), done(0, state="welcome"), done(0, 1, state="elsewhere"))
    assert conversation.listen_for.state == "welcome"
    assert conversation.next_part(0) == 2
    assert conversation.next_part(7) == 1


def test_what_is_said_by_command_never_takes_the_id_of_the_apology() -> None:
    conversation = fold(answered(), done(0, APOLOGY_PART - 1))
    assert conversation.next_part(0) == APOLOGY_PART + 1
    assert not conversation.is_void(utterance_of(0, APOLOGY_PART - 1))


def test_who_the_caller_is() -> None:
    def returned(name: str, result: dict[str, Any], error: str = "") -> ToolReturned:
        return ToolReturned(**BASE, turn=1, tool_call_id=f"{name}{result}", name=name, result=result, error=error)

    assert fold().customer_data() == {"authentication_status": "PENDING"}
    no = returned("verify_customer", {"verified": False})
    yes = returned("verify_customer", {"verified": True, "customer_id": "C-1"})
    other = returned("card_status", {"verified": True, "customer_id": "C-9"})
    broken = returned("verify_customer", {}, "tool_failed")
    assert fold(other, broken).customer_data() == {"authentication_status": "PENDING"}
    assert fold(no).customer_data() == {"authentication_status": "FAILED"}
    assert fold(no, yes, no).customer_data() == {"authentication_status": "VERIFIED", "customer_id": "C-1"}


def test_the_context() -> None:
    conversation = fold(answered(), *TWO, done(0), ended(1, at_us=5_000_000))
    context = conversation.context(1_000_000)
    assert (context.context_id, context.session_id, context.last_turn) == (CALL, CALL, 0)
    assert (context.last_updated_us, context.expires_at_us) == (5_000_000, 6_000_000)
    assert (context.current_intent, context.dialogue_state, context.slots) == ("intent_0", "state_0", {"turn": "0"})


def test_other_events_are_let_pass() -> None:
    offered = CallOffered(call_id=CALL, at_us=99, edge="e")
    assert fold(offered).last_word_us == 0


SOME = (
    answered(),
    *TWO,
    done(0, sentences=2),
    spoken(0, 0, ("Welcome", "to", "Example", "Bank.")),
    spoken(0, 1, ("How", "can", "I", "help", "you?")),
    PlayoutStarted(**BASE, utterance_id=0, media_time_ms=0),
    PlayoutMark(**BASE, utterance_id=0, index=0, media_time_ms=0),
    TurnInterrupted(**BASE, turn=1, utterance_id=0),
    flushed(0, 1, 250),
    ended(1, "where is my card", 7),
    ToolCalled(**BASE, turn=1, tool_call_id="a", name="verify_customer"),
    ToolReturned(**BASE, turn=1, tool_call_id="a", name="verify_customer", result={"verified": True, "name": "A"}),
    sentence(100, 0, "It is on its way."),
    done(1),
    PlayoutFinished(**BASE, utterance_id=100, media_time_ms=0),
    ended(2, "thank you", 9),
)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(SOME), max_size=10))
def test_order_and_repetition_do_not_matter(seed: int, repeated: list[Event]) -> None:
    """What one worker folded live and another reads from the stream is the same conversation."""
    events = [*SOME, *repeated]
    random.Random(seed).shuffle(events)
    shuffled, straight = fold(*events), fold(*SOME)
    assert shuffled.context(1) == straight.context(1)
    assert shuffled.pending_turn() == straight.pending_turn() == 2
    assert shuffled.closing() == straight.closing()
