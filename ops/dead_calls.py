"""Calls whose edge has died: nobody else says that they are over, and every stage would keep them."""

from __future__ import annotations

from collections.abc import Collection

from bus.clock import wall_us
from bus.consume import read_call
from bus.interface import Connection
from bus.publish import Recorder
from ops.session import events_of, offered_calls
from schemas.call import CallAnswered, CallEnded, CallOffered, ended_with_its_edge

STORE_MS = 2000


async def end_dead_calls(connection: Connection, edges: Collection[str] | None = None) -> int:
    """Record ``call.ended`` (failed, ``edge_lost``) for every call of ``edges`` that has no end; None: of any edge.

    How many there were. Only for who knows that those processes are gone. Raises ``BusError``.
    """
    ended = {event.call_id async for event in events_of(connection, CallEnded)}
    dead = [
        call
        async for call in offered_calls(connection)
        if call.call_id not in ended and (edges is None or call.edge in edges)
    ]
    for call in dead:
        await _end(connection, call)
    return len(dead)


async def _end(connection: Connection, call: CallOffered) -> None:
    events = await read_call(connection, call.call_id, call.tenant)
    answered_us = next((event.at_us for event in events if isinstance(event, CallAnswered)), None)
    last_us = max((event.at_us for event in events), default=0)
    recorder = Recorder(connection, service="up")
    recorder.record(
        ended_with_its_edge(
            call_id=call.call_id,
            tenant=call.tenant,
            at_us=wall_us(),
            edge=call.edge,
            duration_ms=(last_us - answered_us) // 1000 if answered_us is not None else 0,
        )
    )
    await recorder.close(STORE_MS)
