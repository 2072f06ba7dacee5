"""The stages took the edge for dead and let go of its calls: it ends them too, for nobody answers their callers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from bus import codec
from bus.clock import wall_us
from bus.consume import follow_all
from bus.fencing import MESSAGE_ID
from bus.memory import MemoryServer
from edge.sip import events as sip
from schemas import subjects
from schemas.base import Event
from schemas.call import EDGE_LOST, CallAnswered, CallEnded, CallOffered, CallResult, EdgeLost, EndedBy
from tests.edge.harness import Edge, running_edge, until
from tests.edge.test_metrics import Grown
from tests.fakes.caller import Caller

pytestmark = pytest.mark.integration

OTHER_CALL = "0192f0c0aaaa7bbb8ccceeeeeeeeeeee"


def end_of(edge: Edge) -> CallEnded:
    return CallEnded(
        call_id=edge.observer.call_id,
        at_us=wall_us(),
        edge="edge-test",
        result=CallResult.FAILED,
        reason=EDGE_LOST,
        ended_by=EndedBy.EDGE,
    )


def lost(edge: Edge, name: str = "edge-test", call_id: str = "") -> EdgeLost:
    return EdgeLost(call_id=call_id or edge.observer.call_id, at_us=wall_us(), edge=name, silent_ms=15_000)


def offered(name: str) -> CallOffered:
    """Another call, which another edge said."""
    return CallOffered(call_id=OTHER_CALL, at_us=wall_us(), edge=name)


async def say(edge: Edge, event: Event) -> None:
    await edge.observer.connection.store(subjects.subject_of(event), codec.encode(event), {MESSAGE_ID: event.dedupe_id})


async def test_a_call_that_the_stages_let_go_of_is_hung_up() -> None:
    """This edge did not hear itself either: it was frozen, or cut off."""
    server = MemoryServer()
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller, Caller() as other:
        await follow_all(connection, ("edge.lost",), edge.board.on_edge_lost, service="edge")
        await caller.dial(edge.port)
        await edge.observer.wait_for(CallAnswered)
        said = lost(edge)
        await other.dial(edge.port)
        await say(edge, said)
        await caller.wait_for(sip.CallHungUp)
        await until(lambda: len(edge.board.calls) == 1)


async def test_a_stage_can_not_end_the_call_of_an_edge_that_lives() -> None:
    server = MemoryServer()
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller:
        edge.board.hears = lambda name: name in ("edge-test", "edge-2")
        await follow_all(connection, ("edge.lost",), edge.board.on_edge_lost, service="edge")
        await caller.dial(edge.port)
        await edge.observer.wait_for(CallAnswered)
        await say(edge, lost(edge))
        await say(edge, lost(edge, "edge-2", OTHER_CALL))
        await asyncio.sleep(0.3)
        assert len(edge.board.calls) == 1
        assert not server.streams["CALLS"].read("call.*.*.call.ended")
        # A moment without the bus is no reason to believe it.
        connection.interrupt()
        await asyncio.sleep(0.1)
        connection.restore()
        await asyncio.sleep(0.3)
        assert len(edge.board.calls) == 1


async def test_an_edge_ends_the_record_of_one_that_died() -> None:
    server = MemoryServer()
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge:
        await follow_all(connection, ("edge.lost",), edge.board.on_edge_lost, service="edge")
        await say(edge, offered("edge-dead"))
        await say(edge, lost(edge, "edge-dead", OTHER_CALL))
        await until(lambda: bool(server.streams["CALLS"].read("call.*.*.call.ended")))
        (message,) = server.streams["CALLS"].read("call.*.*.call.ended")
        end = codec.decode(message.data, CallEnded)
        assert (end.call_id, end.edge, end.reason, end.result) == (OTHER_CALL, "edge-dead", EDGE_LOST, "failed")


async def test_of_several_edges_one_counts_the_call_of_one_that_died() -> None:
    server = MemoryServer()
    first, second = server.connect("edge"), server.connect("edge-3")
    grown = Grown()
    async with running_edge(first, server.connect("a")) as edge, running_edge(second, server.connect("b")) as other:
        await follow_all(first, ("edge.lost",), edge.board.on_edge_lost, service="edge")
        await follow_all(second, ("edge.lost",), other.board.on_edge_lost, service="edge")
        await say(edge, offered("edge-dead"))
        await say(edge, msgspec.structs.replace(lost(edge, "edge-dead", OTHER_CALL), duration_ms=4000))
        await until(lambda: grown("calls_ended_total", result="failed", reason=EDGE_LOST) > 0)
        await asyncio.sleep(0.3)
        assert grown("calls_ended_total", result="failed", reason=EDGE_LOST) == 1
        assert grown("call_duration_seconds_sum") == 4


async def test_a_call_whose_end_another_edge_has_recorded_is_counted_there_alone() -> None:
    server = MemoryServer()
    connection = server.connect("edge")
    grown = Grown()
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(CallAnswered)
        connection.interrupt()
        await say(edge, end_of(edge))
        connection.restore()
        await caller.wait_for(sip.CallHungUp)
        await until(lambda: not edge.board.calls and not edge.board._closing)
        assert grown("calls_ended_total", result="failed", reason=EDGE_LOST) == 0


async def test_a_call_that_was_ended_while_the_bus_was_away_is_hung_up() -> None:
    server = MemoryServer()
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller, Caller() as other:
        await caller.dial(edge.port)
        await edge.observer.wait_for(CallAnswered)
        end = end_of(edge)
        await other.dial(edge.port)
        await edge.observer.wait_for(CallAnswered, 2)
        connection.interrupt()
        await edge.observer.connection.store(subjects.subject_of(end), codec.encode(end), {MESSAGE_ID: end.dedupe_id})
        connection.restore()
        await caller.wait_for(sip.CallHungUp)
        await until(lambda: len(edge.board.calls) == 1)


async def test_a_stage_ends_no_call_by_naming_an_edge_that_nobody_has() -> None:
    server = MemoryServer()
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller:
        edge.board.hears = lambda name: name in ("edge-test", "edge-2")
        await follow_all(connection, ("edge.lost",), edge.board.on_edge_lost, service="edge")
        await caller.dial(edge.port)
        await edge.observer.wait_for(CallAnswered)
        await say(edge, offered("edge-2"))
        await say(edge, lost(edge, "edge-nobody"))
        await say(edge, lost(edge, "edge-nobody", OTHER_CALL))
        await asyncio.sleep(0.3)
        assert len(edge.board.calls) == 1
        assert not server.streams["CALLS"].read("call.*.*.call.ended")


@pytest.mark.parametrize("cut_off", [False, True])
async def test_an_edge_that_was_frozen_ends_its_calls(cut_off: bool) -> None:
    """It is heard, for its last word before it froze is read with all else; or the server cut it off, and it is back at
    once. No other edge has ended the record."""
    server = MemoryServer()
    grown = Grown()
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller:
        edge.board.hears = lambda name: name == "edge-test"
        now, frozen_s = edge.board._now, 0.0
        edge.board._now = lambda: now() + frozen_s
        edge.board.beat()
        await caller.dial(edge.port)
        await edge.observer.wait_for(CallAnswered)
        if not cut_off:
            await follow_all(connection, ("edge.lost",), edge.board.on_edge_lost, service="edge")
        frozen_s = 20.0
        if cut_off:
            await say(edge, lost(edge))
            connection.interrupt()
            connection.restore()
        else:
            await say(edge, lost(edge))
        await caller.wait_for(sip.CallHungUp)
        await until(lambda: grown("calls_ended_total", result="failed", reason=EDGE_LOST) == 1)


async def test_an_edge_that_runs_again_asks_for_its_calls() -> None:
    server = MemoryServer()
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller:
        edge.board.hears = lambda name: True
        now, frozen_s = edge.board._now, 0.0
        edge.board._now = lambda: now() + frozen_s
        edge.board.beat()
        await caller.dial(edge.port)
        await edge.observer.wait_for(CallAnswered)
        await say(edge, lost(edge))
        edge.board.beat()
        await asyncio.sleep(0.2)
        assert len(edge.board.calls) == 1
        frozen_s = 20.0
        edge.board.beat()
        await caller.wait_for(sip.CallHungUp)
