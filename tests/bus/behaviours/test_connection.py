"""A connection's life: loss, return, end."""

from __future__ import annotations

import asyncio
import json

import pytest

from bus.errors import BusError, BusTimeout, BusUnavailable, StoreUnavailable
from bus.interface import Message
from schemas.subjects import DISCONNECT_SUBJECT
from tests.bus.behaviours.worlds import World, until

BOTH = [pytest.param("memory", marks=pytest.mark.unit), pytest.param("nats", marks=pytest.mark.bus)]
pytestmark = pytest.mark.parametrize("world", BOTH, indirect=True)


async def test_name_and_state(world: World) -> None:
    bus = await world.connect("asr-1")
    assert bus.name == "asr-1"
    assert bus.connected is True


async def test_subscriptions_survive_a_restart_and_hear_once(world: World) -> None:
    sender, receiver = await world.connect("a"), await world.connect("b")
    got: list[bytes] = []
    await receiver.subscribe("live.*", lambda m: got.append(m.data))
    await receiver.subscribe("group.*", lambda m: got.append(m.data), queue="g")
    await world.stop()
    assert (sender.connected, receiver.connected) == (False, False)
    await world.start()
    await receiver.flush()
    sender.publish("live.x", b"1")
    sender.publish("group.x", b"2")
    await sender.flush()
    await until(lambda: len(got) == 2)
    await receiver.flush()
    assert sorted(got) == [b"1", b"2"]


async def test_a_subscription_made_while_away_hears_once(world: World) -> None:
    sender, receiver = await world.connect("a"), await world.connect("b")
    got: list[bytes] = []
    await world.stop()
    await receiver.subscribe("live.x", lambda m: got.append(m.data))
    await world.start()
    await receiver.flush()
    sender.publish("live.x", b"1")
    await sender.flush()
    await until(lambda: got)
    await receiver.flush()
    assert got == [b"1"]


async def test_listeners_hear_of_loss_and_return_and_may_raise(world: World) -> None:
    bus = await world.connect("a")
    told: list[str] = []

    def bad() -> None:
        raise RuntimeError("listener")

    bus.on_disconnected(bad)
    bus.on_disconnected(lambda: told.append("lost"))
    bus.on_reconnected(bad)
    bus.on_reconnected(lambda: told.append("back"))
    for _ in range(2):
        await world.stop()
        await until(lambda: told[-1:] == ["lost"])
        await world.start()
        await until(lambda: told[-1:] == ["back"])
    assert told == ["lost", "back"] * 2
    assert bus.connected


async def test_a_forgotten_listener_hears_nothing_more(world: World) -> None:
    bus = await world.connect("a")
    told: list[str] = []

    def lost() -> None:
        told.append("lost")

    def back() -> None:
        told.append("back")

    bus.on_disconnected(lost)
    bus.on_reconnected(back)
    await world.interrupt(bus)
    await world.restore(bus)
    await until(lambda: told == ["lost", "back"])
    bus.forget_listener(lost)
    bus.forget_listener(back)
    bus.forget_listener(back)
    await world.interrupt(bus)
    await world.restore(bus)
    await bus.flush()
    assert told == ["lost", "back"]


async def test_what_is_published_while_away_is_dropped_and_counted_not_sent_late(world: World) -> None:
    sender, receiver = await world.connect("a"), await world.connect("b")
    got: list[bytes] = []
    await receiver.subscribe("live.x", lambda m: got.append(m.data))
    await world.stop()
    sender.publish("live.x", b"old")
    sender.publish_many([("live.x", b"old"), ("live.x", b"old")])
    assert sender.drops.total == 3
    await world.start()
    await receiver.flush()
    sender.publish("live.x", b"new")
    await until(lambda: got)
    await sender.flush()
    await receiver.flush()
    assert got == [b"new"]


async def test_storing_while_away_fails_at_once(world: World) -> None:
    bus = await world.connect("a")
    await world.stop()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(bus.store("call.default.c1.call.ended", b"", timeout_ms=60_000), 1)


async def test_a_request_under_way_fails_at_once_when_the_connection_breaks(world: World) -> None:
    bus = await world.connect("a")
    await bus.subscribe("ask.silent", lambda _: None)
    asking = asyncio.ensure_future(bus.request("ask.silent", b"", timeout_ms=60_000))
    await asyncio.sleep(0.05)
    await world.interrupt(bus)
    with pytest.raises(BusUnavailable):
        await asyncio.wait_for(asking, 2)


async def test_a_request_made_while_away_waits_for_the_connection(world: World) -> None:
    bus = await world.connect("a")
    await bus.subscribe("ask.me", lambda m: bus.publish(m.reply, b"yes"))
    await world.stop()
    asking = asyncio.ensure_future(bus.request("ask.me", b"", timeout_ms=30_000))
    await asyncio.sleep(0.05)
    assert not asking.done()
    await world.start()
    assert (await asyncio.wait_for(asking, 5)).data == b"yes"


async def test_a_request_made_while_away_gives_up_at_its_deadline(world: World) -> None:
    bus = await world.connect("a")
    await world.stop()
    asking = asyncio.ensure_future(bus.request("ask.me", b"", timeout_ms=100))
    flushing = asyncio.ensure_future(bus.flush(100))
    await world.elapse(200)
    with pytest.raises(BusUnavailable):
        await asking
    with pytest.raises(BusTimeout):
        await flushing


async def test_what_is_stored_outlives_the_server(world: World) -> None:
    bus = await world.connect("a")
    await bus.store("call.default.c1.call.ended", b"1")
    await world.stop()
    await world.start()
    for _ in range(100):
        try:
            assert [m.data async for m in bus.read("call.default.c1.>")] == [b"1"]
            return
        except BusError:
            await asyncio.sleep(0.02)
    pytest.fail("the stream did not come back")


async def test_the_server_says_who_has_gone(world: World) -> None:
    watcher, worker = await world.connect("edge-1"), await world.connect("asr-7f")
    got: list[Message] = []
    await watcher.subscribe(DISCONNECT_SUBJECT, got.append)
    await watcher.flush()
    await worker.close()
    await until(lambda: got)
    assert json.loads(got[0].data)["client"]["name"] == "asr-7f"


async def test_close_sends_what_is_queued_and_ends_everything(world: World) -> None:
    sender, receiver = await world.connect("a"), await world.connect("b")
    got: list[bytes] = []
    await receiver.subscribe("live.x", lambda m: got.append(m.data))
    await receiver.flush()
    for number in range(100):
        sender.publish("live.x", b"%d" % number)
    await sender.close()
    await until(lambda: len(got) == 100)
    await sender.close()
    assert sender.connected is False
    sender.publish("live.x", b"after the end")
    assert sender.drops.total == 1
    with pytest.raises(BusUnavailable, match="closed"):
        await sender.request("ask.me", b"")
    with pytest.raises(BusUnavailable):
        await sender.subscribe("x", print)
    with pytest.raises(StoreUnavailable):
        await sender.store("call.default.c1.x.y", b"")


async def test_close_while_the_server_is_away_is_quick_and_quiet(world: World) -> None:
    bus = await world.connect("a")
    told: list[str] = []
    await world.stop()
    bus.on_reconnected(lambda: told.append("back"))
    await asyncio.wait_for(bus.close(), 3)
    await world.start()
    await asyncio.sleep(0.05)
    assert told == []
