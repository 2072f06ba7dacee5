"""The circuit breaker: when an engine is left alone, and how it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.resilience.breaker import Breaker, BreakerState, Permit

pytestmark = pytest.mark.unit

CLOSED, HALF_OPEN, OPEN = BreakerState
REST_MS = 30_000


def opened(at_ms: float = 0.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(5, REST_MS)
    for _ in range(5):
        breaker.failed(ask(breaker, at_ms), at_ms)
    return breaker


def ask(breaker: Breaker, now_ms: float) -> Permit:
    permit = breaker.ask(now_ms)
    assert permit is not None
    return permit


def test_the_numbers_are_those_of_the_metric() -> None:
    assert [int(state) for state in (CLOSED, HALF_OPEN, OPEN)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ("", CLOSED),
        ("ffff", CLOSED),
        ("fffff", OPEN),
        ("ffffsffff", CLOSED),
        ("ffffsfffff", OPEN),
        ("ffffdf", OPEN),
        ("dddddddd", CLOSED),
    ],
)
def test_failures_in_a_row_open_it(verdicts: str, state: BreakerState) -> None:
    breaker = Breaker(5, REST_MS)
    for verdict in verdicts:
        permit = ask(breaker, 0)
        if verdict == "f":
            breaker.failed(permit, 0)
        elif verdict == "s":
            breaker.succeeded(permit)
        else:
            breaker.dropped(permit)
    assert breaker.state(0) is state


def test_open_it_allows_nothing_until_its_rest_is_over() -> None:
    breaker = opened(at_ms=1000)
    assert not breaker.allows(1000)
    assert breaker.ask(1000 + REST_MS - 1) is None
    assert breaker.state(1000 + REST_MS - 1) is OPEN
    assert breaker.state(1000 + REST_MS) is HALF_OPEN
    assert breaker.allows(1000 + REST_MS)


def test_half_open_it_allows_one_run_at_a_time() -> None:
    breaker = opened()
    trial = ask(breaker, REST_MS)
    assert trial.trial
    assert breaker.ask(REST_MS) is None
    assert breaker.state(REST_MS) is HALF_OPEN
    breaker.dropped(trial)
    again = ask(breaker, REST_MS + 1)
    assert breaker.ask(REST_MS + 1) is None
    breaker.succeeded(again)
    assert breaker.state(REST_MS + 1) is CLOSED
    assert not ask(breaker, REST_MS + 1).trial


def test_a_trial_that_fails_opens_it_again() -> None:
    breaker = opened()
    breaker.failed(ask(breaker, REST_MS), REST_MS + 10)
    assert breaker.state(REST_MS + 11) is OPEN
    assert breaker.state(2 * REST_MS + 10) is HALF_OPEN


def test_after_a_trial_that_went_well_it_counts_from_nothing() -> None:
    breaker = opened()
    breaker.succeeded(ask(breaker, REST_MS))
    for _ in range(4):
        breaker.failed(ask(breaker, REST_MS), REST_MS)
    assert breaker.state(REST_MS) is CLOSED


def test_a_trial_of_which_nobody_hears_again_does_not_block_it() -> None:
    breaker = opened()
    lost = ask(breaker, REST_MS)
    assert breaker.ask(2 * REST_MS - 1) is None
    second = ask(breaker, 2 * REST_MS)
    breaker.failed(lost, 2 * REST_MS)
    assert breaker.state(2 * REST_MS) is HALF_OPEN, "what the lost one says late is not counted"
    breaker.succeeded(second)
    assert breaker.state(2 * REST_MS) is CLOSED


def test_a_run_that_began_before_it_opened_has_no_say() -> None:
    breaker = Breaker(5, REST_MS)
    slow = [ask(breaker, 0) for _ in range(3)]
    for _ in range(5):
        breaker.failed(ask(breaker, 0), 0)
    breaker.succeeded(slow[0])
    assert breaker.state(0) is OPEN
    breaker.failed(slow[1], REST_MS - 1)
    assert breaker.state(REST_MS) is HALF_OPEN, "the rest is not made longer"
    breaker.dropped(slow[2])
    trial = ask(breaker, REST_MS)
    breaker.dropped(slow[2])
    assert breaker.ask(REST_MS) is None
    breaker.succeeded(trial)


def test_it_can_begin_open() -> None:
    breaker = Breaker(5, REST_MS)
    breaker.trip(0)
    assert breaker.state(0) is OPEN
    assert ask(breaker, REST_MS).trial


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "fail", "succeed", "drop", "wait"]), st.integers(0, 3), st.integers(0, 400)),
        max_size=80,
    ),
    st.integers(1, 4),
)
def test_whatever_happens_at_most_one_trial_is_at_work(steps: list[tuple[str, int, int]], limit: int) -> None:
    breaker, now, permits = Breaker(limit, 1000.0), 0.0, list[tuple[Permit, float]]()
    for what, which, wait_ms in steps:
        now += wait_ms
        before = breaker.state(now)
        if what == "ask":
            allowed = breaker.allows(now)
            permit = breaker.ask(now)
            assert (permit is not None) is allowed
            if permit is not None:
                assert permit.trial is (before is not CLOSED)
                permits.append((permit, now))
        elif permits and what != "wait":
            permit, _ = permits.pop(which % len(permits))
            if what == "fail":
                breaker.failed(permit, now)
            elif what == "succeed":
                breaker.succeeded(permit)
            else:
                breaker.dropped(permit)
        if breaker.state(now) is OPEN:
            assert not breaker.allows(now)
        if breaker.state(now) is CLOSED:
            assert breaker.allows(now)
        if before is OPEN:
            assert breaker.state(now) is OPEN, "only time ends a rest"
    # However it was left: after its rest and the time of a trial it can be used.
    assert breaker.allows(now + 2000)
