"""The stages took the edge for dead and let go of its calls: it ends them too, for nobody answers their callers."""

from __future__ import annotations

import pytest

from bus import codec
from bus.clock import wall_us
from bus.consume import follow_all
from bus.fencing import MESSAGE_ID
from bus.memory import MemoryServer
from edge.sip import events as sip
from schemas import subjects
from schemas.call import EDGE_LOST, CallAnswered, CallEnded, CallResult, EndedBy
from tests.edge.harness import Edge, running_edge, until
from tests.fakes.caller import Caller

pytestmark = pytest.mark.integration


def end_of(edge: Edge) -> CallEnded:
    return CallEnded(
        call_id=edge.observer.call_id,
        at_us=wall_us(),
        edge="edge-test",
        result=CallResult.FAILED,
        reason=EDGE_LOST,
        ended_by=EndedBy.EDGE,
    )


async def test_a_call_that_others_ended_is_hung_up() -> None:
    server = MemoryServer()
    connection = server.connect("edge")
    async with running_edge(connection, server.connect("observer")) as edge, Caller() as caller, Caller() as other:
        await follow_all(connection, ("call.ended",), edge.board.on_ended_elsewhere, service="edge")
        await caller.dial(edge.port)
        await edge.observer.wait_for(CallAnswered)
        end = end_of(edge)
        await other.dial(edge.port)
        await edge.observer.connection.store(subjects.subject_of(end), codec.encode(end), {MESSAGE_ID: end.dedupe_id})
        await caller.wait_for(sip.CallHungUp)
        await until(lambda: len(edge.board.calls) == 1)


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
