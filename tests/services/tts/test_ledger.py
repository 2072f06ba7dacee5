"""What is to be said next, as a fold over events."""

from __future__ import annotations

import pytest

from schemas.call import CallHeld
from schemas.llm import LlmDone, LlmSentence
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutStarted
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnInterrupted
from services.tts.ahead import PlayoutAhead
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


def test_a_mark_past_a_failed_sentence_skips_it():
    assert steps(folded(sentence(100, 0), sentence(100, 1), sentence(100, 2), mark(100, 1))) == [(100, 2)]


def test_a_repeated_end_changes_nothing():
    ledger = folded(done(100, 2), done(100, 0))
    assert ledger.utterance(100).total == 2


# -- audio ahead of playout --------------------------------------------------------------------------------------------


def test_ahead_counts_down_by_the_clock_and_is_put_right_by_marks():
    ahead = PlayoutAhead()
    ahead.sent(100, 0, 4000)
    ahead.sent(100, 1, 6000)
    assert ahead.ahead_ms(50.0) == 10_000
    ahead.fold(PlayoutStarted(**CALL, utterance_id=100, media_time_ms=0), 51.0)
    assert ahead.ahead_ms(52.5) == 8500
    ahead.fold(mark(100, 0), 57.0)
    assert ahead.ahead_ms(57.0) == 6000
    assert ahead.ahead_ms(90.0) == 0
    ahead.sent(100, 2, 1000)
    assert ahead.ahead_ms(58.0) == 6000


def test_ahead_adds_up_utterances_and_forgets_those_over():
    ahead = PlayoutAhead()
    ahead.sent(100, 0, 1000)
    ahead.sent(101, 0, 2000)
    ahead.sent(101, 0, 1500)
    assert ahead.ahead_ms(0.0) == 3000
    ahead.fold(PlayoutFinished(**CALL, utterance_id=100, media_time_ms=0), 0.0)
    assert ahead.ahead_ms(0.0) == 2000
    ahead.drop(101)
    ahead.sent(101, 1, 1000)
    ahead.fold(mark(101, 0), 0.0)
    ahead.fold(PlayoutStarted(**CALL, utterance_id=101, media_time_ms=0), 0.0)
    assert ahead.ahead_ms(0.0) == 0


def test_on_hold_nothing_counts_as_played():
    ahead = PlayoutAhead()
    ahead.sent(100, 0, 10_000)
    ahead.fold(PlayoutStarted(**CALL, utterance_id=100, media_time_ms=0), 0.0)
    ahead.fold(CallHeld(**CALL, change=0, held=True), 2.0)
    assert ahead.held
    assert ahead.ahead_ms(60.0) == 8000
    ahead.fold(CallHeld(**CALL, change=1, held=False), 60.0)
    assert not ahead.held
    assert ahead.ahead_ms(61.0) == 7000
