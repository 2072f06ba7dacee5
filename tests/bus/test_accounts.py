"""Two accounts on a real server: what passes between them, and that no answer of JetStream is taken for an order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from bus import accounts, permissions
from bus.accounts import given_by_services, given_by_store
from bus.client import NatsConnection, connect
from bus.consume import follow_all
from bus.control import send_control, serve_control
from bus.errors import BusError
from bus.heartbeat import ping_subject
from bus.interface import Message
from bus.micro import MicroService
from bus.provision import apply
from bus.publish import Recorder
from bus.server import NatsServerProcess
from bus.topology import READS_COPY
from bus.work_queue import NatsClaim
from config.settings import NatsSection, StreamsSection
from schemas import subjects
from schemas.base import Event
from schemas.call import CallEnded, ended_with_its_edge
from schemas.control import ControlMessage, ControlReply, Flush
from schemas.subjects import matches
from tests.bus.behaviours.worlds import until
from tests.bus.secured import CALL, Secured, Visitor, secured_server
from tests.bus.test_permissions import MANAGES, STREAMS

pytestmark = [pytest.mark.bus, pytest.mark.asyncio(loop_scope="module")]

SERVICES = ("edge", "asr", "llm", "tts")
STORED = ("call.", "$KV.", "dead_letter.", "limit.", "$JS.")
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


@pytest_asyncio.fixture(loop_scope="module")
async def people(secured: Secured) -> AsyncIterator[Callable[[str], Awaitable[NatsConnection]]]:
    """Connections as the program makes them, closed at the end."""
    made = []

    async def connect(user: str) -> NatsConnection:
        made.append(await secured.connect(user))
        return made[-1]

    yield connect
    for connection in made:
        await connection.close()


People = Callable[[str], Awaitable[NatsConnection]]


# --- the list --------------------------------------------------------------------------------------------------------


def one_of(pattern: str) -> str:
    """A subject that falls under a pattern."""
    return pattern.replace("*", "x").replace(">", "x.y")


def taken(subject: str, kind: str, crossings: tuple[accounts.Crossing, ...]) -> int:
    return sum(each.kind == kind and matches(each.subject, subject) for each in crossings)


async def test_what_a_service_may_store_or_ask_crosses_once() -> None:
    """Twice would be stored twice."""
    for user in permissions.users():
        if user.account == accounts.LIVE:
            for right in user.publish:
                wanted = 1 if right.subject.startswith(STORED) else 0
                assert taken(one_of(right.subject), "service", given_by_store()) == wanted, (user.name, right.subject)
            for right in user.subscribe:
                if right.subject.startswith(("kv.", "$JS.")):
                    assert taken(one_of(right.subject), "stream", given_by_store()) == 1, (user.name, right.subject)


async def test_what_ops_may_ask_of_services_crosses_once() -> None:
    here = ("$JS.", "$KV.", "call.", "dead_letter.", "limit.", "kv.", "ops.>", "replay.", "_INBOX_ops", "sys.")
    ops = permissions.user("ops")
    assert ops.account == accounts.STORE
    for kind, rights in (("service", ops.publish), ("stream", ops.subscribe)):
        for right in rights:
            if not right.subject.startswith(here):
                assert taken(one_of(right.subject), kind, given_by_services()) == 1, right.subject


async def test_nothing_that_changes_a_stream_crosses() -> None:
    for template in MANAGES:
        subject = f"{accounts.API}.{template}".replace(".S", ".CALLS").replace(".C", ".asr-assign", 1)
        assert not taken(subject, "service", given_by_store()), subject


async def test_what_is_stored_crosses_by_a_pattern() -> None:
    """An answer is not taken across where the subject has to be filled in: see ``test_no_answer_is_obeyed``."""
    for each in given_by_store():
        if each.kind == "service" and not each.subject.startswith("$JS.API."):
            assert "*" in each.subject or ">" in each.subject


# --- answers ---------------------------------------------------------------------------------------------------------


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


WAYS = (by_acknowledgement, by_answer_of_the_api, by_what_is_read, by_what_is_pulled, by_a_process)


async def kept(ops: NatsConnection) -> dict[str, Any]:
    """Every stream and work queue with its settings, and every subject but those that the visitor may write."""
    found: dict[str, Any] = {}
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


# --- what goes on between the accounts -------------------------------------------------------------------------------


async def test_ops_commands_and_is_answered(people: People) -> None:
    edge, ops = await people("edge"), await people("ops")
    obeyed: list[ControlMessage] = []

    def obey(command: ControlMessage) -> ControlReply:
        obeyed.append(command)
        return ControlReply(ok=True)

    serving = await serve_control(edge, "edge", CALL, "default", obey, service="edge")
    await edge.flush()
    reply = await send_control(ops, "edge", Flush(call_id=CALL))
    assert (reply.ok, len(obeyed)) == (True, 1)
    await serving.close()
    await edge.flush()
    nobody = await send_control(ops, "edge", Flush(call_id=CALL))
    assert nobody.error == "not_owner"


async def test_each_account_hears_the_other_once(people: People) -> None:
    """Events, by whom of both they are said; audio and heartbeats, which are not stored; and what a bucket says."""
    ops, asr, inspect = [await people(user) for user in ("ops", "asr", "inspect")]
    heard: dict[str, list[str]] = {"ops": [], "inspect": []}

    def listener(name: str) -> Callable[[Message], None]:
        return lambda message: heard[name].append(message.subject)

    for connection in (ops, inspect):
        name = connection.inbox_prefix.removeprefix("_INBOX_")
        for pattern in ("call.*.*.turn.started", "call.*.*.call.ended", "hb.>", "kv.>"):
            await connection.subscribe(pattern, listener(name))
    events: list[Event] = []
    await follow_all(asr, ["call.ended"], events.append, service="asr")
    for connection in (ops, asr, inspect):
        await connection.flush()
    started, ended = (subjects.event_subject(name, CALL) for name in ("turn.started", "call.ended"))
    await asr.store(started, b"{}")
    asr.publish("hb.asr.asr-1", b"{}")
    await (await asr.bucket("owners")).put(f"asr.{CALL}", b"{}")
    recorder = Recorder(ops, service="up")
    recorder.record(ended_with_its_edge(call_id=CALL, tenant="default", at_us=1, edge="edge-1", duration_ms=0))
    assert await recorder.flush(2000)
    await recorder.close(1000)
    # The first copy of an event goes out before the sender can hear that it is stored.
    expected = sorted([started, ended, ended, "hb.asr.asr-1", f"kv.owners.asr.{CALL}"])
    await until(lambda: len(heard["ops"]) >= 5 and len(heard["inspect"]) >= 5 and events)
    await asyncio.sleep(0.1)
    assert sorted(heard["ops"]) == expected
    assert sorted(heard["inspect"]) == expected
    assert [type(event) for event in events] == [CallEnded]
    assert [m.subject async for m in ops.read(ended)] == [ended], "stored once"


async def test_services_are_asked_from_both_accounts(people: People) -> None:
    asr = await people("asr")
    service = MicroService(asr, name="asr", version="1", instance="asr-1", health=lambda: {"ok": True})
    await service.start()
    await asr.flush()
    for user in ("ops", "inspect"):
        person = await people(user)
        for question in ("$SRV.PING", "$SRV.INFO.asr", "$SRV.STATS.asr.asr-1"):
            answer = msgspec.json.decode((await person.request(question, b"")).data)
            assert (answer["name"], answer["id"]) == ("asr", "asr-1")


async def test_a_store_that_is_not_there_is_noticed(people: People, secured: Secured) -> None:
    """No stream takes the subject: the sender is told so at once, across the accounts too."""
    ops, llm = await people("ops"), await people("llm")
    await ops.api("STREAM.DELETE.KV_calls")
    with pytest.raises(BusError):
        await llm.store(f"$KV.calls.{CALL}", b"{}", timeout_ms=1000)
    await apply(ops, StreamsSection())
    assert (await llm.store(f"$KV.calls.{CALL}", b"{}")).sequence == 1


BEFORE = """
JETSTREAM_KEY: "%s"
jetstream { max_file_store: 20GB, cipher: chacha, key: $JETSTREAM_KEY }
accounts {
  SYS { users: [ { user: system, password: system } ] }
  CALLBUS { jetstream { max_streams: 30, max_consumers: 200 }, users: [ { user: all, password: all } ] }
}
system_account: SYS
no_auth_user: all
"""
"""As it was while everybody was in one account."""


async def test_streams_of_one_account_are_found_again(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    old, users = tmp_path / "old.conf", secured.keys.users_file.read_text()
    old.write_text(BEFORE % users.split('JETSTREAM_KEY: "')[1][:64])
    with NatsServerProcess(secured.store, config=old) as server:
        everybody = await connect("asr-1", NatsSection(url=server.url), wait=False)
        await apply(everybody, StreamsSection())
        await everybody.store(subjects.event_subject("asr.final", CALL), b"kept")
        await (await everybody.bucket("context")).put(CALL, b"kept too")
        await everybody.close()
    with secured.server:
        ops, asr, llm = [await secured.connect(user) for user in ("ops", "asr", "llm")]
        assert set(STREAMS) <= set((await ops.api("STREAM.NAMES"))["streams"])
        assert await apply(ops, StreamsSection()) == []
        stored = await asr.last(subjects.event_subject("asr.final", CALL))
        entry = await (await llm.bucket("context")).get(CALL)
        assert stored is not None and stored.data == b"kept"
        assert entry is not None and entry.value == b"kept too"
        for each in (ops, asr, llm):
            await each.close()
