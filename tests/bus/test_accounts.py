"""Two accounts on a real server: what passes between them, and what was there before the second one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from bus import accounts, permissions
from bus.accounts import given_by_services, given_by_store
from bus.client import NatsConnection, connect
from bus.consume import follow_all
from bus.control import send_control, serve_control
from bus.errors import BusError
from bus.interface import Message
from bus.micro import MicroService
from bus.provision import apply
from bus.publish import Recorder
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from schemas import subjects
from schemas.base import Event
from schemas.call import CallEnded, ended_with_its_edge
from schemas.control import ControlMessage, ControlReply, Flush
from schemas.subjects import matches
from tests.bus.behaviours.worlds import until
from tests.bus.secured import CALL, Secured, secured_server
from tests.bus.test_permissions import MANAGES, STREAMS

pytestmark = [pytest.mark.bus, pytest.mark.asyncio(loop_scope="module")]

SERVICES = ("edge", "asr", "llm", "tts")
STORED = ("call.", "$KV.", "dead_letter.", "limit.", "$JS.")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    with secured_server(tmp_path_factory.mktemp("accounts")) as server:
        ops = await server.connect("ops")
        await apply(ops, StreamsSection())
        await ops.close()
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


async def test_what_is_stored_or_pulled_crosses_by_a_pattern() -> None:
    """An answer is not taken across where the subject has to be filled in: see ``tests/bus/test_answers.py``."""
    for each in given_by_store():
        if each.kind == "service" and each.subject not in {f"{accounts.API}.{look}" for look in accounts.LOOKS}:
            assert "*" in each.subject or ">" in each.subject


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


async def test_both_accounts_hear_who_left_and_what_jetstream_reports(people: People, secured: Secured) -> None:
    heard: dict[str, set[str]] = {"ops": set(), "asr": set(), "inspect": set()}
    for user, subjects_heard in heard.items():
        connection = await people(user)
        for pattern in ("sys.disconnect", "$JS.EVENT.>")[: 1 if user == "asr" else 2]:
            await connection.subscribe(pattern, lambda m, found=subjects_heard: found.add(m.subject.split(".")[1]))  # type: ignore[misc]
        await connection.flush()
    await (await secured.visit("llm")).client.close()
    ops = await people("ops")
    await ops.api("STREAM.CREATE.W", {"name": "W", "subjects": ["w"]})
    await ops.api("STREAM.DELETE.W")
    await until(
        lambda: heard == {"ops": {"disconnect", "EVENT"}, "asr": {"disconnect"}, "inspect": {"disconnect", "EVENT"}}
    )


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


async def test_a_new_key_and_a_reload_change_nothing_for_others(tmp_path: Path) -> None:
    """What passes between the accounts is there after it, and who has the new key comes in."""
    with secured_server(tmp_path) as secured:
        ops, asr = await secured.connect("ops"), await secured.connect("asr")
        await apply(ops, StreamsSection())
        owners, heard = await asr.bucket("owners"), list[str]()
        await asr.subscribe("kv.owners.asr.*", lambda message: heard.append(message.subject))
        secured.keys.seed_file("tts").unlink()
        secured.keys.create(if_missing=True)
        os.kill(secured.server.pid, signal.SIGHUP)
        await until(lambda: "Reloaded server configuration" in secured.server.log_file.read_text())
        tts = await secured.connect("tts")
        for connection, name in ((asr, "asr.final"), (tts, "tts.done")):
            await connection.store(subjects.event_subject(name, CALL), b"{}")
        await owners.put(f"asr.{CALL}", b"{}")
        await until(lambda: heard)
        for each in (ops, asr, tts):
            await each.close()


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
