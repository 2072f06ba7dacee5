"""The tables of transaction_table.py, and the heap of deadlines that drives them."""

from __future__ import annotations

import pytest

from edge.sip.timers import Deadlines
from edge.sip.transaction_table import KEEP, MACHINES, Action, Input, Machine, State

pytestmark = pytest.mark.unit

TIMERS = {each for each in Input if each.name.startswith("TIMER")}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
class TestTables:
    def test_every_state_can_be_reached_and_left(self, machine: Machine) -> None:
        reached, todo = {machine.first}, [machine.first]
        while todo:
            for step in machine.table.get(todo.pop(), {}).values():
                if step.state not in reached:
                    reached.add(step.state)
                    todo.append(step.state)
        assert reached == set(machine.table) | {State.TERMINATED}

    def test_every_started_timer_is_handled_and_every_handled_one_started(self, machine: Machine) -> None:
        for state, inputs in machine.table.items():
            running = set(machine.timers.get(state, ())) | set(KEEP.get((machine.name, state), ()))
            assert TIMERS & set(inputs) == running

    def test_every_final_state_ends_by_itself(self, machine: Machine) -> None:
        """No transaction lives for ever: what waits on nobody has a timer that terminates it."""
        for state in set(machine.table) - {State.CALLING, State.TRYING, State.PROCEEDING}:
            ends = [step for event, step in machine.table[state].items() if event in TIMERS]
            assert any(step.state in (State.TERMINATED,) for step in ends)

    def test_nothing_is_sent_up_twice_for_a_retransmission(self, machine: Machine) -> None:
        for state in (State.COMPLETED, State.CONFIRMED):
            for event, step in machine.table.get(state, {}).items():
                assert Action.DELIVER not in step.actions, (state, event)


def test_deadlines_run_in_order_and_once() -> None:
    deadlines, ran = Deadlines(), []
    deadlines.set("b", 2.0, lambda now: ran.append(("b", now)))
    deadlines.set("a", 1.0, lambda now: ran.append(("a", now)))
    deadlines.set("c", 9.0, lambda now: ran.append(("c", now)))
    assert deadlines.next() == 1.0
    deadlines.run(3.0)
    assert ran == [("a", 3.0), ("b", 3.0)]
    assert (deadlines.next(), len(deadlines)) == (9.0, 1)


def test_deadlines_are_replaced_and_cancelled() -> None:
    deadlines, ran = Deadlines(), []
    deadlines.set("a", 1.0, lambda now: ran.append("old"))
    deadlines.set("a", 2.0, lambda now: ran.append("new"))
    deadlines.set("b", 1.0, lambda now: ran.append("b"))
    deadlines.cancel("b")
    deadlines.cancel("never set")
    assert deadlines.next() == 2.0
    deadlines.run(2.0)
    assert ran == ["new"]
    assert deadlines.next() is None


def test_deadlines_set_while_running_for_now_run_too() -> None:
    deadlines, ran = Deadlines(), []

    def first(now: float) -> None:
        deadlines.set("second", now, ran.append)

    deadlines.set("first", 1.0, first)
    deadlines.run(1.5)
    assert ran == [1.5]


def test_cancelled_deadlines_do_not_pile_up() -> None:
    deadlines = Deadlines()
    for number in range(100_000):
        deadlines.set("same", float(number), lambda now: None)
    assert len(deadlines._heap) <= 300
    assert deadlines.next() == 99_999.0
