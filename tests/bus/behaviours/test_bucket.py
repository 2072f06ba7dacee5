"""KV buckets: values, compare-and-set, watches, expiry."""

from __future__ import annotations

import asyncio

import pytest

from bus.errors import NotProvisioned, RevisionConflict
from bus.interface import BucketEntry
from bus.topology import BucketSpec
from tests.bus.behaviours.worlds import World, until

BOTH = [pytest.param("memory", marks=pytest.mark.unit), pytest.param("nats", marks=pytest.mark.bus)]
pytestmark = pytest.mark.parametrize("world", BOTH, indirect=True)

SHORT = BucketSpec(name="short", why="", ttl_s=1)


async def test_write_and_read(world: World) -> None:
    bucket = await (await world.connect("a")).bucket("owners")
    assert await bucket.get("asr.c1") is None
    revision = await bucket.put("asr.c1", b"one")
    assert await bucket.get("asr.c1") == BucketEntry("asr.c1", b"one", revision)
    newer = await bucket.put("asr.c1", b"")
    assert newer > revision
    assert await bucket.get("asr.c1") == BucketEntry("asr.c1", b"", newer)
    await bucket.delete("asr.c1")
    assert await bucket.get("asr.c1") is None


async def test_create_wins_once(world: World) -> None:
    buckets = [await (await world.connect(f"w{number}")).bucket("owners") for number in range(5)]
    results = await asyncio.gather(
        *(bucket.create("asr.c1", b"%d" % number) for number, bucket in enumerate(buckets)), return_exceptions=True
    )
    assert len([r for r in results if isinstance(r, int)]) == 1
    assert len([r for r in results if isinstance(r, RevisionConflict)]) == 4


async def test_create_over_a_deletion(world: World) -> None:
    bucket = await (await world.connect("a")).bucket("owners")
    await bucket.create("asr.c1", b"1")
    await bucket.delete("asr.c1")
    await bucket.create("asr.c1", b"2")
    with pytest.raises(RevisionConflict, match=r"'asr\.c1' of bucket 'owners' is not absent"):
        await bucket.create("asr.c1", b"3")
    assert (await bucket.get("asr.c1")).value == b"2"


async def test_update_needs_the_present_revision(world: World) -> None:
    bucket = await (await world.connect("a")).bucket("owners")
    first = await bucket.create("asr.c1", b"1")
    second = await bucket.update("asr.c1", b"2", first)
    with pytest.raises(RevisionConflict, match="not revision"):
        await bucket.update("asr.c1", b"3", first)
    assert await bucket.get("asr.c1") == BucketEntry("asr.c1", b"2", second)


async def test_keys_are_those_present(world: World) -> None:
    bucket = await (await world.connect("a")).bucket("owners")
    assert await bucket.keys() == []
    for key in ("llm.c1", "asr.c2", "asr.c1"):
        await bucket.put(key, b"1")
    await bucket.delete("asr.c2")
    assert await bucket.keys() == ["asr.c1", "llm.c1"]


async def test_a_watch_tells_what_is_there_and_then_each_change(world: World) -> None:
    writer, reader = await world.connect("a"), await world.connect("b")
    bucket = await writer.bucket("owners")
    first = await bucket.put("asr.c1", b"1")
    await bucket.put("llm.c1", b"not asr")
    await bucket.put("asr.gone", b"1")
    await bucket.delete("asr.gone")
    got: list[BucketEntry] = []
    watch = await (await reader.bucket("owners")).watch(got.append, "asr.*")
    await until(lambda: got)
    second = await bucket.update("asr.c1", b"2", first)
    # A deletion takes the key's history with it: a watcher that has not yet seen the value before it sees the deletion.
    await until(lambda: len(got) == 2)
    await bucket.delete("asr.c1")
    await bucket.create("asr.c2", b"3")
    await until(lambda: len(got) == 4)
    assert got[:2] == [BucketEntry("asr.c1", b"1", first), BucketEntry("asr.c1", b"2", second)]
    assert (got[2].key, got[2].value) == ("asr.c1", None)
    assert (got[3].key, got[3].value) == ("asr.c2", b"3")
    assert watch.dropped == 0
    await watch.close()
    await bucket.put("asr.c3", b"4")
    await reader.flush()
    assert len(got) == 4


async def test_a_watch_survives_an_interruption_and_tells_what_happened_meanwhile(world: World) -> None:
    writer, reader = await world.connect("a"), await world.connect("b")
    bucket = await writer.bucket("owners")
    await bucket.put("asr.stays", b"1")
    await bucket.put("asr.goes", b"1")
    got: list[BucketEntry] = []
    await (await reader.bucket("owners")).watch(got.append)
    await until(lambda: len(got) == 2)
    await world.interrupt(reader)
    await bucket.put("asr.new", b"2")
    await bucket.delete("asr.goes")
    await world.restore(reader)
    await until(lambda: len(got) >= 4)
    await bucket.put("asr.later", b"3")
    await until(lambda: len(got) >= 5)
    assert sorted((e.key, e.value or b"") for e in got[2:4]) == [("asr.goes", b""), ("asr.new", b"2")]
    assert got[4][:2] == ("asr.later", b"3")
    assert len(got) == 5


async def test_a_watch_survives_a_restart_of_the_server(world: World) -> None:
    bus = await world.connect("a")
    bucket = await bus.bucket("owners")
    await bucket.put("asr.c1", b"1")
    got: list[BucketEntry] = []
    await bucket.watch(got.append)
    await until(lambda: got)
    await world.stop()
    await world.start()
    await bucket.put("asr.c2", b"2")
    await until(lambda: len(got) == 2)
    assert got[1][:2] == ("asr.c2", b"2")


async def test_a_watcher_that_raises_goes_on(world: World) -> None:
    bus = await world.connect("a")
    bucket = await bus.bucket("owners")
    got: list[str] = []

    def handler(entry: BucketEntry) -> None:
        got.append(entry.key)
        if entry.key == "bad":
            raise RuntimeError("handler")

    await bucket.watch(handler)
    for key in ("one", "bad", "two"):
        await bucket.put(key, b"")
    await until(lambda: got == ["one", "bad", "two"])


async def test_an_expired_value_is_absent_told_and_may_be_created_again(world: World) -> None:
    bus = await world.connect("a")
    await world.make_bucket(SHORT)
    bucket = await bus.bucket("short")
    got: list[BucketEntry] = []
    await bucket.watch(got.append)
    await bucket.create("c1", b"1")
    await until(lambda: len(got) == 1)
    for _ in range(40):
        await world.elapse(100)
        if len(got) == 2:
            break
    assert (got[1].key, got[1].value) == ("c1", None)
    assert await bucket.get("c1") is None
    assert await bucket.keys() == []
    revision = await bucket.create("c1", b"2")
    assert await bucket.get("c1") == BucketEntry("c1", b"2", revision)
    with pytest.raises(RevisionConflict):
        await bucket.create("c1", b"3")


async def test_a_write_renews_the_time_to_live(world: World) -> None:
    bus = await world.connect("a")
    await world.make_bucket(SHORT)
    bucket = await bus.bucket("short")
    revision = await bucket.create("c1", b"1")
    for _ in range(3):
        await world.elapse(600)
        revision = await bucket.update("c1", b"1", revision)
    assert await bucket.get("c1") is not None


async def test_a_bucket_that_does_not_exist(world: World) -> None:
    bus = await world.connect("a")
    with pytest.raises(NotProvisioned, match="bucket 'nothing' does not exist"):
        await bus.bucket("nothing")


async def test_writes_wait_for_the_connection(world: World) -> None:
    bus = await world.connect("a")
    bucket = await bus.bucket("owners")
    await world.interrupt(bus)
    writing = asyncio.ensure_future(bucket.put("asr.c1", b"1"))
    await asyncio.sleep(0)
    await world.restore(bus)
    assert await asyncio.wait_for(writing, 5) > 0
