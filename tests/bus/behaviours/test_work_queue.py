"""Work queues: one worker gets a call, another gets it where the first does not settle it."""

from __future__ import annotations

import asyncio

import pytest

from bus.errors import NotProvisioned
from bus.topology import ConsumerSpec
from tests.bus.behaviours.worlds import World, until

BOTH = [pytest.param("memory", marks=pytest.mark.unit), pytest.param("nats", marks=pytest.mark.bus)]
pytestmark = pytest.mark.parametrize("world", BOTH, indirect=True)

OFFERED = "call.default.c1.call.offered"
QUICK = ConsumerSpec(name="quick", why="", filter_subject="call.*.*.call.offered", acknowledge_ms=300, max_deliver=3)


async def test_each_call_goes_to_one_worker(world: World) -> None:
    bus, one, two = await world.connect("edge"), await world.connect("asr-1"), await world.connect("asr-2")
    queues = [await one.work_queue("asr-assign"), await two.work_queue("asr-assign")]
    waiting = [asyncio.ensure_future(queue.fetch(1, 2000)) for queue in queues]
    await asyncio.sleep(0.05)
    await bus.store("call.default.c1.asr.final", b"not an offer")
    await bus.store("call.default.c1.call.offered", b"1")
    await bus.store("call.default.c2.call.offered", b"2")
    claims = [(await fetched)[0] for fetched in waiting]
    assert sorted(claim.message.data for claim in claims) == [b"1", b"2"]
    assert [claim.deliveries for claim in claims] == [1, 1]
    assert {claim.message.subject for claim in claims} == {
        "call.default.c1.call.offered",
        "call.default.c2.call.offered",
    }
    assert all(claim.message.stream_sequence > 1 and claim.message.stored_us for claim in claims)
    for claim in claims:
        await claim.acknowledge()


async def test_each_stage_has_a_queue_of_its_own(world: World) -> None:
    bus = await world.connect("a")
    await bus.store(OFFERED, b"1")
    for stage in ("asr", "llm", "tts"):
        claims = await (await bus.work_queue(f"{stage}-assign")).fetch(5, 500)
        assert [claim.message.data for claim in claims] == [b"1"]
        await claims[0].acknowledge()


async def test_what_rang_while_nobody_was_there_is_still_offered(world: World) -> None:
    bus = await world.connect("edge")
    for number in range(3):
        await bus.store(f"call.default.c{number}.call.offered", b"%d" % number)
    worker = await world.connect("asr-1")
    queue = await worker.work_queue("asr-assign")
    assert [claim.message.data for claim in await queue.fetch(2, 500)] == [b"0", b"1"]
    assert [claim.message.data for claim in await queue.fetch(2, 500)] == [b"2"]


async def test_nothing_in_time_is_an_empty_list(world: World) -> None:
    bus = await world.connect("a")
    queue = await bus.work_queue("asr-assign")
    fetching = asyncio.ensure_future(queue.fetch(1, 100))
    await world.elapse(40)
    assert not fetching.done()
    await world.elapse(200)
    assert await asyncio.wait_for(fetching, 1) == []


async def test_a_refused_call_comes_again(world: World) -> None:
    bus = await world.connect("a")
    queue = await bus.work_queue("asr-assign")
    await bus.store(OFFERED, b"1")
    claim = (await queue.fetch(1, 500))[0]
    await claim.refuse()
    again = (await queue.fetch(1, 500))[0]
    assert (again.message.data, again.deliveries) == (b"1", 2)
    await again.refuse(delay_ms=150)
    fetching = asyncio.ensure_future(queue.fetch(1, 2000))
    await world.elapse(70)
    assert not fetching.done()
    await world.elapse(150)
    third = (await asyncio.wait_for(fetching, 2))[0]
    assert third.deliveries == 3
    await third.terminate()


async def test_settled_means_never_again(world: World) -> None:
    bus = await world.connect("a")
    await world.make_consumer(QUICK)
    queue = await bus.work_queue("quick")
    for number in range(2):
        await bus.store(f"call.default.c{number}.call.offered", b"")
    first, second = await queue.fetch(2, 500)
    await first.acknowledge()
    await second.terminate()
    fetching = asyncio.ensure_future(queue.fetch(1, 500))
    await world.elapse(600)
    assert await asyncio.wait_for(fetching, 1) == []


async def test_a_worker_that_dies_with_a_call_loses_it_to_another(world: World) -> None:
    bus = await world.connect("a")
    await world.make_consumer(QUICK)
    await bus.store(OFFERED, b"1")
    assert len(await (await bus.work_queue("quick")).fetch(1, 500)) == 1
    fetching = asyncio.ensure_future((await bus.work_queue("quick")).fetch(1, 2000))
    await world.elapse(200)
    assert not fetching.done()
    await world.elapse(200)
    assert (await asyncio.wait_for(fetching, 2))[0].deliveries == 2


async def test_a_call_that_nobody_settles_is_given_up_after_max_deliver(world: World) -> None:
    bus = await world.connect("a")
    await world.make_consumer(QUICK)
    queue = await bus.work_queue("quick")
    await bus.store(OFFERED, b"1")
    for delivery in (1, 2, 3):
        claim = (await queue.fetch(1, 500))[0]
        assert claim.deliveries == delivery
        await claim.refuse()
    fetching = asyncio.ensure_future(queue.fetch(1, 400))
    await world.elapse(500)
    assert await asyncio.wait_for(fetching, 1) == []


async def test_a_fetch_that_was_cancelled_keeps_no_call(world: World) -> None:
    bus = await world.connect("a")
    queue = await bus.work_queue("asr-assign")
    fetching = asyncio.ensure_future(queue.fetch(1, 60_000))
    await asyncio.sleep(0.05)
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    await bus.store(OFFERED, b"1")
    other = await (await world.connect("b")).work_queue("asr-assign")
    assert [claim.message.data for claim in await other.fetch(1, 1000)] == [b"1"]


async def test_a_fetch_goes_on_when_the_server_is_back(world: World) -> None:
    bus = await world.connect("a")
    queue = await bus.work_queue("asr-assign")
    fetching = asyncio.ensure_future(queue.fetch(1, 10_000))
    await asyncio.sleep(0.05)
    await world.stop()
    await asyncio.sleep(0.05)
    assert not fetching.done()
    await world.start()
    await until(lambda: bus.connected)
    for attempt in range(50):
        try:
            await bus.store(OFFERED, b"1")
            break
        except Exception:
            assert attempt < 49
            await asyncio.sleep(0.05)
    assert [claim.message.data for claim in await asyncio.wait_for(fetching, 5)] == [b"1"]


async def test_a_queue_that_does_not_exist(world: World) -> None:
    bus = await world.connect("a")
    with pytest.raises(NotProvisioned, match="callbus provision"):
        await bus.work_queue("nobody-assign")
    with pytest.raises(NotProvisioned):
        await bus.work_queue("asr-assign", stream="NO_SUCH_STREAM")
