"""Calls whose edge has died: nobody else says that they are over, and every stage would keep them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from bus.clock import wall_us
from bus.consume import read_call
from bus.edges import is_recorded
from bus.interface import Connection
from bus.publish import Recorder
from ops.session import events_of, offered_calls
from schemas.call import CallAnswered, CallEnded, CallOffered, ended_with_its_edge

STORE_MS = 2000


async def end_dead_calls(connection: Connection, edges: Collection[str] | None = None) -> list[CallEnded]:
    """Record ``call.ended`` (failed, ``edge_lost``) for every call of ``edges`` that has no end; None: of any edge.

    The ends that were recorded so; nobody has counted these calls yet. Only for who knows that those processes are
    gone. Raises ``BusError``.
    """
    ended = {event.call_id async for event in events_of(connection, CallEnded)}
    dead = [
        call
        async for call in offered_calls(connection)
        if call.call_id not in ended and (edges is None or call.edge in edges)
    ]
    ends = [await _end(connection, call) for call in dead]
    recorded = await asyncio.gather(*(is_recorded(connection, end) for end in ends))
    return [end for end, is_in in zip(ends, recorded, strict=True) if is_in]


async def _end(connection: Connection, call: CallOffered) -> CallEnded:
    events = await read_call(connection, call.call_id, call.tenant)
    answered_us = next((event.at_us for event in events if isinstance(event, CallAnswered)), None)
    last_us = max((event.at_us for event in events), default=0)
    recorder = Recorder(connection, service="up")
    end = ended_with_its_edge(
        call_id=call.call_id,
        tenant=call.tenant,
        at_us=wall_us(),
        edge=call.edge,
        duration_ms=(last_us - answered_us) // 1000 if answered_us is not None else 0,
    )
    recorder.record(end)
    await recorder.close(STORE_MS)
    return end
