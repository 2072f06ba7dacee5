"""What is to be said next, as a fold over events."""

from __future__ import annotations

import pytest

from schemas.llm import LlmDone, LlmSentence
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted
from services.tts.ledger import MISSING_SENTENCE_MS, Finish, Skip, Speak, SpeechLedger, WaitUntil

pytestmark = pytest.mark.unit

CALL = {"call_id": "c1", "at_us": 1}


def sentence(utterance_id: int, index: int) -> LlmSentence:
    return LlmSentence(**CALL, turn=utterance_id // 100, utterance_id=utterance_id, index=index, text=f"text {index}")


def done(utterance_id: int, sentences: int) -> LlmDone:
    return LlmDone(**CALL, turn=utterance_id // 100, utterance_id=utterance_id, sentences=sentences)


def mark(utterance_id: int, index: int) -> PlayoutMark:
    return PlayoutMark(**CALL, utterance_id=utterance_id, index=index, media_time_ms=0)


def folded(*events) -> SpeechLedger:
    ledger = SpeechLedger()
    for event in events:
        ledger.fold(event, 0.0)
    return ledger


def steps(ledger: SpeechLedger, now: float = 0.0) -> list[object]:
    """Everything that can be done now, each carried out."""
    given: list[object] = []
    while (step := ledger.step(now)) is not None and not isinstance(step, WaitUntil):
        match step:
            case Speak():
                given.append((step.sentence.utterance_id, step.sentence.index))
                ledger.utterance(step.sentence.utterance_id).advance(step.sentence.index)
            case Finish():
                given.append(step)
                ledger.utterance(step.utterance_id).finish_sent = True
            case Skip():
                given.append(step)
                ledger.utterance(step.utterance_id).advance(step.sentence)
    return given


def test_sentences_in_order_then_the_end():
    ledger = folded(sentence(100, 0), sentence(100, 1), done(100, 2))
    assert steps(ledger) == [(100, 0), (100, 1), Finish(100, 2)]
    assert ledger.step(0.0) is None


def test_order_of_arrival_does_not_matter():
    ledger = folded(done(100, 3), sentence(100, 2), sentence(100, 0))
    assert steps(ledger) == [(100, 0)]
    ledger.fold(sentence(100, 1), 0.5)
    assert steps(ledger, 0.5) == [(100, 1), (100, 2), Finish(100, 3)]


def test_a_missing_sentence_is_waited_for_and_then_skipped():
    ledger = folded(sentence(100, 1), done(100, 2))
    assert ledger.step(10.0) == WaitUntil(10.0 + MISSING_SENTENCE_MS / 1000)
    assert ledger.step(11.9) == WaitUntil(10.0 + MISSING_SENTENCE_MS / 1000)
    assert steps(ledger, 12.0) == [Skip(100, 0, 1), (100, 1), Finish(100, 2)]


def test_a_missing_sentence_of_one_utterance_does_not_hold_up_another():
    ledger = folded(sentence(0, 1), sentence(100, 0), done(100, 1))
    assert steps(ledger) == [(100, 0), Finish(100, 1)]
    assert isinstance(ledger.step(0.0), WaitUntil)


def test_nothing_to_say_still_ends():
    assert steps(folded(done(100, 0))) == [Finish(100, 0)]


@pytest.mark.parametrize(
    "event",
    [
        TurnInterrupted(**CALL, turn=2, utterance_id=100),
        PlayoutFlushed(**CALL, utterance_id=100, media_time_ms=0),
        PlayoutFinished(**CALL, utterance_id=100, media_time_ms=0),
    ],
)
def test_what_is_over_is_not_said_even_if_it_comes_later(event):
    ledger = SpeechLedger()
    assert ledger.fold(event, 0.0) == [100]
    assert ledger.fold(event, 0.0) == []
    ledger.fold(sentence(100, 0), 0.0)
    ledger.fold(done(100, 1), 0.0)
    assert ledger.step(0.0) is None


def test_void_one_or_all():
    ledger = folded(sentence(0, 0), sentence(100, 0), sentence(200, 0))
    assert ledger.void(100) == [100]
    assert ledger.void(100) == []
    assert ledger.void(999) == []
    assert ledger.void(None) == [0, 200]


def test_a_successor_says_again_what_is_not_marked():
    started = TtsStarted(**CALL, turn=1, utterance_id=100, index=1)
    finished = TtsDone(**CALL, turn=1, utterance_id=100, index=0, frames=50, duration_ms=1000)
    ledger = folded(sentence(100, 0), sentence(100, 1), sentence(100, 2), done(100, 3), finished, started, mark(100, 0))
    assert steps(ledger) == [(100, 1), (100, 2), Finish(100, 3)]
    assert ledger.utterance(100).recorded == {("done", 0), ("started", 1)}


def test_how_long_a_sentence_was_under_way_is_kept_with_it():
    ledger = SpeechLedger()
    ledger.fold(sentence(100, 0), 5.0, 12.5)
    assert ledger.step(6.0) == Speak(sentence(100, 0), 5.0, 12.5)


def replaced(utterance_id: int, index: int, text: str) -> TtsDone:
    return TtsDone(**CALL, turn=1, utterance_id=utterance_id, index=index, frames=50, duration_ms=1000, text=text)


def test_what_was_said_in_a_sentences_place_is_not_said_again_from_the_sentence():
    assert steps(folded(sentence(100, 0), sentence(100, 1), replaced(100, 0, "sorry"))) == [(100, 1)]


def test_an_utterance_that_is_cut_short_ends_there_whatever_comes():
    ledger = folded(sentence(100, 0), sentence(100, 1), sentence(100, 2))
    ledger.utterance(100).advance(0)
    assert ledger.utterance(100).cut_after(0) == [1, 2]
    ledger.fold(sentence(100, 3), 0.0)
    ledger.fold(done(100, 4), 0.0)
    assert steps(ledger) == [Finish(100, 1)]


def test_an_answer_has_begun_once_a_sentence_that_is_no_filler_was_said():
    filler = LlmSentence(**CALL, turn=1, utterance_id=100, index=0, text="Hm.", filler=True)
    said = [TtsDone(**CALL, turn=1, utterance_id=100, index=n, frames=5, duration_ms=100) for n in (0, 1)]
    ledger = folded(filler, sentence(100, 1), said[0])
    assert not ledger.utterance(100).answered
    ledger.fold(replaced(100, 2, ""), 0.0)
    assert not ledger.utterance(100).answered
    ledger.fold(said[1], 0.0)
    assert ledger.utterance(100).answered


# -- by command --------------------------------------------------------------------------------------------------------


def test_what_is_ordered_makes_the_older_ones_of_its_turn_void():
    ledger = folded(sentence(0, 0), sentence(100, 0), sentence(101, 0), sentence(200, 0))
    void = ledger.order(150, "Sorry. Bye.", [sentence(150, 0), sentence(150, 1)], 1.0)
    assert void == list(range(100, 150))
    ledger.fold(sentence(102, 0), 2.0)
    assert steps(ledger) == [(0, 0), (150, 0), (150, 1), Finish(150, 2), (200, 0)]
    assert not ledger.is_new(102)
    assert ledger.utterance(150).ordered_text == "Sorry. Bye."


def started(utterance_id: int, index: int) -> TtsStarted:
    return TtsStarted(**CALL, turn=1, utterance_id=utterance_id, index=index)


def test_what_a_predecessor_was_ordered_to_say_is_ended_with_what_is_on_record():
    ledger = folded(started(199, 0), replaced(199, 0, "Sorry."))
    assert isinstance(ledger.step(0.0), WaitUntil)
    assert steps(ledger, 2.0) == [Finish(199, 1)]


def test_and_what_the_predecessor_had_begun_is_lost_and_told():
    ledger = folded(started(199, 0), replaced(199, 0, "Sorry."), started(199, 1))
    assert isinstance(ledger.step(0.0), WaitUntil)
    assert steps(ledger, 2.0) == [Skip(199, 1, 1, lost=True)]
    ledger.step(2.0)
    assert steps(ledger, 4.0) == [Finish(199, 2)]


def test_a_mark_past_a_failed_sentence_skips_it():
    assert steps(folded(sentence(100, 0), sentence(100, 1), sentence(100, 2), mark(100, 1))) == [(100, 2)]


def test_a_repeated_end_changes_nothing():
    ledger = folded(done(100, 2), done(100, 0))
    assert ledger.utterance(100).total == 2
