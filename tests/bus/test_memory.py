"""What only the bus in memory has: its clock, dropped messages, killed processes. The rest is in behaviours/."""

from __future__ import annotations

import asyncio
import json

import pytest

from bus.clock import ManualClock, SystemClock, settle, uuid7_hex, wall_us
from bus.errors import BusTimeout, BusUnavailable, NoResponders, NotProvisioned, RevisionConflict, StoreRefused
from bus.fencing import own_retry
from bus.interface import Message
from bus.jetstream import parse_headers, parse_time
from bus.memory import MemoryServer
from bus.topology import BucketSpec
from bus.work_queue import delivery_of

pytestmark = pytest.mark.unit


def make() -> tuple[MemoryServer, ManualClock]:
    clock = ManualClock()
    return MemoryServer(clock=clock), clock


async def test_time_stands_still_until_it_is_told_to_go_on() -> None:
    clock = ManualClock(1000)
    rung: list[int] = []
    clock.call_later(2, lambda: rung.append(clock.now_us()))
    clock.call_later(1, lambda: rung.append(clock.now_us()))
    clock.call_later(3, lambda: rung.append(0)).cancel()
    assert clock.now_us() == 1000
    await clock.advance(5)
    assert rung == [2000, 3000]
    assert clock.now_us() == 6000


async def test_the_systems_clock() -> None:
    clock = SystemClock()
    assert abs(clock.now_us() - wall_us()) < 1_000_000
    rung = asyncio.Event()
    clock.call_later(1, rung.set)
    await asyncio.wait_for(rung.wait(), 1)


def test_identifiers_sort_by_time_and_are_version_7() -> None:
    first = uuid7_hex(1_700_000_000_000_000, b"\xff" * 10)
    second = uuid7_hex(1_700_000_000_001_000, b"\x00" * 10)
    assert first < second
    assert (len(first), first[12], first[16]) == (32, "7", "b")
    assert first == "018bcfe56800" + "7fff" + "bfffffffffffffff"
    assert len({uuid7_hex() for _ in range(100)}) == 100


async def test_newest_messages_beyond_the_limit_are_dropped_and_counted() -> None:
    server, _ = make()
    bus = server.connect("a")
    got: list[bytes] = []
    subscription = await bus.subscribe("x", lambda m: got.append(m.data), pending_limit=3)
    for number in range(5):
        bus.publish("x", b"%d" % number)
    await settle()
    assert (got, subscription.dropped) == ([b"0", b"1", b"2"], 2)


async def test_nothing_is_delivered_inside_publish() -> None:
    server, _ = make()
    bus = server.connect("a")
    got: list[Message] = []
    await bus.subscribe("x", got.append)
    bus.publish("x", b"")
    assert got == []
    await settle()
    assert len(got) == 1


async def test_a_killed_process_hears_nothing_and_is_announced() -> None:
    server, _ = make()
    watcher, victim = server.connect("edge-1"), server.connect("asr-1")
    told: list[str] = []
    gone: list[str] = []
    victim.on_disconnected(lambda: told.append("lost"))
    await watcher.subscribe("sys.disconnect", lambda m: gone.append(json.loads(m.data)["client"]["name"]))
    victim.kill()
    victim.restore()
    await settle()
    assert (told, gone, victim.connected) == ([], ["asr-1"], False)
    assert victim not in server.connections
    with pytest.raises(BusUnavailable):
        await victim.request("x", b"")


async def test_old_messages_leave_the_stream() -> None:
    server, clock = make()
    bus = server.connect("a")
    await bus.store("call.default.c1.call.offered", b"old", {"Nats-Msg-Id": "1"})
    await clock.advance(71 * 3600 * 1000)
    await bus.store("call.default.c1.call.ended", b"newer")
    await clock.advance(2 * 3600 * 1000)
    assert [m.data async for m in bus.read("call.>")] == [b"newer"]
    assert await bus.last("call.default.c1.call.offered") is None
    assert server.streams["CALLS"].subjects() == ["call.default.c1.call.ended"]
    assert await (await bus.work_queue("asr-assign")).fetch(1, 0) == []


async def test_a_dedupe_id_is_forgotten_after_its_window() -> None:
    server, clock = make()
    bus = server.connect("a")
    first = await bus.store("call.default.c1.x.y", b"", {"Nats-Msg-Id": "1"})
    await clock.advance(119_000)
    assert (await bus.store("call.default.c1.x.y", b"", {"Nats-Msg-Id": "1"})).sequence == first.sequence
    await clock.advance(2_000)
    assert not (await bus.store("call.default.c1.x.y", b"", {"Nats-Msg-Id": "1"})).duplicate


async def test_a_value_that_is_too_large() -> None:
    server, _ = make()
    bucket = await server.connect("a").bucket("owners")
    with pytest.raises(StoreRefused, match="over the limit"):
        await bucket.put("k", b"x" * 70_000)


async def test_update_of_a_key_that_never_was() -> None:
    server, _ = make()
    bucket = await server.connect("a").bucket("owners")
    assert await bucket.update("k", b"1", 0) == 1
    with pytest.raises(RevisionConflict):
        await bucket.update("k2", b"1", 7)


async def test_a_deadline_while_interrupted() -> None:
    server, clock = make()
    bus = server.connect("a")
    bus.interrupt()
    bus.interrupt()
    with pytest.raises(BusTimeout):
        await bus.flush()
    asking = asyncio.ensure_future(bus.request("x", b"", timeout_ms=100))
    reading = asyncio.ensure_future(bus.last("x"))
    await clock.advance(3000)
    for waiting in (asking, reading):
        with pytest.raises(BusUnavailable, match="within"):
            await waiting


async def test_reading_stops_where_the_connection_breaks() -> None:
    server, _ = make()
    bus = server.connect("a")
    for _ in range(3):
        await bus.store("call.default.c1.x.y", b"")
    reading = bus.read("call.>")
    await anext(reading)
    bus.interrupt()
    with pytest.raises(BusUnavailable):
        await anext(reading)


async def test_a_connection_made_while_the_server_is_away_comes_with_it() -> None:
    server, _ = make()
    server.stop()
    bus = server.connect("a")
    assert not bus.connected
    server.start()
    assert bus.connected
    with pytest.raises(NoResponders):
        await bus.request("x", b"")


async def test_what_nobody_provisioned() -> None:
    server, _ = make()
    bus = server.connect("a")
    with pytest.raises(NotProvisioned):
        await bus.bucket("nothing")
    with pytest.raises(NotProvisioned):
        await bus.work_queue("nothing")


def test_a_refusal_of_another_kind_is_no_retry() -> None:
    assert own_retry(StoreRefused("too large", 10054), None, "CALLS", b"", {"Nats-Msg-Id": "1"}) is None


def test_stored_headers_and_times_are_read() -> None:
    assert parse_headers(b"NATS/1.0\r\nA: 1\r\nB:  x:y \r\n\r\n") == {"A": "1", "B": "x:y"}
    assert parse_headers(b"") == {}
    assert parse_time("2026-11-20T10:56:02.764068454Z") == 1_795_172_162_764_068
    assert parse_time("2026-11-20T10:56:02Z") == 1_795_172_162_000_000


def test_both_forms_of_an_acknowledgement_subject_are_read() -> None:
    assert delivery_of("$JS.ACK.CALLS.asr-assign.2.17.5.1700000000000000000.3") == (2, 17, 1_700_000_000_000_000)
    longer = "$JS.ACK._.Ab12.CALLS.asr-assign.2.17.5.1700000000000000000.3.rnd"
    assert delivery_of(longer) == (2, 17, 1_700_000_000_000_000)


async def test_a_bucket_can_be_added() -> None:
    from bus.memory_stream import MemoryStore

    server, clock = make()
    server.stores["more"] = MemoryStore(BucketSpec(name="more", why="", ttl_s=1), clock)
    bucket = await server.connect("a").bucket("more")
    await bucket.put("k", b"1")
    await clock.advance(999)
    assert await bucket.get("k") is not None
    await clock.advance(2)
    assert await bucket.get("k") is None
