"""What a service has the server send, by the reply subject of a request, is taken for no order and stored nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from bus.client import NatsConnection
from bus.heartbeat import ping_subject
from bus.provision import apply
from bus.topology import READS_COPY
from bus.work_queue import NatsClaim
from config.settings import StreamsSection
from schemas import subjects
from tests.bus.behaviours.worlds import until
from tests.bus.secured import CALL, Secured, Visitor, secured_server

pytestmark = [pytest.mark.bus, pytest.mark.asyncio(loop_scope="module")]

OWN = subjects.event_subject("tts.done", CALL)
OFFERED = subjects.event_subject("call.offered", CALL)
PULL = "$JS.API.CONSUMER.MSG.NEXT.CALLS.tts-assign"

#: What the server would do if an answer with that body came there. V: a stream with one message in it.
ORDERS: dict[str, Any] = {
    "$JS.API.STREAM.DELETE.V": None,
    "$JS.API.STREAM.PURGE.V": None,
    "$JS.API.STREAM.MSG.DELETE.V": {"seq": 1},
    "$JS.API.STREAM.UPDATE.V": {"name": "V", "subjects": ["other"]},
    "$JS.API.STREAM.CREATE.FORGED": {"name": "FORGED", "subjects": ["forged"]},
    "$JS.API.CONSUMER.DELETE.CALLS.llm-assign": None,
    "$JS.API.CONSUMER.DURABLE.CREATE.V.spy": {
        "stream_name": "V", "config": {"durable_name": "spy", "deliver_subject": "_INBOX_tts.spy"},
    },
    "$JS.API.CONSUMER.MSG.NEXT.CALLS.llm-assign": {"batch": 100},
    "$JS.API.ACCOUNT.PURGE.CALLBUS": None,
    "$KV.owners.llm.forged": None,
    "$KV.workers.llm.forged": None,
    "$KV.context.forged": None,
    "$KV.tenants.default": None,
    "dead_letter.llm": None,
    subjects.event_subject("asr.final", "f" * 32): None,
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    with secured_server(tmp_path_factory.mktemp("accounts")) as server:
        ops = await server.connect("ops")
        await apply(ops, StreamsSection())
        await ops.api("STREAM.CREATE.V", {"name": "V", "subjects": ["v"]})
        await ops.close()
        visitor = await server.visit("ops")
        await visitor.client.publish("$JS.API.STREAM.NAMES", reply="v")
        await visitor.settle()
        await visitor.client.close()
        yield server


async def by_acknowledgement(tts: Visitor, target: str) -> None:
    """Of an event, a key and a dead letter: stored, and refused."""
    for subject in (OWN, "$KV.workers.tts.x", "dead_letter.tts"):
        assert await tts.may_publish(subject, b"{}", reply=target)
        await tts.client.publish(subject, b"{}", reply=target, headers={"Nats-Expected-Stream": "NONE"})


async def by_answer_of_the_api(tts: Visitor, target: str) -> None:
    for request in (
        "STREAM.NAMES",
        "STREAM.INFO.KV_workers",
        "STREAM.INFO.KV_owners",
        "CONSUMER.INFO.CALLS.tts-assign",
    ):
        assert await tts.may_publish(f"$JS.API.{request}", reply=target)
    body = msgspec.json.encode({"last_by_subj": "$KV.owners.tts.x"})
    assert await tts.may_publish("$JS.API.STREAM.MSG.GET.KV_owners", body, reply=target)


async def by_what_is_read(tts: Visitor, target: str) -> None:
    """With the body that the order wants, headers or none."""
    assert await tts.may_publish(f"$JS.API.DIRECT.GET.CALLS.{OWN}", reply=target)
    assert await tts.may_publish(f"$JS.API.DIRECT.GET.CALLS.{OWN}.none", reply=target) is False
    for more in ({"batch": 99, "no_hdr": True}, {"batch": 1}):
        body = msgspec.json.encode({"seq": 1, "next_by_subj": OWN, **more})
        assert await tts.may_publish(f"$JS.API.DIRECT.GET.{READS_COPY['tts']}", body, reply=target)


async def by_what_is_pulled(tts: Visitor, target: str) -> None:
    """The offer, then the word that there is no other; and the answer to an acknowledgement."""
    for _ in range(2):
        assert await tts.may_publish(PULL, b'{"batch":1,"no_wait":true}', reply=target)
    assert await tts.may_publish("$JS.ACK.CALLS.tts-assign.1.1.1.1.0", b"+ACK", reply=target)


async def by_a_process(tts: Visitor, target: str) -> None:
    """Another process answers with rights of its own."""
    await tts.may_publish(ping_subject("tts", "tts-1"), b"{}", reply=target)


async def by_a_trace(tts: Visitor, target: str) -> None:
    """The server says where a traced message passed; the sender names the subject, in a header."""
    for subject in (OWN, "$KV.workers.tts.x", "dead_letter.tts", f"$JS.API.DIRECT.GET.CALLS.{OWN}"):
        for more in ({}, {"Nats-Trace-Only": "true"}):
            await tts.client.publish(subject, b"{}", headers={"Nats-Trace-Dest": target, **more})


WAYS = (by_acknowledgement, by_answer_of_the_api, by_what_is_read, by_what_is_pulled, by_a_process, by_a_trace)


async def kept(ops: NatsConnection) -> dict[str, Any]:
    """Every stream and work queue with its settings, every subject but those that the visitor may write, and how many
    offers llm took."""
    found: dict[str, Any] = {"taken": (await ops.api("CONSUMER.INFO.CALLS.llm-assign"))["delivered"]["consumer_seq"]}
    for name in (await ops.api("STREAM.NAMES"))["streams"]:
        info = await ops.api(f"STREAM.INFO.{name}", {"subjects_filter": ">"})
        held = dict(info["state"].get("subjects") or {})
        for own in (OWN, OFFERED, "$KV.workers.tts.x", "dead_letter.tts"):
            held.pop(own, None)
        found[name] = (info["config"], held, (await ops.api(f"CONSUMER.NAMES.{name}"))["consumers"])
    return found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_no_answer_is_obeyed(way: Callable[[Visitor, str], Awaitable[None]], secured: Secured) -> None:
    """A service has the server answer to a subject on which JetStream takes orders, or a stream stores. Nothing comes
    of it: what the server brings back to ``SERVICES`` stays there."""
    ops, edge, tts = await secured.connect("ops"), await secured.connect("edge"), await secured.visit("tts")
    worker = await secured.connect("tts", "tts-1")
    await worker.subscribe(ping_subject("tts", "tts-1"), lambda m: worker.publish(m.reply, b"{}"))
    await worker.flush()
    before = await kept(ops)
    assert before["V"][1] == {"v": 1}
    for target, order in ORDERS.items():
        body = b"" if order is None else msgspec.json.encode(order)
        await edge.store(OFFERED, body)
        await tts.client.request(OWN, body)
        await way(tts, target)
    await tts.settle()
    assert await kept(ops) == before
    for each in (ops, edge, worker):
        await each.close()
    await tts.client.close()


async def test_the_same_is_obeyed_where_jetstream_is(secured: Secured) -> None:
    """So it is the accounts that hold it back, and not the server by itself."""
    ops, visitor = await secured.connect("ops"), await secured.visit("ops")
    await ops.api("STREAM.CREATE.W", {"name": "W", "subjects": ["w"]})
    for target in ("$JS.API.STREAM.CREATE.FORGED", "$JS.API.STREAM.DELETE.W"):
        order = ORDERS.get(target)
        await ops.store("dead_letter.cli", b"" if order is None else msgspec.json.encode(order))
        assert await visitor.may_publish("$JS.API.DIRECT.GET.DEAD_LETTERS.dead_letter.cli", reply=target)
        await visitor.settle()
    streams = (await ops.api("STREAM.NAMES"))["streams"]
    assert "FORGED" in streams
    assert "W" not in streams
    await ops.api("STREAM.DELETE.FORGED")
    await ops.close()
    await visitor.client.close()


async def test_no_answer_settles_the_offers_of_others(secured: Secured) -> None:
    ops, edge, tts = await secured.connect("ops"), await secured.connect("edge"), await secured.visit("tts")
    asr = await secured.connect("asr")
    await edge.store(OFFERED, b"{}")
    claim = (await (await asr.work_queue("asr-assign")).fetch(1, 2000))[0]
    assert isinstance(claim, NatsClaim)
    waiting = (await ops.api("CONSUMER.INFO.CALLS.asr-assign"))["num_ack_pending"]
    await tts.client.publish(OWN, b"+ACK")
    await tts.settle()
    await tts.client.publish(f"$JS.API.DIRECT.GET.CALLS.{OWN}", b"", reply=claim._reply)
    await tts.settle()
    assert (await ops.api("CONSUMER.INFO.CALLS.asr-assign"))["num_ack_pending"] == waiting
    await claim.acknowledge()
    assert (await ops.api("CONSUMER.INFO.CALLS.asr-assign"))["num_ack_pending"] == waiting - 1
    for each in (ops, edge, asr):
        await each.close()
    await tts.client.close()


async def test_an_answer_is_heard_live_by_services(secured: Secured) -> None:
    """docs/security.md says so. Holding this back too takes an account for each service."""
    tts, inspect = await secured.visit("tts"), await secured.visit("inspect")
    target = subjects.event_subject("asr.final", CALL)
    assert await inspect.may_subscribe(target)
    assert not await tts.may_publish(target)
    assert await tts.may_publish("$JS.API.STREAM.NAMES", reply=target)
    await tts.settle()
    await until(lambda: inspect.heard)
    await tts.client.close()
    await inspect.client.close()
