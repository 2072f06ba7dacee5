from __future__ import annotations

from collections import Counter

import pytest

from bus.guard import LagGuard
from bus.liveness import Due, Liveness, allocate, ranked, standby_ms
from config.settings import OwnershipSection
from schemas.session import Stage, WorkerRecord

pytestmark = pytest.mark.unit

SETTINGS = OwnershipSection(heartbeat_ms=100, suspect_ms=250, confirm_ms=300)
NOTHING = Due([], [])


def record(worker: str, calls: int = 0, slots: int = 10, draining: bool = False) -> WorkerRecord:
    return WorkerRecord(stage=Stage.ASR, worker=worker, calls=calls, slots=slots, draining=draining)


def heard(*workers: str, at: float = 0.0) -> Liveness:
    liveness = Liveness(SETTINGS)
    for worker in workers:
        liveness.heard(worker, record(worker), at)
    return liveness


def test_worker_that_beats_is_left_alone() -> None:
    liveness = heard("a")
    for now in range(100, 2000, 100):
        liveness.heard("a", record("a"), float(now))
        assert liveness.due(now + 50.0) == NOTHING


def test_silent_worker_is_asked_once_and_dies_of_silence() -> None:
    liveness = heard("a")
    assert liveness.due(249.0) == NOTHING
    assert liveness.due(250.0) == Due(["a"], [])
    assert liveness.due(549.0) == NOTHING
    assert liveness.due(550.0) == Due([], ["a"])
    assert liveness.due(551.0) == NOTHING
    assert liveness.is_dead("a")
    assert liveness.silence_ms("a", 551.0) == 551.0


def test_answer_saves_it() -> None:
    liveness = heard("a")
    liveness.due(250.0)
    liveness.heard("a", record("a"), 400.0)
    assert liveness.due(600.0) == NOTHING
    assert not liveness.is_dead("a")


def test_nobody_there_is_dead_at_once() -> None:
    liveness = heard("a")
    liveness.nobody_there("a")
    assert not liveness.is_dead("a"), "nobody asked"
    liveness.due(250.0)
    liveness.nobody_there("a")
    assert liveness.is_dead("a")


def test_question_that_was_not_put_judges_nobody() -> None:
    liveness = heard("a")
    liveness.due(250.0)
    liveness.unasked("a", 260.0)
    assert liveness.due(500.0) == NOTHING
    assert liveness.due(510.0) == Due(["a"], [])


def test_end_of_connection_asks_early_but_not_at_once() -> None:
    liveness = heard("a")
    liveness.connection_ended("a", 10.0)
    assert liveness.due(100.0) == NOTHING, "a reconnect looks the same: time for its subscriptions"
    assert liveness.due(160.0) == Due(["a"], [])


def test_reconnected_worker_is_not_asked() -> None:
    liveness = heard("a")
    liveness.connection_ended("a", 10.0)
    liveness.heard("a", record("a"), 120.0)
    assert liveness.due(200.0) == NOTHING


def test_stranger_is_nobodys_concern() -> None:
    liveness = Liveness(SETTINGS)
    liveness.connection_ended("edge-1", 0.0)
    liveness.nobody_there("edge-1")
    liveness.unasked("edge-1", 0.0)
    assert liveness.due(1000.0) == NOTHING
    assert not liveness.is_dead("edge-1")
    assert liveness.silence_ms("edge-1", 5.0) == 0.0


def test_owner_that_was_never_heard_is_asked_too() -> None:
    liveness = Liveness(SETTINGS)
    liveness.expect("ghost", 1000.0)
    liveness.expect("ghost", 1200.0)
    assert liveness.due(1250.0) == Due(["ghost"], [])
    assert "ghost" not in liveness.free_slots()
    assert liveness.due(1550.0) == Due([], ["ghost"])
    liveness.forget_dead({"ghost"}, 70_000.0)
    assert liveness.is_dead("ghost")
    liveness.forget_dead({"a"}, 50_000.0)
    assert liveness.is_dead("ghost")
    liveness.forget_dead({"a"}, 70_000.0)
    assert not liveness.is_dead("ghost")
    assert liveness.due(80_000.0) == NOTHING


def test_dead_worker_that_beats_again_is_alive() -> None:
    liveness = heard("a")
    liveness.due(250.0)
    liveness.due(550.0)
    liveness.heard("a", record("a"), 4000.0)
    assert not liveness.is_dead("a")
    assert liveness.due(4100.0) == NOTHING


def test_own_absence_is_nobodys_silence() -> None:
    liveness = heard("a", "b")
    liveness.connection_ended("b", 0.0)
    liveness.away(3000.0)
    assert liveness.due(3100.0) == NOTHING
    assert liveness.due(3150.0) == Due(["b"], [])
    liveness.away(1000.0)
    assert liveness.due(4260.0) == Due(["a"], [])


def test_after_the_server_was_away_everybody_gets_time() -> None:
    liveness = heard("a", "dead")
    liveness.due(250.0)
    liveness.heard("a", record("a"), 260.0)
    liveness.due(560.0)
    liveness.everybody_reconnects(600.0, 1500.0)
    assert liveness.is_dead("dead")
    assert liveness.due(2300.0) == NOTHING
    assert liveness.due(2350.0) == Due(["a"], [])


def test_free_slots_of_those_who_can_take_calls() -> None:
    liveness = heard("a", "dead", "asked")
    liveness.heard("full", record("full", calls=12, slots=10), 0.0)
    liveness.heard("leaving", record("leaving", draining=True), 0.0)
    assert liveness.leaving() == {"leaving"}
    for worker in ("a", "full", "leaving"):
        liveness.heard(worker, None, 240.0)
    liveness.due(250.0)
    assert liveness.free_slots() == {"a": 10, "full": 0}
    liveness.due(550.0)
    assert liveness.leaving() == {"leaving", "dead", "asked"}


def test_everybody_computes_the_same_ranking() -> None:
    assert ranked("call-1", ["a", "b", "c"]) == ranked("call-1", ["c", "a", "b"])
    first = Counter(ranked(f"call-{n}", ["a", "b", "c"])[0] for n in range(300))
    assert all(70 < count < 130 for count in first.values())


def test_calls_are_shared_out_by_free_slots() -> None:
    calls = [f"call-{n}" for n in range(10)]
    chosen = allocate(calls, {"a": 3, "b": 4, "c": 0})
    counts = Counter(chosen.values())
    assert counts == {"a": 3, "b": 4}
    assert allocate(calls, {}) == {}


def test_only_the_chosen_one_does_not_wait() -> None:
    free = {"a": 5, "b": 5, "c": 0}
    order = ranked("call-1", free)
    waits = {worker: standby_ms("call-1", worker, free, "a") for worker in free}
    assert waits["a"] == 0.0
    assert waits["b"] == 150.0 + 20.0 * order.index("b")
    assert waits["c"] == 500.0 + 20.0 * order.index("c"), "over its limit only where nobody else comes"
    assert standby_ms("call-1", "d", free, None) >= 500.0, "who is not known to have slots has none"


def test_guard_closes_by_itself_and_opens_by_word() -> None:
    now = [0.0]
    guard = LagGuard(lambda: now[0])
    opened: list[int] = []
    guard.on_open(lambda: opened.append(1))
    now[0] = 100.0
    assert guard.passes(), "who owns nothing is never held back"
    guard.arm(0.4)
    now[0] += 0.3
    assert guard.beat()
    now[0] += 0.5
    assert not guard.passes()
    assert not guard.beat(), "standing still is noticed by the beat as well"
    now[0] += 0.1
    assert not guard.passes(), "a beat does not open it"
    guard.open()
    assert guard.passes()
    assert opened == [1]
    guard.open()
    assert opened == [1]


def test_guard_forgets_listeners() -> None:
    guard = LagGuard(lambda: 0.0)

    def listener() -> None:
        raise AssertionError("forgotten")

    guard.on_open(listener)
    guard.forget(listener)
    guard.forget(listener)
    guard._closed = True
    guard.open()
