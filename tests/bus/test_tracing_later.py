from __future__ import annotations

import asyncio

import pytest

from bus.spans import Attributes
from bus.tracing_later import BREATH_S, DELAY_S, SLICE, LaterObserver
from schemas.base import Event
from schemas.call import CallOffered
from schemas.turn import TurnStarted
from tests.bus.test_tracing_calls import offered
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit

CALL = "0" * 31 + "1"


class Told:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.at: list[float] = []
        self.fault = ""

    def _note(self, name: str) -> None:
        self.names.append(name)
        self.at.append(asyncio.get_running_loop().time())
        if name == self.fault:
            raise ValueError(name)

    def claimed(self, offered: CallOffered, epoch: int, takeover: bool, now_us: int) -> None:
        self._note(f"claimed {epoch} {takeover} {now_us}")

    def said(self, event: Event) -> None:
        self._note(f"said {event.at_us}")

    def heard(self, event: Event, received_us: int, live: bool) -> None:
        self._note(f"heard {event.at_us} {received_us} {live}")

    def left(self, call_id: str) -> None:
        self._note(f"left {call_id}")

    def annotate(self, call_id: str, turn: int, attributes: Attributes) -> None:
        self._note(f"annotate {turn} {attributes}")

    def sampled(self, call_id: str) -> bool:
        return call_id == CALL


def event(at_us: int) -> Event:
    return TurnStarted(call_id=CALL, tenant="default", at_us=at_us, epoch=1, turn=1)


def test_everything_is_told_a_moment_later_in_order() -> None:
    told = Told()

    async def scenario() -> None:
        later = LaterObserver(told)
        began = asyncio.get_running_loop().time()
        later.claimed(offered(), 2, True, 5)
        later.said(event(10))
        later.annotate(CALL, 1, {"a": 1})
        later.heard(event(20), 25, True)
        later.left(CALL)
        assert (later.sampled(CALL), later.sampled("other")) == (True, False)
        assert (told.names, later.waiting) == ([], 5)
        await asyncio.sleep(DELAY_S * 1.5)
        assert [round(at - began, 6) for at in told.at] == [DELAY_S] * 5
        assert later.waiting == 0

    run_virtual(scenario())
    assert told.names == ["claimed 2 True 5", "said 10", "annotate 1 {'a': 1}", "heard 20 25 True", f"left {CALL}"]


def test_much_at_once_leaves_the_event_loop_room() -> None:
    told = Told()

    async def scenario() -> None:
        later = LaterObserver(told)
        for number in range(SLICE * 2 + 1):
            later.said(event(number))
        await asyncio.sleep(DELAY_S + BREATH_S * 10)

    run_virtual(scenario())
    assert told.names == [f"said {number}" for number in range(SLICE * 2 + 1)]
    moments = sorted(set(told.at))
    assert [told.at.count(moment) for moment in moments] == [SLICE, SLICE, 1]
    assert moments[1] - moments[0] == pytest.approx(BREATH_S)


def test_what_waits_at_the_end_is_told_then() -> None:
    told = Told()

    async def scenario() -> None:
        later = LaterObserver(told)
        for number in range(SLICE * 2):
            later.said(event(number))
        later.catch_up()
        assert len(told.names) == SLICE * 2
        await asyncio.sleep(1.0)

    run_virtual(scenario())
    assert len(told.names) == SLICE * 2


def test_a_fault_costs_what_it_is_about_and_nothing_else() -> None:
    told = Told()
    told.fault = "said 1"

    async def scenario() -> None:
        later = LaterObserver(told)
        for number in range(3):
            later.said(event(number))
        await asyncio.sleep(1.0)
        later.said(event(3))
        await asyncio.sleep(1.0)

    run_virtual(scenario())
    assert told.names == ["said 0", "said 1", "said 2", "said 3"]
