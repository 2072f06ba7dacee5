"""Who stands back from new calls, for how long, and what that costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from bus.interface import Claimable
from bus.sharing import ASIDE_S, IDLE_MS, LONGEST_MS, STEP_MS, FairShare, Load, patience_ms
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("mine", "others", "wanted"),
    [
        (Load(5, 20), [], 0.0),
        (Load(0, 20), [Load(0, 20)], 0.0),
        (Load(3, 20), [Load(3, 20), Load(4, 20)], 0.0),
        (Load(3, 20), [Load(2, 20), Load(4, 20)], STEP_MS),
        (Load(5, 20), [Load(2, 20), Load(4, 20)], 3 * STEP_MS),
        (Load(20, 20), [Load(0, 20)], LONGEST_MS),
        (Load(9, 20), [Load(4, 4)], 0.0),
        (Load(6, 60), [Load(2, 20)], 0.0),
        (Load(6, 60), [Load(1, 20)], 3 * STEP_MS),
        (Load(2, 20), [Load(5, 60)], 0.0),
        (Load(3, 20), [Load(6, 60)], STEP_MS),
        (Load(3, 20), [Load(0, 0)], 0.0),
    ],
    ids=[
        "alone", "nobody has any", "least of all", "one more than the least", "three more", "never longer than that",
        "the other one is full", "as full as a smaller one", "fuller than a smaller one", "less than a call fuller",
        "fuller than a bigger one", "one without any room",
    ],
)  # fmt: skip
def test_how_long_a_call_is_left_to_others(mine: Load, others: list[Load], wanted: float) -> None:
    assert patience_ms(mine, others) == pytest.approx(wanted)


class Queue:
    """Notes when it is asked, and whether the asker would wait."""

    def __init__(self, there: Callable[[], bool] = lambda: False) -> None:
        self.asked: list[tuple[float, bool]] = []
        self._there = there

    async def fetch(self, count: int, timeout_ms: int, *, wait: bool = True) -> list[Claimable]:
        assert count == 1
        self.asked.append((asyncio.get_running_loop().time(), wait))
        if self._there():
            return [None]  # type: ignore[list-item]
        if wait:
            await asyncio.sleep(timeout_ms / 1000)
        return []

    def pauses_ms(self) -> list[float]:
        times = [at for at, _ in self.asked]
        return [(later - sooner) * 1000 for sooner, later in pairwise(times)]


def test_with_least_to_do_it_waits_at_the_queue() -> None:
    async def scenario() -> None:
        queue, share = Queue(), FairShare(lambda: Load(2, 20), lambda: [Load(2, 20)])
        assert await share.fetch(queue, 500) == []
        assert queue.asked == [(0.0, True)]

    run_virtual(scenario())


def test_ahead_it_looks_ever_less_often_and_soon_again_once_something_came() -> None:
    async def scenario() -> None:
        there = [False, False, False, False, False, True, False, False]
        queue = Queue(lambda: there.pop(0))
        share = FairShare(lambda: Load(3, 20), lambda: [Load(2, 20)])
        found = [len(await share.fetch(queue, 500)) for _ in range(8)]
        assert found == [0, 0, 0, 0, 0, 1, 0, 0]
        assert not any(wait for _, wait in queue.asked)
        assert queue.asked[0][0] == pytest.approx(STEP_MS / 1000)
        assert queue.pauses_ms() == pytest.approx([10, 20, 40, IDLE_MS, IDLE_MS, STEP_MS, 10])

    run_virtual(scenario())


def test_no_longer_ahead_it_goes_to_the_queue_at_once() -> None:
    async def scenario() -> None:
        others = [Load(0, 20)]
        queue, share = Queue(), FairShare(lambda: Load(5, 20), lambda: others)
        fetching = asyncio.create_task(share.fetch(queue, 500))
        await asyncio.sleep(0.003)
        others[0] = Load(1, 20)
        share.changed()
        await asyncio.sleep(0.003)
        assert not fetching.done(), "still ahead: the wait goes on where it was"
        others[0] = Load(5, 20)
        share.changed()
        assert await fetching == []
        assert asyncio.get_running_loop().time() == pytest.approx(0.006)
        await share.fetch(queue, 500)
        assert queue.asked[0] == pytest.approx((0.006, True))
        assert len(queue.asked) == 1

    run_virtual(scenario())


@pytest.mark.parametrize(("others", "first_s"), [([Load(4, 20)], ASIDE_S), ([Load(4, 4)], 0.0), ([], 0.0)])
def test_who_could_not_take_a_call_leaves_all_to_others_where_there_are_any(others: list[Load], first_s: float) -> None:
    async def scenario() -> None:
        queue, share = Queue(), FairShare(lambda: Load(0, 20), lambda: others)
        share.failed()
        while not queue.asked:
            assert await share.fetch(queue, 500) == []
        assert queue.asked[0] == pytest.approx((first_s, True))

    run_virtual(scenario())
