"""Work in a thread of its own, and what of it comes to another event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.pipecat.hosting import Giver, Host

pytestmark = pytest.mark.unit


@pytest.fixture
def host():
    made = Host("test")
    yield made
    made.close()


async def three(give: Giver[int]) -> None:
    for number in range(1, 4):
        give(number)
        await asyncio.sleep(0)


async def test_items_come_in_order_from_another_thread(host):
    threads = set()

    async def work(give: Giver[int]) -> None:
        threads.add(threading.current_thread().name)
        await three(give)

    stream = host.stream(work)
    assert [item async for item in stream] == [1, 2, 3]
    assert threads == {"pipecat-test"}
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_what_the_work_raises_comes_after_its_items(host):
    async def work(give: Giver[int]) -> None:
        give(1)
        raise ValueError("broken")

    stream = host.stream(work)
    assert await anext(stream) == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await anext(stream)


async def test_cancelled_it_ends_at_once_and_so_does_the_work(host):
    ended = threading.Event()

    async def work(give: Giver[int]) -> None:
        try:
            give(1)
            give(2)
            await asyncio.sleep(3600)
        finally:
            ended.set()

    stream = host.stream(work)
    assert await anext(stream) == 1
    waiting = asyncio.create_task(anext(stream))
    stream.cancel()
    stream.cancel()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert await asyncio.to_thread(ended.wait, 5)


async def test_the_work_may_wait_until_all_is_taken(host):
    given: list[int] = []

    async def work(give: Giver[int]) -> None:
        for number in range(6):
            if number % 2 == 0:
                await give.taken()
            given.append(number)
            give(number)

    stream = host.stream(work)
    assert await anext(stream) == 0
    await asyncio.sleep(0.02)
    assert given == [0, 1]
    assert [item async for item in stream] == [1, 2, 3, 4, 5]


async def test_many_streams_leave_no_thread_and_no_task(host):
    async def run() -> None:
        assert [item async for item in host.stream(three)] == [1, 2, 3]

    await run()
    before = threading.active_count(), len(asyncio.all_tasks())
    for _ in range(200):
        await run()
    assert (threading.active_count(), len(asyncio.all_tasks())) == before


def test_a_loop_that_has_ended_is_not_told(host):
    async def forget() -> None:
        host.stream(three)

    asyncio.run(forget())
    assert host.start(asyncio.sleep(0, "alive")).result(5) == "alive"


def test_closed_it_ends_what_still_runs():
    host = Host("closing")
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    host.start(work())
    host.start(asyncio.sleep(0)).result(5)
    host.close()
    host.close()
    assert ended.wait(5)
    assert host.start(asyncio.sleep(0, "again")).result(5) == "again"
    host.close()
