"""A caller is handed over: what the telephone says, and what becomes of the call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.control import send_control
from bus.memory import MemoryServer
from edge.handover import Handover
from edge.sip import events as sip
from edge.sip.errors import SipDefect
from schemas import call, control
from schemas.call import TransferResult
from tests.edge.harness import Edge, running_edge
from tests.fakes.caller import Caller

pytestmark = pytest.mark.integration

CALL = sip.CallHandle(7)
TARGET = "sip:desk@192.0.2.9"


class Agent:
    """Takes the place of the user agent: remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pumped = 0
        self.agent = self

    def refer(self, handle: sip.CallHandle, target: str, now: float) -> None:
        if target == "nonsense":
            raise SipDefect(400, "Bad Request", "malformed URI in Refer-To")
        self.asked.append(target)

    def pump(self) -> None:
        self.pumped += 1


class World:
    """A handover and what it has reported."""

    def __init__(self, timeout_ms: int = 60_000) -> None:
        self.agent = Agent()
        self.reports: list[tuple[str, TransferResult]] = []
        stand_in: Any = self.agent
        self.handover = Handover(
            CALL,
            stand_in,
            lambda scheme, result: self.reports.append((scheme, result)),
            timeout_ms=timeout_ms,
            now=lambda: 0.0,
        )

    def answered(self, status: int) -> None:
        self.handover.on_sip(sip.RequestAnswered(call=CALL, method="REFER", status=status))

    def progress(self, status: int) -> None:
        self.handover.on_sip(sip.ReferProgress(call=CALL, status=status))


async def test_connected() -> None:
    world = World()
    assert world.handover.begin(TARGET).ok
    assert (world.agent.asked, world.agent.pumped) == ([TARGET], 1)
    world.answered(202)
    world.progress(180)
    assert world.reports == []
    world.progress(200)
    assert world.reports == [("sip", TransferResult.CONNECTED)]
    world.progress(486)
    world.handover.close()
    assert len(world.reports) == 1, "it is said once"


@pytest.mark.parametrize(
    ("answer", "progress", "result"),
    [(405, 0, TransferResult.REFUSED), (202, 486, TransferResult.FAILED), (202, 603, TransferResult.FAILED)],
)
async def test_came_to_nothing_and_may_be_tried_again(answer: int, progress: int, result: TransferResult) -> None:
    world = World()
    world.handover.begin("tel:+15551230000")
    world.answered(answer)
    if progress:
        world.progress(progress)
    assert world.reports == [("tel", result)]
    assert world.handover.begin(TARGET).ok


async def test_a_telephone_that_says_nothing_more_has_failed() -> None:
    world = World(timeout_ms=0)
    world.handover.begin(TARGET)
    world.answered(202)
    async with asyncio.timeout(5):
        while not world.reports:
            await asyncio.sleep(0)
    assert world.reports == [("sip", TransferResult.TIMEOUT)]


async def test_one_at_a_time() -> None:
    world = World()
    world.handover.begin(TARGET)
    again = world.handover.begin(TARGET)
    assert (again.ok, again.error) == (False, "invalid_argument")
    assert len(world.agent.asked) == 1


@pytest.mark.parametrize("target", ["", "x" * 256, "nonsense"])
async def test_a_target_that_is_none_is_told(target: str) -> None:
    world = World()
    reply = world.handover.begin(target)
    assert (reply.ok, reply.error) == (False, "invalid_argument")
    assert "target" in reply.message
    assert not world.handover.under_way


@pytest.mark.parametrize(("answer", "result"), [(202, TransferResult.LEFT), (0, TransferResult.FAILED)])
async def test_the_caller_hangs_up_meanwhile(answer: int, result: TransferResult) -> None:
    world = World()
    world.handover.begin(TARGET)
    if answer:
        world.answered(answer)
    world.handover.on_sip(sip.CallHungUp(call=CALL))
    assert world.reports == [("sip", result)]


async def test_other_requests_are_none_of_its_business() -> None:
    world = World()
    world.handover.begin(TARGET)
    world.handover.on_sip(sip.RequestAnswered(call=CALL, method="INFO", status=500))
    assert world.reports == []
    world.handover.close()
    assert world.reports == [("sip", TransferResult.FAILED)]


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    server = MemoryServer()
    async with running_edge(server.connect("edge"), server.connect("observer")) as running:
        yield running


async def test_a_telephone_that_does_not_do_it_keeps_its_call(edge: Edge) -> None:
    """On real sockets: the caller's user agent answers 405."""
    observer = edge.observer
    async with Caller() as caller:
        await caller.dial(edge.port)
        await observer.wait_for(call.CallAnswered)
        command = control.Transfer(call_id=observer.call_id, target=TARGET)
        assert (await send_control(observer.connection, "edge", command)).ok
        refused = await observer.wait_for(call.CallTransferred)
        assert (refused.accepted, refused.result, refused.number) == (False, TransferResult.REFUSED, 1)
        assert observer.of(call.CallEnded) == []
        assert (await send_control(observer.connection, "edge", command)).ok
        assert (await observer.wait_for(call.CallTransferred, 2)).number == 2
        caller.hang_up()
        ended = await observer.wait_for(call.CallEnded)
    assert (ended.result, ended.reason) == ("completed", "caller_hung_up")


async def test_a_target_that_is_no_address_is_refused_at_once(edge: Edge) -> None:
    observer = edge.observer
    async with Caller() as caller:
        await caller.dial(edge.port)
        await observer.wait_for(call.CallAnswered)
        command = control.Transfer(call_id=observer.call_id, target="sip:a@b\r\nEvil: 1")
        reply = await send_control(observer.connection, "edge", command)
        assert (reply.ok, reply.error) == (False, "invalid_argument")
        caller.hang_up()
        await observer.wait_for(call.CallEnded)
    assert observer.of(call.CallTransferred) == []
