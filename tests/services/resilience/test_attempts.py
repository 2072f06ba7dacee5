"""Which engine is asked next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import FailoverSection
from services.resilience.attempts import CUT, EMPTY, FAILED, TIMEOUT, Attempt, Attempts, Roster

pytestmark = pytest.mark.unit


class Counted:
    """What was told of the engines."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def state(self, engine: str, state: int) -> None:
        self.told.append(("state", engine, state))

    def error(self, engine: str, why: str) -> None:
        self.told.append(("error", engine, why))

    def failover(self, engine: str) -> None:
        self.told.append(("failover", engine))

    def hedge(self, result: str) -> None:
        self.told.append(("hedge", result))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [each[1:] for each in self.told if each[0] == kind]


def roster(*names: str, figures: Counted | None = None, **settings: Any) -> Roster:
    return Roster(names or ("a", "b"), FailoverSection(**settings), lambda: 0.5, figures or Counted())


def take(attempts: Attempts, now_ms: float = 0.0) -> Attempt:
    attempt = attempts.next(now_ms)
    assert attempt is not None
    return attempt


@pytest.mark.parametrize(
    ("failures", "asked"),
    [
        # What goes wrong with each try in turn, and who is asked, with the pause before.
        ([FAILED, FAILED, FAILED, FAILED], [("a", 0), ("a", 25), ("b", 0), ("b", 25)]),
        ([EMPTY, FAILED, FAILED], [("a", 0), ("a", 25), ("b", 0), ("b", 25)]),
        ([TIMEOUT, TIMEOUT], [("a", 0), ("b", 0)]),
        ([FAILED, TIMEOUT, FAILED], [("a", 0), ("a", 25), ("b", 0), ("b", 25)]),
        # Broken off: the others first, then the same one again for what is left.
        ([CUT, FAILED, FAILED, FAILED], [("a", 0), ("b", 0), ("b", 25), ("a", 25)]),
        ([CUT, CUT, CUT, CUT], [("a", 0), ("b", 0), ("a", 25), ("b", 25)]),
    ],
)
def test_the_order_of_the_tries(failures: list[str], asked: list[tuple[str, float]]) -> None:
    attempts, seen = Attempts(roster()), []
    for why in failures:
        attempt = take(attempts)
        seen.append((attempt.name, attempt.pause_ms))
        attempt.failed(0, why, "X", output=why == CUT)
    rest = attempts.next(0)
    seen += [] if rest is None else [(rest.name, rest.pause_ms)]
    assert seen == asked
    if rest is not None:
        rest.failed(0, FAILED, "X")
    assert attempts.next(0) is None


def test_an_engine_whose_breaker_is_open_is_passed_by_and_tried_when_its_rest_is_over() -> None:
    figures = Counted()
    engines = roster(figures=figures, failures=5, open_ms=1000, attempts=1)
    for _ in range(5):
        attempts = Attempts(engines)
        take(attempts).failed(0, FAILED, "X")
        assert take(attempts).name == "b"
    attempts = Attempts(engines)
    assert take(attempts, 999).name == "b"
    trial, beside = Attempts(engines), Attempts(engines)
    first = take(trial, 1000)
    assert first.name == "a"
    assert take(beside, 1000).name == "b", "one run tries it, the others do not wait for it"
    first.succeeded(1001)
    assert take(Attempts(engines), 1001).name == "a"
    assert figures.of("state") == [("a", 0), ("b", 0), ("a", 2), ("a", 1), ("a", 0)]
    assert figures.of("error") == [("a", FAILED)] * 5


def test_who_else_is_left() -> None:
    engines = roster("a", "b", failures=1, open_ms=1000)
    attempts = Attempts(engines)
    first = take(attempts)
    assert attempts.others(0, first.index)
    take(Attempts(engines)).let_go(0, waited_ms=0, limit_ms=800, output=False)
    other = attempts.next(0, beside=first.index)
    assert other is not None and other.name == "b"
    other.failed(0, FAILED, "X")
    assert not attempts.others(0, first.index), "its breaker is open"
    assert attempts.others(1000, first.index)
    assert attempts.next(0, beside=first.index) is None


def test_what_was_taken_over_is_told_once_and_never_by_the_winner_of_itself() -> None:
    figures = Counted()
    attempts = Attempts(roster("a", "b", "c", figures=figures))
    take(attempts).failed(0, FAILED, "ValueError")
    take(attempts).failed(0, TIMEOUT, "nothing for 800 ms")
    take(attempts).failed(0, EMPTY, "no audio")
    winner = take(attempts)
    (takeover,) = attempts.takeovers(winner)
    assert takeover.detail == "engine a: nothing for 800 ms; b took over"
    assert takeover.code == "engine_timeout"
    assert attempts.takeovers(winner) == []
    winner.failed(0, CUT, "ClientError", output=True)
    (takeover,) = attempts.takeovers(take(attempts))
    assert (takeover.code, takeover.next_engine) == ("engine_failed", "c")
    assert figures.of("failover") == [("a",), ("b",)]


def test_an_engine_that_works_at_its_second_try_was_not_taken_over() -> None:
    attempts = Attempts(roster())
    take(attempts).failed(0, FAILED, "X")
    assert attempts.takeovers(take(attempts)) == []


def test_the_error_names_every_engine() -> None:
    engines = roster("a", "b", "c", failures=1)
    engines.leave_out(2, 0)
    attempts = Attempts(engines)
    take(attempts).failed(0, FAILED, "ValueError")
    take(attempts).failed(0, TIMEOUT, "nothing for 800 ms")
    assert attempts.next(0) is None
    assert str(attempts.down()) == "a: ValueError; b: nothing for 800 ms; c: left alone"


def test_an_engine_that_is_left_out_comes_back_only_when_it_is_let_in() -> None:
    figures = Counted()
    engines = roster(figures=figures, open_ms=10)
    engines.leave_out(0, 0)
    assert engines.ask(0, 100_000) is None
    assert take(Attempts(engines)).name == "b"
    engines.let_in(0, 0)
    assert take(Attempts(engines)).name == "a"
    assert figures.of("state") == [("a", 0), ("b", 0), ("a", 2), ("a", 0)]


@pytest.mark.parametrize(
    ("waited_ms", "output", "told", "state"),
    [(799, False, [], 1), (799, True, [], 0), (800, False, [("a", TIMEOUT)], 2), (800, True, [("a", TIMEOUT)], 2)],
)
def test_what_it_means_for_a_trial_to_be_let_go(waited_ms: float, output: bool, told: Any, state: int) -> None:
    figures = Counted()
    engines = roster("a", figures=figures, failures=1, open_ms=1000)
    take(Attempts(engines)).failed(0, FAILED, "X")
    figures.told.clear()
    attempt = take(Attempts(engines), 1000)
    attempt.let_go(1000, waited_ms=waited_ms, limit_ms=800, output=output)
    attempt.failed(1000, FAILED, "only the first verdict counts")
    assert figures.of("error") == told
    assert engines.state(0, 1000) == state


@given(st.lists(st.sampled_from([FAILED, TIMEOUT, EMPTY, CUT, "good"]), max_size=20), st.integers(1, 3))
def test_no_engine_is_asked_more_often_than_allowed(verdicts: list[str], most: int) -> None:
    attempts, asked = Attempts(roster("a", "b", "c", attempts=most, failures=100)), []
    for why in verdicts:
        attempt = attempts.next(0)
        if attempt is None:
            break
        asked.append(attempt.name)
        if why == "good":
            attempt.succeeded(0)
        else:
            attempt.failed(0, why, "X", output=why == CUT)
    assert all(asked.count(name) <= most for name in "abc")
