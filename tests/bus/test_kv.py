"""Typed buckets."""

from __future__ import annotations

import asyncio

import pytest

from bus.errors import DecodeError, NotProvisioned, RevisionConflict
from bus.kv import TypedBucket, TypedEntry
from schemas.session import Owner, Stage
from tests.bus.behaviours.worlds import World

BOTH = [pytest.param("memory", marks=pytest.mark.unit), pytest.param("nats", marks=pytest.mark.bus)]
pytestmark = pytest.mark.parametrize("world", BOTH, indirect=True)


def owner(worker: str, epoch: int = 1) -> Owner:
    return Owner(stage=Stage.ASR, call_id="c1", worker=worker, epoch=epoch)


async def test_values_are_structs(world: World) -> None:
    bucket = await TypedBucket.open(await world.connect("a"), "owners", Owner)
    assert await bucket.get("asr.c1") is None
    first = await bucket.create("asr.c1", owner("w1"))
    assert await bucket.get("asr.c1") == TypedEntry(owner("w1"), first)
    with pytest.raises(RevisionConflict):
        await bucket.create("asr.c1", owner("w2"))
    second = await bucket.update("asr.c1", owner("w2", 2), first)
    with pytest.raises(RevisionConflict):
        await bucket.update("asr.c1", owner("w3", 2), first)
    assert await bucket.put("asr.c1", owner("w4", 3)) > second
    assert await bucket.keys() == ["asr.c1"]
    await bucket.delete("asr.c1")
    assert await bucket.get("asr.c1") is None


async def test_modify_loses_nothing_however_many_write(world: World) -> None:
    def one_more(value: Owner | None) -> Owner:
        return owner("w", value.epoch + 1 if value else 1)

    buckets = [await TypedBucket.open(await world.connect(f"w{n}"), "owners", Owner) for n in range(4)]
    await asyncio.gather(*(bucket.modify("asr.c1", one_more, attempts=100) for bucket in buckets for _ in range(5)))
    entry = await buckets[0].get("asr.c1")
    assert entry is not None
    assert entry.value.epoch == 20


async def test_modify_gives_up_after_its_attempts(world: World) -> None:
    bucket = await TypedBucket.open(await world.connect("a"), "owners", Owner)
    await bucket.create("asr.c1", owner("w"))
    raced = 0

    class Raced(TypedBucket[Owner]):
        async def update(self, key: str, value: Owner, revision: int) -> int:
            nonlocal raced
            raced += 1
            await bucket.put(key, owner("other"))
            return await super().update(key, value, revision)

    racing = Raced(await (await world.connect("b")).bucket("owners"), "owners", Owner)
    with pytest.raises(RevisionConflict):
        await racing.modify("asr.c1", lambda _: owner("w"), attempts=3)
    assert raced == 3
    with pytest.raises(ValueError, match="1 or more"):
        await racing.modify("asr.c1", lambda _: owner("w"), attempts=0)


async def test_a_watch_is_typed_and_leaves_out_what_does_not_decode(world: World) -> None:
    connection = await world.connect("a")
    bucket = await TypedBucket.open(connection, "owners", Owner)
    got: list[tuple[str, TypedEntry[Owner] | None]] = []
    await bucket.watch(lambda key, entry: got.append((key, entry)), "asr.*")
    first = await bucket.put("asr.c1", owner("w1"))
    await (await connection.bucket("owners")).put("asr.c2", b"\xff{")
    await bucket.delete("asr.c1")
    for _ in range(500):
        if len(got) == 2:
            break
        await asyncio.sleep(0.005)
    assert got == [("asr.c1", TypedEntry(owner("w1"), first)), ("asr.c1", None)]


async def test_bytes_that_are_no_value(world: World) -> None:
    connection = await world.connect("a")
    await (await connection.bucket("owners")).put("asr.c1", b'{"secret": "caller said"}')
    bucket = await TypedBucket.open(connection, "owners", Owner)
    with pytest.raises(DecodeError, match=r"key 'asr\.c1' of bucket 'owners' \(revision \d+\)") as refused:
        await bucket.get("asr.c1")
    assert "caller said" not in str(refused.value)


async def test_a_bucket_that_does_not_exist(world: World) -> None:
    with pytest.raises(NotProvisioned):
        await TypedBucket.open(await world.connect("a"), "nothing", Owner)
