"""How much audio is on its way: the clock between events, put right by what the edge tells, still while it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.call import CallHeld
from schemas.playout import (
    PlayoutFinished,
    PlayoutFlushed,
    PlayoutMark,
    PlayoutPaused,
    PlayoutResumed,
    PlayoutStarted,
)
from services.tts.ahead import PAUSE_LIMIT_S, PlayoutAhead

pytestmark = pytest.mark.unit

CALL = {"call_id": "c1", "at_us": 1}


def mark(utterance_id: int, index: int) -> PlayoutMark:
    return PlayoutMark(**CALL, utterance_id=utterance_id, index=index, media_time_ms=0)


def began(utterance_id: int) -> PlayoutStarted:
    return PlayoutStarted(**CALL, utterance_id=utterance_id, media_time_ms=0)


def paused(utterance_id: int, index: int = 0, sent_ms: int = 0) -> PlayoutPaused:
    return PlayoutPaused(**CALL, utterance_id=utterance_id, media_time_ms=0, index=index, sent_ms=sent_ms)


def resumed(utterance_id: int) -> PlayoutResumed:
    return PlayoutResumed(**CALL, utterance_id=utterance_id, media_time_ms=0)


def held(change: int, on_hold: bool) -> CallHeld:
    return CallHeld(**CALL, change=change, held=on_hold)


def playing(duration_ms: int = 10_000, utterance_id: int = 100) -> PlayoutAhead:
    """An utterance of one sentence that began to play at time 0."""
    ahead = PlayoutAhead()
    ahead.sent(utterance_id, 0, duration_ms)
    ahead.fold(began(utterance_id), 0.0)
    return ahead


def test_it_counts_down_by_the_clock_and_is_put_right_by_marks():
    ahead = PlayoutAhead()
    ahead.sent(100, 0, 4000)
    ahead.sent(100, 1, 6000)
    assert ahead.ahead_ms(50.0) == 10_000
    ahead.fold(began(100), 51.0)
    assert ahead.ahead_ms(52.5) == 8500
    ahead.fold(mark(100, 0), 57.0)
    assert ahead.ahead_ms(57.0) == 6000
    ahead.sent(100, 2, 1000)
    assert ahead.ahead_ms(58.0) == 6000
    assert ahead.ahead_ms(90.0) == 0


def test_utterances_add_up_and_those_over_are_forgotten():
    ahead = PlayoutAhead()
    ahead.sent(100, 0, 1000)
    ahead.sent(101, 0, 2000)
    ahead.sent(101, 0, 1500)
    assert ahead.ahead_ms(0.0) == 3000
    ahead.fold(PlayoutFinished(**CALL, utterance_id=100, media_time_ms=0), 0.0)
    assert ahead.ahead_ms(0.0) == 2000
    ahead.drop(101, 0.0)
    ahead.sent(101, 1, 1000)
    for event in (mark(101, 0), began(101), paused(101)):
        ahead.fold(event, 0.0)
    assert ahead.ahead_ms(0.0) == 0
    assert not ahead.standing(0.0)


def test_on_hold_nothing_counts_as_played():
    ahead = playing()
    ahead.fold(held(0, True), 2.0)
    assert ahead.standing(60.0)
    assert ahead.ahead_ms(60.0) == 8000
    ahead.fold(held(1, False), 60.0)
    assert not ahead.standing(60.0)
    assert ahead.ahead_ms(61.0) == 7000


def test_while_paused_nothing_counts_as_played_and_the_pause_says_how_far_it_was():
    ahead = playing()
    ahead.fold(paused(100, sent_ms=1800), 2.0)
    assert ahead.standing(2.0)
    assert ahead.ahead_ms(9.0) == 8200
    ahead.fold(resumed(100), 10.0)
    assert not ahead.standing(10.0)
    assert ahead.ahead_ms(11.0) == 7200


def test_a_pause_in_a_later_sentence_counts_those_before_it_as_played():
    ahead = playing(4000)
    ahead.sent(100, 1, 6000)
    ahead.fold(paused(100, index=1, sent_ms=500), 5.0)
    assert ahead.ahead_ms(6.0) == 5500


def test_what_waits_behind_a_paused_utterance_waits_too():
    ahead = playing(1000)
    ahead.sent(200, 0, 3000)
    ahead.fold(paused(100, sent_ms=500), 0.5)
    assert ahead.ahead_ms(20.0) == 3500


def test_hold_and_pause_at_once_end_with_the_later_one():
    ahead = playing()
    ahead.fold(paused(100, sent_ms=1000), 1.0)
    ahead.fold(held(0, True), 2.0)
    ahead.fold(resumed(100), 5.0)
    assert ahead.standing(6.0)
    assert ahead.ahead_ms(7.0) == 9000
    ahead.fold(held(1, False), 8.0)
    assert ahead.ahead_ms(9.0) == 8000


def test_a_pause_that_nobody_ends_counts_for_its_limit():
    ahead = playing()
    ahead.fold(paused(100, sent_ms=1000), 1.0)
    assert ahead.ahead_ms(PAUSE_LIMIT_S) == 9000
    assert not ahead.standing(PAUSE_LIMIT_S + 1.5)
    assert ahead.ahead_ms(PAUSE_LIMIT_S + 3) == 7000


def test_the_end_of_the_paused_utterance_ends_the_pause_and_no_other():
    for end in (
        PlayoutFlushed(**CALL, utterance_id=100, media_time_ms=0),
        PlayoutFinished(**CALL, utterance_id=100, media_time_ms=0),
    ):
        ahead = playing()
        ahead.fold(paused(100), 1.0)
        ahead.fold(resumed(0), 1.0)
        ahead.drop(0, 1.0)
        assert ahead.standing(1.0)
        ahead.fold(end, 2.0)
        assert not ahead.standing(2.0)
        assert ahead.ahead_ms(2.0) == 0


EVENTS = st.sampled_from(
    [
        began(100),
        paused(100, 0, 300),
        resumed(100),
        held(0, True),
        held(1, False),
        mark(100, 0),
        began(101),
        paused(101),
    ]
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 50)), max_size=20))
def test_it_is_never_negative_and_never_more_than_was_sent(told):
    ahead = PlayoutAhead()
    ahead.sent(100, 0, 4000)
    ahead.sent(101, 0, 2000)
    now = 0.0
    for event, later in told:
        now += later
        ahead.fold(event, now)
        before = ahead.ahead_ms(now)
        assert 0 <= before <= 6000
        now += 0.5
        assert ahead.ahead_ms(now) <= before, "time plays, it never adds"
