"""Live messages: publish, subscribe, request."""

from __future__ import annotations

import asyncio

import pytest

from bus.errors import BusTimeout, NoResponders
from bus.interface import Message
from tests.bus.behaviours.worlds import World, until

BOTH = [pytest.param("memory", marks=pytest.mark.unit), pytest.param("nats", marks=pytest.mark.bus)]
pytestmark = pytest.mark.parametrize("world", BOTH, indirect=True)


async def test_messages_arrive_in_order_with_headers_and_reply(world: World) -> None:
    sender, receiver = await world.connect("a"), await world.connect("b")
    got: list[Message] = []
    await receiver.subscribe("live.x", got.append)
    await receiver.flush()
    sender.publish("live.x", b"1", {"One": "1", "traceparent": "00-ab-cd-01"}, "answer.here")
    sender.publish("live.x", b"")
    sender.publish_many([("live.x", b"3"), ("live.y", b"no"), ("live.x", b"4")])
    sender.publish("live.x", b"5")
    await until(lambda: len(got) == 5)
    assert [m.data for m in got] == [b"1", b"", b"3", b"4", b"5"]
    assert dict(got[0].headers) == {"One": "1", "traceparent": "00-ab-cd-01"}
    assert got[0].reply == "answer.here"
    assert got[0].subject == "live.x"
    assert dict(got[1].headers) == {}
    assert got[1].reply == ""


async def test_header_values_cannot_smuggle_a_line(world: World) -> None:
    bus = await world.connect("a")
    got: list[Message] = []
    await bus.subscribe("live.x", got.append)
    bus.publish("live.x", b"1", {"One": "1\r\nTwo: 2"})
    await until(lambda: got)
    assert "Two" not in got[0].headers


async def test_a_sender_hears_itself(world: World) -> None:
    bus = await world.connect("a")
    got: list[Message] = []
    await bus.subscribe("live.x", got.append)
    bus.publish("live.x", b"1")
    await until(lambda: got)


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("a.*.c", ["a.b.c"]),
        ("a.>", ["a.b", "a.b.c", "a.x.c.d"]),
        ("*.b", ["a.b"]),
        (">", ["a", "a.b", "a.b.c", "a.x.c.d"]),
        ("a", ["a"]),
    ],
)
async def test_wildcards(world: World, pattern: str, heard: list[str]) -> None:
    bus = await world.connect("a")
    got: list[str] = []
    await bus.subscribe(pattern, lambda message: got.append(message.subject))
    for subject in ("a", "a.b", "a.b.c", "a.x.c.d"):
        bus.publish(subject, b"")
    await bus.flush()
    await until(lambda: len([s for s in got if s.startswith("a")]) >= len(heard))
    assert [s for s in got if s[0] == "a"] == [s for s in ("a", "a.b", "a.b.c", "a.x.c.d") if s in heard]


async def test_a_queue_group_gets_each_message_once_and_everybody_else_too(world: World) -> None:
    sender = await world.connect("a")
    group: list[bytes] = []
    alone: list[bytes] = []
    members = [await world.connect(f"m{number}") for number in range(3)]
    for member in members:
        await member.subscribe("work.*", lambda message: group.append(message.data), queue="workers")
        await member.flush()
    await sender.subscribe("work.*", lambda message: alone.append(message.data))
    for number in range(60):
        sender.publish("work.x", b"%d" % number)
    await until(lambda: len(group) >= 60 and len(alone) >= 60)
    assert sorted(group, key=int) == [b"%d" % number for number in range(60)]
    assert alone == [b"%d" % number for number in range(60)]


async def test_a_handler_that_raises_ends_nothing_and_is_counted(world: World) -> None:
    bus = await world.connect("a")
    got: list[bytes] = []

    def handler(message: Message) -> None:
        if message.data == b"bad":
            raise RuntimeError("handler")
        got.append(message.data)

    await bus.subscribe("live.x", handler)
    for data in (b"1", b"bad", b"2"):
        bus.publish("live.x", data)
    await until(lambda: len(got) == 2)
    assert got == [b"1", b"2"]
    assert bus.handler_errors == 1


async def test_a_closed_subscription_hears_nothing_more(world: World) -> None:
    bus = await world.connect("a")
    got: list[Message] = []
    subscription = await bus.subscribe("live.x", got.append)
    bus.publish("live.x", b"1")
    await until(lambda: got)
    await subscription.close()
    await subscription.close()
    bus.publish("live.x", b"2")
    await bus.flush()
    assert [m.data for m in got] == [b"1"]
    assert subscription.dropped == 0


async def test_flush_means_that_the_other_side_can_have_it(world: World) -> None:
    sender, receiver = await world.connect("a"), await world.connect("b")
    got: list[Message] = []
    await receiver.subscribe("live.x", got.append)
    await receiver.flush()
    for _ in range(200):
        sender.publish("live.x", b"")
    await sender.flush()
    await receiver.flush()
    assert len(got) == 200


async def test_request_and_answer(world: World) -> None:
    client, service = await world.connect("a"), await world.connect("b")
    await service.subscribe("ask.me", lambda m: service.publish(m.reply, m.data + b"!", {"Kind": m.headers["Kind"]}))
    await service.flush()
    answers = await asyncio.gather(*(client.request("ask.me", b"%d" % n, headers={"Kind": "k"}) for n in range(20)))
    assert [answer.data for answer in answers] == [b"%d!" % n for n in range(20)]
    assert answers[0].headers["Kind"] == "k"


async def test_a_request_that_nobody_hears_fails_at_once(world: World) -> None:
    bus = await world.connect("a")
    with pytest.raises(NoResponders, match=r"nobody listens on 'ask\.nobody'"):
        await bus.request("ask.nobody", b"", timeout_ms=60_000)


async def test_a_request_that_nobody_answers_fails_at_its_deadline(world: World) -> None:
    bus = await world.connect("a")
    await bus.subscribe("ask.silent", lambda _: None)
    asking = asyncio.ensure_future(bus.request("ask.silent", b"", timeout_ms=150))
    await world.elapse(100)
    assert not asking.done()
    await world.elapse(100)
    with pytest.raises(BusTimeout, match="150 ms"):
        await asking


async def test_an_answer_after_the_deadline_disturbs_nothing(world: World) -> None:
    bus = await world.connect("a")
    asked: list[Message] = []
    await bus.subscribe("ask.slow", asked.append)
    asking = asyncio.ensure_future(bus.request("ask.slow", b"", timeout_ms=50))
    await until(lambda: asked)
    await world.elapse(80)
    with pytest.raises(BusTimeout):
        await asking
    bus.publish(asked[0].reply, b"late")
    await bus.flush()
    assert bus.handler_errors == 0


async def test_publishing_with_a_reply_where_nobody_is_brings_status_503(world: World) -> None:
    bus = await world.connect("a")
    got: list[Message] = []
    await bus.subscribe("my.inbox", got.append)
    bus.publish("ask.nobody", b"x", reply="my.inbox")
    await until(lambda: got)
    assert got[0].headers["Status"] == "503"
    assert got[0].data == b""


async def test_a_coroutine_is_no_handler(world: World) -> None:
    bus = await world.connect("a")

    async def slow(_: Message) -> None: ...

    with pytest.raises(TypeError, match="slow is a coroutine function"):
        await bus.subscribe("live.x", slow)
