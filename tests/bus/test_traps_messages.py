"""Traps of nats-py that would lose, delay or repeat messages and KV values. One test per trap, named after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import nats
import pytest

from bus import nats_bucket
from bus.client import NatsConnection, connect
from bus.dead_letter import bury
from bus.errors import BusUnavailable, NotProvisioned, StoreUnavailable
from bus.interface import BucketEntry
from bus.provision import apply, bucket_config
from bus.server import NatsServerProcess
from bus.topology import BucketSpec, topology
from config.settings import NatsSection, StreamsSection
from tests.bus.behaviours.worlds import until

pytestmark = pytest.mark.bus

Servers = Callable[..., NatsServerProcess]


async def open_connection(server: NatsServerProcess, name: str = "test") -> NatsConnection:
    return await connect(name, NatsSection(url=server.url), wait=False)


async def test_a_subscription_costs_no_task_and_handlers_run_in_the_read_loop(fresh_nats: Servers) -> None:
    """Upstream: a queue and a task per subscription, 8 to 20 µs per message; a slow callback holds its messages up."""
    connection = await open_connection(fresh_nats())
    before = len(asyncio.all_tasks())
    subscriptions = [await connection.subscribe(f"live.{number}", lambda _: None) for number in range(100)]
    assert len(asyncio.all_tasks()) == before
    tasks: list[asyncio.Task[None] | None] = []
    await connection.subscribe("where", lambda _: tasks.append(asyncio.current_task()))
    connection.publish("where", b"")
    await connection.flush()
    assert tasks == [connection._wire._reading_task]
    for subscription in subscriptions:
        await subscription.close()
    await connection.close()


async def test_no_message_is_dropped_on_this_side_however_many_come_at_once(fresh_nats: Servers) -> None:
    """Upstream: beyond the pending limit of a subscription the newest messages are thrown away."""
    server = fresh_nats()
    sender, receiver = await open_connection(server), await open_connection(server)
    count = 0

    def counted(_: object) -> None:
        nonlocal count
        count += 1

    subscription = await receiver.subscribe("live.x", counted, pending_limit=10)
    await receiver.flush()
    for _ in range(100):
        sender.publish_many([("live.x", b"x" * 160)] * 500)
        await sender.flush()
    await until(lambda: count == 50_000, 20)
    assert subscription.dropped == 0
    await sender.close()
    await receiver.close()


async def test_what_was_not_sent_before_the_loss_is_not_sent_after_it(fresh_nats: Servers) -> None:
    """Upstream: up to 2 MB are kept while the server is away and then arrive late."""
    server = fresh_nats()
    connection = await open_connection(server)
    got: list[bytes] = []
    await connection.subscribe("live.x", lambda message: got.append(message.data))
    await connection.flush()
    server.freeze()
    connection.publish("live.x", b"queued when it broke")
    server.kill()
    connection.publish("live.x", b"in between")
    await until(lambda: not connection.connected)
    connection.publish("live.x", b"while away")
    assert connection.drops.total >= 1
    server.start()
    await connection.ready(5000)
    connection.publish("live.x", b"new")
    await connection.flush()
    assert got == [b"new"]
    await connection.close()


async def test_a_stream_without_leader_is_said_at_once_not_after_a_timeout(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await connection.store("call.default.c1.call.ended", b"", timeout_ms=30_000)
    assert time.monotonic() - began < 1
    await connection.close()


async def test_a_server_without_jetstream_is_told_apart(fresh_nats: Servers, tmp_path: object) -> None:
    config = tmp_path / "plain.conf"  # type: ignore[operator]
    config.write_text("jetstream: disabled\n")
    connection = await open_connection(fresh_nats(config=config))
    with pytest.raises(BusUnavailable, match="JetStream does not answer"):
        await connection.bucket("owners")
    await connection.close()


async def test_a_watch_goes_on_within_a_second_after_a_restart(fresh_nats: Servers) -> None:
    """Upstream: a watch is silent for 20 s after the server's restart."""
    server = fresh_nats()
    writer, reader = await open_connection(server), await open_connection(server)
    await apply(writer, StreamsSection())
    got: list[BucketEntry] = []
    await (await reader.bucket("owners")).watch(got.append)
    server.stop()
    await until(lambda: not writer.connected and not reader.connected)
    server.start()
    await writer.ready(5000)
    began = time.monotonic()
    await (await writer.bucket("owners")).put("asr.c1", b"1")
    await until(lambda: got)
    assert time.monotonic() - began < 1
    await writer.close()
    await reader.close()


async def test_a_watch_finds_what_it_was_not_told(fresh_nats: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message between two servers may get lost; upstream acts 10 to 20 s after the heartbeats stop."""
    monkeypatch.setattr("bus.nats_watch.FIRST_LOOK_S", 0.2)
    monkeypatch.setattr("bus.nats_watch.LOOK_S", 0.2)
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    bucket = await connection.bucket("owners")
    got: list[tuple[str, bytes | None]] = []
    watch = await bucket.watch(lambda entry: got.append((entry.key, entry.value)))
    await bucket.put("one", b"1")
    await until(lambda: got == [("one", b"1")])
    await watch._detach()  # type: ignore[attr-defined]
    await bucket.put("two", b"2")
    await until(lambda: got[1:] == [("two", b"2")])
    await bucket.put("one", b"3")
    await bucket.delete("two")
    await until(lambda: got[2:] == [("one", b"3"), ("two", None)])
    await asyncio.sleep(0.5)
    assert len(got) == 4, "nothing is told twice"
    await connection.close()


async def test_a_watch_survives_what_it_can_not_read(fresh_nats: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.nats_watch.FIRST_LOOK_S", 0.1)
    monkeypatch.setattr("bus.nats_watch.LOOK_S", 0.1)
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    bucket = await connection.bucket("owners")
    got: list[str] = []
    watch: Any = await bucket.watch(lambda entry: got.append(entry.key))
    await watch._detach()
    read, failures = watch._read, 0

    async def broken(sequence: int) -> Any:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise ValueError("a header that nobody knows")
        return await read(sequence)

    watch._read = broken
    await until(lambda: failures)
    await bucket.put("one", b"1")
    await until(lambda: got == ["one"])
    await connection.close()


async def test_a_watch_that_can_not_begin_leaves_nothing_behind(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    bucket = await connection.bucket("owners")
    await connection.api("STREAM.DELETE.KV_owners")
    before = len(connection._attached)
    with pytest.raises(NotProvisioned):
        await bucket.watch(lambda _: None)
    assert len(connection._attached) == before
    await connection.close()


async def test_a_watch_makes_no_consumer_and_reads_little(fresh_nats: Servers) -> None:
    """Whoever may make a consumer may have messages delivered to any subject."""
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    bucket = await connection.bucket("owners")
    await bucket.put("asr.one", b"1")
    await bucket.watch(lambda entry: None)
    assert (await connection.api("CONSUMER.NAMES.KV_owners"))["consumers"] in (None, [])
    assert await bucket.keys() == ["asr.one"]
    await connection.close()


async def test_a_bucket_that_does_not_say_its_changes_is_not_bound(fresh_nats: Servers) -> None:
    """Made by an older version: its watches would be blind for seconds."""
    connection = await open_connection(fresh_nats())
    await connection.api("STREAM.CREATE.KV_owners", {"name": "KV_owners", "subjects": ["$KV.owners.>"]})
    with pytest.raises(NotProvisioned, match="callbus provision"):
        await connection.bucket("owners")
    await apply(connection, StreamsSection())
    assert await (await connection.bucket("owners")).keys() == []
    await connection.close()


async def test_a_watch_waits_where_the_bucket_is_away_for_a_while(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    got: list[str] = []
    await (await connection.bucket("owners")).watch(lambda entry: got.append(entry.key))
    await connection.api("STREAM.DELETE.KV_owners")
    connection._wire.cut()
    await until(lambda: not connection.connected)
    await connection.ready(5000)
    await asyncio.sleep(0.3)
    await apply(connection, StreamsSection())
    await (await connection.bucket("owners")).put("one", b"")
    await until(lambda: got == ["one"])
    await connection.close()


async def test_a_watch_forgets_keys_that_are_gone_without_a_trace(fresh_nats: Servers) -> None:
    """Purged while the watcher was away: no deletion is left in the stream to be told."""
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    bucket = await connection.bucket("owners")
    got: list[tuple[str, bytes | None]] = []
    watch = await bucket.watch(lambda entry: got.append((entry.key, entry.value)))
    await bucket.put("one", b"1")
    await until(lambda: len(got) == 1)
    await watch._detach()  # type: ignore[attr-defined]
    await connection.api("STREAM.PURGE.KV_owners", {"filter": "$KV.owners.one"})
    watch._renew()  # type: ignore[attr-defined]
    await until(lambda: len(got) == 2)
    assert got[1] == ("one", None)
    await bucket.put("one", b"2")
    await until(lambda: got[2:] == [("one", b"2")])
    await connection.close()


async def test_the_marker_of_an_expired_key_reads_as_absent_and_is_written_over(fresh_nats: Servers) -> None:
    """Upstream: get() returns an entry without value, create() fails until the marker itself expires."""
    server = fresh_nats()
    connection = await open_connection(server)
    config = bucket_config(BucketSpec(name="short", why="", ttl_s=1), connection.server_version)
    await connection.api("STREAM.CREATE.KV_short", config)
    bucket = await connection.bucket("short")
    await bucket.create("key", b"1")
    await asyncio.sleep(1.5)
    marker = await connection.last("$KV.short.key", "KV_short")
    assert marker is not None
    assert marker.headers["Nats-Marker-Reason"] == "MaxAge"
    assert await bucket.get("key") is None
    assert await bucket.keys() == []
    await bucket.create("key", b"2")
    entry = await bucket.get("key")
    assert entry is not None
    assert entry.value == b"2"
    upstream = await nats.connect(server.url)
    assert (await (await upstream.jetstream().key_value("short")).get("key")).value == b"2"
    await upstream.close()
    await connection.close()


async def test_reading_goes_on_where_a_restart_broke_it(fresh_nats: Servers) -> None:
    server = fresh_nats()
    connection = await open_connection(server)
    await apply(connection, StreamsSection())
    for number in range(1500):
        connection.publish("call.default.c1.asr.partial", b"%d" % number)
    await connection.store("call.default.c1.asr.partial", b"1500")
    read: list[bytes] = []
    async for message in connection.read("call.default.c1.>"):
        read.append(message.data)
        if len(read) == 300:
            server.stop()
            await until(lambda: not connection.connected)
            server.start()
    assert read == [b"%d" % number for number in range(1501)]
    await connection.close()


async def test_a_call_that_came_to_a_fetch_that_ended_goes_to_somebody_else_at_once(fresh_nats: Servers) -> None:
    """Upstream: a message that arrives after its fetch timed out waits for ack_wait."""
    server = fresh_nats()
    connection, other = await open_connection(server), await open_connection(server)
    await apply(connection, StreamsSection())
    queue = await connection.work_queue("asr-assign")
    fetching = asyncio.ensure_future(queue.fetch(1, 60_000))
    await asyncio.sleep(0.05)
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    began = time.monotonic()
    await connection.store("call.default.c1.call.offered", b"1")
    claims = await (await other.work_queue("asr-assign")).fetch(1, 2000)
    assert claims[0].deliveries == 2
    assert time.monotonic() - began < 1
    await connection.close()
    await other.close()


async def test_many_messages_leave_in_one_write(fresh_nats: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream: a task switch, a queue and a formatted string per publish(). `callbus bench hop` measures the cost."""
    ours = await open_connection(fresh_nats())
    transport = ours._link.wire._transport
    writes: list[int] = []
    write = transport.write

    def counted(data: bytes) -> None:
        writes.append(len(data))
        write(data)

    monkeypatch.setattr(transport, "write", counted)
    ours.publish_many([(f"rt.default.{number:032x}.audio.in", b"x" * 176) for number in range(100)])
    assert len(writes) == 1
    assert writes[0] > 100 * 176
    await ours.close()


async def test_keys_that_are_gone_do_not_fill_the_bucket(fresh_nats: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream: a deletion is one more message, kept as long as a value; a bucket at its limit takes no write."""
    monkeypatch.setattr(nats_bucket, "EXPIRING", {"Nats-TTL": "1s"})
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    bucket = await connection.bucket("tenants")
    got: list[tuple[str, bytes | None]] = []
    watch = await bucket.watch(lambda entry: got.append((entry.key, entry.value)))
    for number in range(20):
        await bucket.create(f"asr.{number}", b"owner")
        await bucket.delete(f"asr.{number}")
    await until(lambda: got[-1:] == [("asr.19", None)])
    assert not watch._seen  # type: ignore[attr-defined]
    told = len(got)
    assert (await connection.api("STREAM.INFO.KV_tenants"))["state"]["messages"] == 20, "history goes with its key"
    await asyncio.sleep(2.5)
    assert (await connection.api("STREAM.INFO.KV_tenants"))["state"]["messages"] == 0
    assert len(got) == told, "that a deletion is forgotten is no news"
    await bucket.create("asr.0", b"owner")
    await connection.close()


async def test_deletions_of_every_bucket_expire(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    for spec in topology(StreamsSection()).buckets:
        bucket = await connection.bucket(spec.name)
        await bucket.put("key", b"1")
        await bucket.delete("key")
        marker = await connection.last(f"$KV.{spec.name}.key", f"KV_{spec.name}")
        assert marker is not None
        assert marker.headers["Nats-TTL"].rstrip("s") == "60"
    await connection.close()


async def test_subjects_and_headers_that_are_not_utf_8_end_nothing(fresh_nats: Servers) -> None:
    """Upstream: an exception in the read loop ends it. The server lets any bytes pass as a subject."""
    server = fresh_nats()
    connection = await open_connection(server)
    got: list[str] = []
    lost: list[int] = []
    connection.on_disconnected(lambda: lost.append(1))
    await connection.subscribe("call.>", lambda message: got.append(message.subject))
    await connection.flush()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(b"PUB call.default.c1.asr.\xff\xfe reply.\xff 2\r\nhi\r\n")
    writer.write(b"HPUB call.default.c1.asr.final 17 19\r\nNATS/1.0\r\n\xff:\xfe\r\n\r\nhi\r\n")
    writer.write(b"PUB call.default.c1.asr.partial 2\r\nhi\r\n")
    await until(lambda: "call.default.c1.asr.partial" in got)
    assert got[0] == "call.default.c1.asr.\ufffd\ufffd"
    assert connection.connected
    assert not lost
    writer.close()
    await connection.close()


async def test_what_grows_too_large_by_its_headers_costs_no_connection(fresh_nats: Servers) -> None:
    """Upstream: only the body is measured; the server counts headers too, and cuts the connection for one byte more."""
    connection = await open_connection(fresh_nats())
    await apply(connection, StreamsSection())
    lost: list[int] = []
    connection.on_disconnected(lambda: lost.append(1))
    with pytest.raises(ValueError, match="over the server's limit"):
        connection.publish("live.x", b"x" * 1_048_576, {"a": "b"})
    bury(connection, "asr", "call.default.c1.asr.final", b"x" * 1_048_576, "no JSON")
    await connection.flush()
    letters = [letter async for letter in connection.read("dead_letter.asr", stream="DEAD_LETTERS")]
    assert [len(letter.data) for letter in letters] == [60_000]
    assert not lost
    await connection.close()
