"""Provisioning on a real server: shows, applies, changes nothing the second time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus.client import NatsConnection, connect
from bus.errors import BusError
from bus.jetstream import ApiError
from bus.provision import Change, FieldChange, apply, bucket_config, check, plan, stream_config
from bus.server import NatsServerProcess
from bus.topology import BucketSpec, StreamSpec, topology
from config.settings import NatsSection, StreamsSection

pytestmark = pytest.mark.bus

Servers = Callable[..., NatsServerProcess]
SECTION = StreamsSection()


async def open_connection(server: NatsServerProcess) -> NatsConnection:
    return await connect("provision", NatsSection(url=server.url), wait=False)


async def test_the_plan_names_everything_and_the_second_run_changes_nothing(fresh_nats: Servers) -> None:
    server = fresh_nats()
    connection = await open_connection(server)
    wanted = topology(SECTION)
    planned = await plan(connection, SECTION)
    assert {change.action for change in planned} == {"create"}
    assert len(planned) == len(wanted.streams) + len(wanted.buckets) + len(wanted.consumers)
    assert all(change.why for change in planned)
    assert await apply(connection, SECTION) == planned
    assert await plan(connection, SECTION) == []
    assert await apply(connection, SECTION) == []
    server.stop()
    server.start()
    await asyncio.sleep(0.05)
    await connection.ready(5000)
    assert await plan(connection, SECTION) == []
    await connection.close()


async def test_a_copy_with_other_filters_holds_nothing_twice(fresh_nats: Servers) -> None:
    """A server that an earlier version provisioned: what HISTORY holds is not copied again, what comes is."""
    connection = await open_connection(fresh_nats())
    await apply(connection, SECTION)
    for number in range(20):
        await connection.store(f"call.default.c{number}.llm.sentence", b"said")
    await until_copied(connection, 20)
    config = (await connection.api("STREAM.INFO.HISTORY"))["config"]
    config["sources"][0]["subject_transforms"] = config["sources"][0]["subject_transforms"][1:]
    await connection.api("STREAM.UPDATE.HISTORY", config)
    await asyncio.sleep(0.5)
    before = (await connection.api("STREAM.INFO.HISTORY"))["state"]["messages"]
    assert [change.name for change in await apply(connection, SECTION)] == ["HISTORY"]
    assert await plan(connection, SECTION) == []
    await connection.store("call.default.c1.call.ended", b"over")
    await until_copied(connection, before + 1)
    await asyncio.sleep(0.5)
    assert (await connection.api("STREAM.INFO.HISTORY"))["state"]["messages"] == before + 1
    # Another setting, later: nothing is copied again either.
    await apply(connection, StreamsSection(history_max_age_d=7))
    await connection.store("call.default.c2.call.ended", b"over")
    await until_copied(connection, before + 2)
    await asyncio.sleep(0.5)
    assert (await connection.api("STREAM.INFO.HISTORY"))["state"]["messages"] == before + 2
    await connection.close()


async def until_copied(connection: NatsConnection, count: int) -> None:
    async with asyncio.timeout(10):
        while (await connection.api("STREAM.INFO.HISTORY"))["state"]["messages"] < count:
            await asyncio.sleep(0.05)


async def test_a_changed_setting_is_shown_field_by_field_and_applied(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await apply(connection, SECTION)
    await connection.store("call.default.c1.call.ended", b"stays")
    longer = StreamsSection(calls_max_age_h=100, context_ttl_min=60)
    changes = {change.name: change for change in await plan(connection, longer)}
    assert set(changes) == {"CALLS", "CALLS_TTS", "calls", "context"}
    assert changes["CALLS"].fields == (
        FieldChange(field="max_age", before=72 * 3600 * 10**9, after=100 * 3600 * 10**9),
    )
    assert str(changes["CALLS"]) == "change stream CALLS\n    max_age: 259200000000000 -> 360000000000000"
    assert (await plan(connection, SECTION)) == []
    await apply(connection, longer)
    assert await plan(connection, longer) == []
    assert [m.data async for m in connection.read("call.default.c1.>")] == [b"stays"]
    await connection.close()


async def test_a_consumer_is_changed_in_place(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await apply(connection, SECTION)
    info = await connection.api("CONSUMER.INFO.CALLS.asr-assign")
    config = {**info["config"], "ack_wait": 60 * 10**9}
    subject = "CONSUMER.CREATE.CALLS.asr-assign.call.*.*.call.offered"
    await connection.api(subject, {"stream_name": "CALLS", "config": config})
    (change,) = await plan(connection, SECTION)
    assert (change.kind, change.name, change.action) == ("consumer", "asr-assign on CALLS", "change")
    await apply(connection, SECTION)
    assert await plan(connection, SECTION) == []
    await connection.close()


async def test_what_is_not_ours_is_named_and_left_alone(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await apply(connection, SECTION)
    await connection.api("STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["other.>"]})
    await connection.api("STREAM.CREATE.KV_other", {"name": "KV_other", "subjects": ["$KV.other.>"]})
    body = {"stream_name": "CALLS", "config": {"durable_name": "mine", "ack_policy": "explicit"}}
    await connection.api("CONSUMER.DURABLE.CREATE.CALLS.mine", body)
    await (await connection.bucket("owners")).watch(lambda _: None)
    extras = await plan(connection, SECTION)
    assert [str(change) for change in extras] == [
        "extra bucket other (left alone)",
        "extra stream OTHER (left alone)",
        "extra consumer mine on CALLS (left alone)",
    ]
    assert await check(connection, SECTION) == []
    assert await apply(connection, SECTION) == []
    assert await plan(connection, SECTION) == extras
    await connection.close()


async def test_what_cannot_be_changed_is_told_and_made_anew_only_when_asked(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await connection.api("STREAM.CREATE.CALLS", {"name": "CALLS", "subjects": ["call.>"], "storage": "memory"})
    body = {
        "stream_name": "CALLS",
        "config": {"durable_name": "asr-assign", "ack_policy": "explicit", "filter_subject": "call.*.*.call.offered"},
    }
    await connection.api("CONSUMER.DURABLE.CREATE.CALLS.asr-assign", body)
    changes = {change.name: change for change in await plan(connection, SECTION)}
    assert changes["CALLS"].action == "recreate"
    assert changes["asr-assign on CALLS"].action == "recreate"
    assert "recreate stream CALLS (can't be changed in place)\n" in str(changes["CALLS"])
    await apply(connection, SECTION)
    assert {change.name for change in await check(connection, SECTION)} == {"CALLS", "asr-assign on CALLS"}
    await apply(connection, SECTION, recreate=True)
    assert await check(connection, SECTION) == []
    await connection.close()


async def test_a_consumer_that_reads_from_the_beginning_is_made_anew_when_asked(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await apply(connection, SECTION)
    await connection.api("CONSUMER.DELETE.CALLS.llm-assign")
    config = {"durable_name": "llm-assign", "ack_policy": "explicit", "filter_subject": "call.*.*.call.offered"}
    await connection.api("CONSUMER.DURABLE.CREATE.CALLS.llm-assign", {"stream_name": "CALLS", "config": config})
    (change,) = await check(connection, SECTION)
    assert FieldChange(field="deliver_policy", before="all", after="new") in change.fields
    assert len(await apply(connection, SECTION, recreate=True)) == 1
    assert await check(connection, SECTION) == []
    await connection.close()


async def test_several_provisioners_at_once(fresh_nats: Servers) -> None:
    server = fresh_nats()
    connections = [await open_connection(server) for _ in range(5)]
    await asyncio.gather(*(apply(connection, SECTION) for connection in connections))
    assert await plan(connections[0], SECTION) == []
    longer = StreamsSection(calls_max_age_h=100)
    await asyncio.gather(*(apply(connection, longer) for connection in connections))
    assert await plan(connections[0], longer) == []
    for connection in connections:
        await connection.close()


async def test_a_server_without_room_says_what_to_do(fresh_nats: Servers, tmp_path: Path) -> None:
    config = tmp_path / "small.conf"
    config.write_text("jetstream { max_file_store: 100MB }\n")
    connection = await open_connection(fresh_nats(config=config))
    with pytest.raises(BusError, match=r"CALLS: the server has no room .* lower .streams. calls_max_bytes"):
        await apply(connection, SECTION)
    await connection.close()


async def test_a_refusal_that_stays_is_raised(fresh_nats: Servers) -> None:
    connection = await open_connection(fresh_nats())
    await connection.api("STREAM.CREATE.THIEF", {"name": "THIEF", "subjects": ["call.>"]})
    with pytest.raises(ApiError, match="overlap"):
        await apply(connection, SECTION)
    await connection.close()


async def test_an_older_server_gets_what_it_knows() -> None:
    counter = StreamSpec(name="C", why="", subjects=("c",), counter=True)
    assert "allow_msg_counter" not in stream_config(counter, (2, 11))
    assert stream_config(counter, (2, 12))["allow_msg_counter"] is True
    bucket = BucketSpec(name="b", why="", ttl_s=60)
    assert "subject_delete_marker_ttl" not in bucket_config(bucket, (2, 10))
    assert bucket_config(bucket, (2, 11))["allow_msg_ttl"] is True
    assert bucket_config(bucket, (2, 11))["duplicate_window"] == 60 * 10**9


async def test_listings_are_read_to_their_last_page() -> None:
    class Pages:
        server_version = (2, 15)

        async def api(self, name: str, body: dict[str, Any] | None = None, timeout_ms: int = 0) -> dict[str, Any]:
            if name == "STREAM.NAMES":
                assert body is not None
                every = [f"S{number}" for number in range(600)]
                return {"total": 600, "streams": every[body["offset"] :][:256]}
            raise ApiError(name, 404, 10059, "stream not found")

    changes = await plan(Pages(), SECTION)
    assert len([change for change in changes if change.action == "extra"]) == 600


async def test_a_stream_of_many_filters_keeps_the_order_of_its_source(fresh_nats: Servers) -> None:
    """One source per filter is accepted by the server as well, but groups what was there by filter."""
    connection = await open_connection(fresh_nats())
    await connection.api("STREAM.CREATE.CALLS", {"name": "CALLS", "subjects": ["call.>"]})
    names = ["asr.final", "call.offered", "turn.ended"] * 20
    for name in names:
        await connection.store(f"call.default.c1.{name}", b"")
    await apply(connection, SECTION)
    for _ in range(200):
        copied = [m.subject async for m in connection.read("call.>", stream="HISTORY")]
        if len(copied) == len(names):
            break
        await asyncio.sleep(0.02)
    assert copied == [f"call.default.c1.{name}" for name in names]
    await connection.close()


def test_a_change_in_words() -> None:
    assert str(Change(kind="bucket", name="owners", action="create")) == "create bucket owners"
