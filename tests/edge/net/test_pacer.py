"""The pacer over the wheel, on a made-up clock."""

from __future__ import annotations

import asyncio

import pytest

from edge.net.pacer import Pacer

pytestmark = pytest.mark.unit


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Member:
    """Counts its turns."""

    def __init__(self) -> None:
        self.turns: list[tuple[float, float, int]] = []
        self.sweeps: list[float] = []
        self.fail = False

    def turn(self, now: float, late_ms: float, skipped: int) -> None:
        if self.fail:
            raise RuntimeError("broken call")
        self.turns.append((now, late_ms, skipped))

    def sweep(self, now: float) -> None:
        if self.fail:
            raise RuntimeError("broken call")
        self.sweeps.append(now)


def run(pacer: Pacer, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds / 0.005)):
        clock.now += 0.005
        pacer.tick()


def make() -> tuple[Pacer, Clock, list[int]]:
    clock = Clock()
    flushes: list[int] = []
    return Pacer(lambda: flushes.append(1), clock), clock, flushes


def test_each_call_has_fifty_turns_and_one_sweep_a_second_and_each_tick_flushes_once() -> None:
    pacer, clock, flushes = make()
    members = [Member() for _ in range(7)]
    for member in members:
        pacer.add(member)
    run(pacer, clock, 2.5)
    assert len(flushes) == 500
    for member in members:
        assert abs(len(member.turns) - 125) <= 1
        assert len(member.sweeps) in (2, 3)


def test_one_broken_call_does_not_stop_the_others() -> None:
    pacer, clock, _ = make()
    broken, sound = Member(), Member()
    broken.fail = True
    pacer.add(broken)
    pacer.add(sound)
    run(pacer, clock, 1.0)
    assert pacer.failures > 40
    assert len(sound.turns) == 50


def test_a_removed_call_gets_no_turn() -> None:
    pacer, clock, _ = make()
    member = Member()
    pacer.add(member)
    assert len(pacer) == 1
    pacer.remove(member)
    run(pacer, clock, 0.1)
    assert member.turns == []


def test_lateness_is_told_and_counted_per_window() -> None:
    pacer, clock, _ = make()
    member = Member()
    pacer.add(member)
    clock.now += 0.028
    pacer.tick()
    figures = pacer.take_figures()
    assert figures.turns == 1
    assert figures.max_ms == pytest.approx(member.turns[0][1])
    assert pacer.take_figures().turns == 0


def test_what_is_far_too_late_is_skipped() -> None:
    pacer, clock, _ = make()
    member = Member()
    pacer.add(member)
    clock.now += 1.0
    pacer.tick()
    assert sum(skipped for _, _, skipped in member.turns) + len(member.turns) == 50
    assert pacer.take_figures().skipped > 40


async def test_on_the_event_loop_it_keeps_its_deadlines() -> None:
    ticks: list[float] = []
    pacer = Pacer(lambda: ticks.append(asyncio.get_running_loop().time()))
    pacer.start()
    await asyncio.sleep(0.2)
    pacer.stop()
    count = len(ticks)
    assert count >= 20
    await asyncio.sleep(0.03)
    assert len(ticks) == count
