"""Recording and reading a call on a real server: what the in-memory bus can't prove."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import nats
import pytest

from bus import publish
from bus.client import NatsConnection, connect
from bus.clock import uuid7_hex
from bus.consume import follow_call, read_call, read_recording
from bus.control import send_control, serve_control
from bus.dead_letter import REASON_HEADER, SUBJECT_HEADER
from bus.fencing import MESSAGE_ID, fence_of
from bus.interface import Message
from bus.provision import apply
from bus.publish import Recorder, RecorderFigures
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from schemas import subjects
from schemas.audio import pack_audio
from schemas.base import Event
from schemas.control import ControlReply, Hangup
from tests.bus.samples import answered, ended, final, offered, partial, sentence, short, turn_ended, until

pytestmark = pytest.mark.bus


@pytest.fixture(autouse=True)
def _fresh_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "figures", RecorderFigures())


@asynccontextmanager
async def connections(url: str, *names: str) -> AsyncIterator[list[NatsConnection]]:
    opened = [await connect(name, NatsSection(url=url), wait=False) for name in names]
    try:
        yield opened
    finally:
        for connection in opened:
            await connection.close()


async def test_call_is_recorded_and_followed(nats_connection: NatsConnection, nats_url: str) -> None:
    async with connections(nats_url, "asr-1", "llm-1") as (asr, llm):
        call = uuid7_hex()
        events: list[Event] = []
        recorder = Recorder(asr, service="asr")
        recorder.record(offered(call))
        recorder.record(final(1, call_id=call), fenced=True)
        assert await recorder.flush(5000)
        feed = await follow_call(llm, call, "default", events.append, service="llm")
        await feed.caught_up.wait()
        for number in range(50):
            recorder.record(partial(number, call_id=call))
        recorder.record(turn_ended(1, call_id=call), fenced=True)
        assert await recorder.flush(5000)
        await until(lambda: len(events) == 53)
        expected = ["call.offered", "asr.final:1:0", *(f"asr.partial:1:{n}" for n in range(50)), "turn.ended:1"]
        assert short(events) == expected
        assert short(await read_call(llm, call, "default")) == expected
        await feed.close()


async def test_live_copy_is_never_stored(nats_connection: NatsConnection) -> None:
    call = uuid7_hex()
    heard: list[Message] = []
    await nats_connection.subscribe(subjects.call_events(call), heard.append)
    recorder = Recorder(nats_connection, service="asr")
    for number in range(publish.FLIGHT_LIMIT * 2):
        recorder.record(partial(number, call_id=call))
    assert publish.figures.live_copies > 0
    assert await recorder.flush(5000)
    events = await read_call(nats_connection, call, "default")
    assert short(events) == [f"asr.partial:1:{n}" for n in range(publish.FLIGHT_LIMIT * 2)]
    assert publish.figures.stored == len(events), "no copy was taken for the message itself"
    ids = [message.headers[MESSAGE_ID] for message in heard]
    assert list(dict.fromkeys(ids)) == [event.dedupe_id for event in events]


async def test_zombie_is_refused_by_the_server(nats_connection: NatsConnection, nats_url: str) -> None:
    async with connections(nats_url, "asr-1", "asr-2") as (first, second):
        call = uuid7_hex()
        fenced: list[Event] = []
        zombie, successor = Recorder(first, service="asr"), Recorder(second, service="asr")
        zombie.on_fenced = fenced.append
        zombie.record(final(1, epoch=1, call_id=call), fenced=True)
        assert await zombie.flush(5000)
        successor.record(final(2, epoch=2, call_id=call), fenced=True)
        assert await successor.flush(5000)
        zombie.record(final(2, epoch=1, call_id=call), fenced=True)
        await until(lambda: fenced)
        assert [(e.dedupe_id, e.epoch) for e in await read_call(first, call, "default")] == [
            (final(1, call_id=call).dedupe_id, 1),
            (final(2, call_id=call).dedupe_id, 2),
        ]


@pytest.mark.parametrize("late", ["sentence", "done"])
async def test_what_an_agents_worker_says_late_is_refused_by_the_server(
    nats_connection: NatsConnection, nats_url: str, late: str
) -> None:
    """Its successor says the same sentence, and the same end, under the same ids."""
    async with connections(nats_url, "llm-1", "llm-2") as (first, second):
        call = uuid7_hex()
        fenced: list[Event] = []
        heard: list[Event] = []
        feed = await follow_call(nats_connection, call, "default", heard.append, service="tts")
        zombie, successor = Recorder(first, service="llm"), Recorder(second, service="llm")
        zombie.on_fenced = fenced.append
        zombie.record(sentence(0, 1, call), fenced=True)
        assert await zombie.flush(5000)
        await successor.prepare(subjects.event_subject("llm.done", call))
        successor.record(sentence(1, 2, call), fenced=True)
        assert await successor.flush(5000)
        zombie.record(sentence(2, 1, call) if late == "sentence" else answered(1, call), fenced=True)
        await until(lambda: fenced)
        successor.record(sentence(2, 2, call), fenced=True)
        successor.record(answered(2, call), fenced=True)
        assert await successor.flush(5000)
        said = [sentence(0, 1, call), sentence(1, 2, call), sentence(2, 2, call), answered(2, call)]
        await until(lambda: len(heard) == len(said))
        assert await read_call(second, call, "default") == said == heard
        await feed.close()


async def test_retry_of_a_fenced_event_that_was_stored_is_a_duplicate(nats_connection: NatsConnection) -> None:
    call = uuid7_hex()
    fenced: list[Event] = []
    recorder = Recorder(nats_connection, service="asr")
    recorder.on_fenced = fenced.append
    recorder.record(final(1, call_id=call), fenced=True)
    assert await recorder.flush(5000)
    recorder._sequences[fence_of(subjects.event_subject("asr.final", call))] = (
        0  # as if its acknowledgement had been lost
    )
    recorder.record(final(1, call_id=call), fenced=True)
    recorder.record(final(2, call_id=call), fenced=True)
    assert await recorder.flush(5000)
    assert not fenced
    assert len(await read_call(nats_connection, call, "default")) == 2


async def test_server_killed_in_mid_call(fresh_nats: Callable[..., NatsServerProcess]) -> None:
    server = fresh_nats()
    async with connections(server.url, "edge-1", "llm-1") as (edge, llm):
        await apply(edge, StreamsSection())
        call = uuid7_hex()
        events: list[Event] = []
        feed = await follow_call(llm, call, "default", events.append, service="llm")
        recorder = Recorder(edge, service="edge")
        for number in range(20):
            recorder.record(partial(number, call_id=call))
            recorder.record_audio(
                subjects.recording("in", call), pack_audio(b"x" * 1600, sequence=number), f"{call}:in:{number}"
            )
            if number == 8:
                await asyncio.to_thread(server.kill)
            if number == 14:
                await asyncio.to_thread(server.start)
            await asyncio.sleep(0.05)
        recorder.record(ended(call))
        assert await recorder.flush(20_000)
        expected = [f"asr.partial:1:{number}" for number in range(20)] + ["call.ended"]
        await until(lambda: len(events) == len(expected))
        assert short(await read_call(llm, call, "default")) == expected
        assert sorted(short(events)) == sorted(expected)
        chunks = [chunk.sequence async for chunk in read_recording(llm, "in", call, "default")]
        assert chunks == list(range(20))
        await feed.close()


async def test_frozen_server_does_not_block_the_sender(fresh_nats: Callable[..., NatsServerProcess]) -> None:
    server = fresh_nats()
    async with connections(server.url, "edge-1") as (edge,):
        await apply(edge, StreamsSection())
        call = uuid7_hex()
        recorder = Recorder(edge, service="edge")
        recorder.record(offered(call))
        assert await recorder.flush(5000)
        server.freeze()
        begun = asyncio.get_running_loop().time()
        for number in range(100):
            recorder.record(partial(number, call_id=call))
        assert asyncio.get_running_loop().time() - begun < 0.5
        assert recorder.pending == 100
        await asyncio.sleep(4)
        server.thaw()
        assert await recorder.flush(20_000)
        assert short(await read_call(edge, call, "default")) == [
            "call.offered",
            *(f"asr.partial:1:{number}" for number in range(100)),
        ]


async def test_plain_client_sees_json_and_dead_letters(nats_connection: NatsConnection, nats_url: str) -> None:
    call = uuid7_hex()
    plain = await nats.connect(nats_url)
    said = await plain.subscribe(subjects.call_events(call))
    dead = await plain.subscribe("dead_letter.llm")
    await plain.flush()
    events: list[Event] = []
    feed = await follow_call(nats_connection, call, "default", events.append, service="llm")
    recorder = Recorder(nats_connection, service="llm")
    await until(lambda: recorder._inbox.ready)
    recorder.record(sentence(0, call_id=call))
    message = await said.next_msg(timeout=5)
    assert json.loads(message.data)["text"] == "An answer."
    assert message.headers["Nats-Msg-Id"] == sentence(0, call_id=call).dedupe_id
    await plain.publish(subjects.event_subject("asr.final", call), b"\xffrubbish")
    letter = await dead.next_msg(timeout=5)
    assert letter.data == b"\xffrubbish"
    assert letter.headers[SUBJECT_HEADER] == subjects.event_subject("asr.final", call)
    assert letter.headers[REASON_HEADER]
    recorder.record(sentence(1, call_id=call))
    await until(lambda: len(events) == 2)
    await feed.close()
    await plain.close()


async def test_command_over_the_bus(nats_connection: NatsConnection, nats_url: str) -> None:
    async with connections(nats_url, "edge-1") as (edge,):
        call = uuid7_hex()
        command = Hangup(call_id=call)
        assert (await send_control(nats_connection, "edge", command)).error == "not_owner"
        serving = await serve_control(edge, "edge", call, "default", lambda _: ControlReply(ok=True), service="edge")
        await edge.flush()
        assert (await send_control(nats_connection, "edge", command)).ok
        await serving.close()
