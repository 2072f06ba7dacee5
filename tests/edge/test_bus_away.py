"""NATS goes away in mid-call: the call does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bus.client import connect
from bus.consume import read_call
from bus.control import send_control
from bus.interface import Connection
from bus.memory import MemoryServer
from bus.provision import apply
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from schemas import call, control, failure, subjects
from schemas.audio import AudioFlag, pack_audio, segment_sequence, unpack_audio
from tests.edge.harness import running_edge, until
from tests.fakes.caller import Caller, tone


@pytest.mark.integration
async def test_in_memory_a_call_outlives_the_bus_and_a_new_one_is_refused() -> None:
    server = MemoryServer()
    async with (
        running_edge(server.connect("edge"), server.connect("observer")) as edge,
        Caller() as caller,
        Caller() as second,
    ):
        await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(10))
        await until(lambda: len(edge.observer.frames) == 10)
        server.stop()
        await caller.talk((tone(n) for n in range(10, 30)), every_s=0.02)
        refused = await second.refused(edge.port)
        assert (refused.status, refused.retry_after_s) == (503, 5)
        server.start()
        said = await edge.observer.wait_for(failure.Failure)
        assert said.code == "bus_disconnected"
        assert said.gap_ms >= 300
        count = len(caller.rtp_in)
        await until(lambda: len(caller.rtp_in) > count + 3)
        caller.hang_up()
        await edge.observer.wait_for(call.CallEnded)
        events = await read_call(edge.observer.connection, said.call_id, "default")
    assert [type(event) for event in events] == [call.CallOffered, call.CallAnswered, failure.Failure, call.CallEnded]


async def stored_failure(connection: Connection, call_id: str) -> failure.Failure:
    """The call's first failure event, once it is stored."""
    async with asyncio.timeout(10):
        while True:
            for event in await read_call(connection, call_id, "default"):
                if isinstance(event, failure.Failure):
                    return event
            await asyncio.sleep(0.05)


@pytest.mark.integration
@pytest.mark.bus
async def test_a_restarted_nats_server_loses_nothing_that_is_recorded(
    fresh_nats: Callable[..., NatsServerProcess],
) -> None:
    server = fresh_nats()
    edge_side = await connect("edge", NatsSection(url=server.url))
    observing = await connect("observer", NatsSection(url=server.url))
    await apply(edge_side, StreamsSection())
    sent: list[bytes] = []
    try:
        async with running_edge(edge_side, observing) as edge, Caller() as caller:
            await caller.dial(edge.port)
            await edge.observer.wait_for(call.CallAnswered)
            call_id = edge.observer.call_id
            talking = asyncio.create_task(caller.talk((tone(n) for n in range(150)), every_s=0.02))
            await asyncio.sleep(0.6)
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
            sent = await talking
            # Out of the stream: the edge may be back, and say so, before the observer is.
            said = await stored_failure(observing, call_id)
            assert (said.code, said.stage) == ("bus_disconnected", "edge")
            assert said.gap_ms >= 400
            words = [tone(9000 + n) for n in range(5)]
            observing.publish(
                subjects.live_audio("out", call_id),
                pack_audio(
                    b"".join(words), sequence=segment_sequence(0, 0), frame_count=5, flags=AudioFlag.SEGMENT_END
                ),
            )
            await caller.hear(words)
            assert (await send_control(observing, "edge", control.Hangup(call_id=call_id))).ok
            await edge.observer.wait_for(call.CallEnded)
            await edge.board.drained(10.0)
        stored = observing.read(subjects.recording("in", call_id))
        chunks = [unpack_audio(message.data) async for message in stored]
        events = [type(event) for event in await read_call(observing, call_id, "default")]
    finally:
        await edge_side.close()
        await observing.close()
    assert [frame for chunk in chunks for frame in chunk.frames()] == sent
    expected = 0
    for chunk in chunks:
        assert chunk.sequence == expected
        expected += chunk.frame_count
    assert events[:2] == [call.CallOffered, call.CallAnswered]
    assert events[-1] is call.CallEnded
    assert failure.Failure in events
