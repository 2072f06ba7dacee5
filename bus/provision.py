"""Put ``bus.topology`` on a server: show the difference first, then make it so. Running it again changes nothing.

What the topology does not name is left alone. What the server can't change in place is only told, unless the caller
says ``recreate``: that loses what the stream holds. Several provisioners may run at once.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Literal, Protocol

import msgspec

from bus.errors import BusError
from bus.jetstream import CONSUMER_NOT_FOUND, NO_MESSAGE_FOUND, STREAM_NOT_FOUND, ApiError, parse_headers
from bus.nats_watch import change_subject
from bus.topology import CALLS, SHARED_BUCKETS, BucketSpec, ConsumerSpec, StreamSpec, Topology, topology
from config.settings import StreamsSection

SECOND_NS = 1_000_000_000
MARKER_TTL_S = 60
COPIED_FROM = "Nats-Stream-Source"
"""How long the server remembers that a KV value expired: a watcher that was away for less hears of it."""

COUNTER_VERSION = (2, 12)
MARKER_VERSION = (2, 11)
NO_STORAGE = (10047, 10028)
"""Server errors: not enough storage (or memory) for what the streams reserve."""

FIXED = frozenset({"storage", "retention", "allow_msg_counter", "deliver_policy", "ack_policy", "replay_policy"})
ROUNDS = 5
PAUSE_S = 0.05

Config = dict[str, Any]


class Provisioner(Protocol):
    """The part of a connection that provisioning needs."""

    @property
    def server_version(self) -> tuple[int, int]: ...

    async def api(self, name: str, body: dict[str, Any] | None = None, timeout_ms: int = 5000) -> dict[str, Any]: ...


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a configuration, in the server's own naming and units."""

    field: str
    before: Any
    after: Any


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between topology and server.

    Attributes:
        action: ``create``; ``change`` in place; ``recreate``: can't be changed in place; ``extra``: on the server only,
            left alone.
        why: the topology's reason for it.
    """

    kind: Literal["stream", "consumer", "bucket"]
    name: str
    action: Literal["create", "change", "recreate", "extra"]
    fields: tuple[FieldChange, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        note = {"extra": " (left alone)", "recreate": " (can't be changed in place)"}.get(self.action, "")
        lines = [f"{self.action} {self.kind} {self.name}{note}"]
        lines += [f"    {entry.field}: {entry.before} -> {entry.after}" for entry in self.fields]
        return "\n".join(lines)


async def plan(connection: Provisioner, section: StreamsSection) -> list[Change]:
    """Every difference, in the order in which it has to be applied. Empty: all is as it should be.

    Raises:
        BusError: JetStream does not answer.
    """
    wanted = topology(section)
    version = connection.server_version
    changes: list[Change] = []
    for stream in wanted.streams:
        actual = await _stream_config(connection, stream.name)
        changes += _difference("stream", stream.name, stream.why, actual, stream_config(stream, version))
    for bucket in wanted.buckets:
        actual = await _stream_config(connection, f"KV_{bucket.name}")
        changes += _difference("bucket", bucket.name, bucket.why, actual, bucket_config(bucket, version))
    for consumer in wanted.consumers:
        actual = await _consumer_config(connection, consumer)
        name = f"{consumer.name} on {consumer.stream}"
        changes += _difference("consumer", name, consumer.why, actual, consumer_config(consumer))
    return changes + await _extras(connection, wanted)


async def apply(connection: Provisioner, section: StreamsSection, *, recreate: bool = False) -> list[Change]:
    """Make the server as the topology says; what was done, in order. ``recreate`` deletes what can't be changed.

    Raises:
        BusError: the server refused something; the text says what and how to mend it.
    """
    done: list[Change] = []
    wanted = topology(section)
    allowed = ("create", "change", "recreate") if recreate else ("create", "change")
    for number in range(1, ROUNDS + 1):
        due = [change for change in await plan(connection, section) if change.action in allowed]
        if not due:
            return done
        for change in due:
            try:
                await _apply_one(connection, wanted, change)
            except ApiError as error:
                # Somebody else may be at it at the same moment (even the room for a stream is reserved twice while two
                # create it): look again.
                if number == ROUNDS:
                    raise _explained(change, error) from error
                continue
            done.append(change)
        await asyncio.sleep(PAUSE_S * (number - 1))
    return done


async def check(connection: Provisioner, section: StreamsSection) -> list[Change]:
    """What keeps services from working: every difference but extras."""
    return [change for change in await plan(connection, section) if change.action != "extra"]


def stream_config(spec: StreamSpec, version: tuple[int, int]) -> Config:
    """The server's configuration of a stream; leaves out what ``version`` does not know."""
    config: Config = {
        "name": spec.name,
        "retention": "limits",
        "storage": "file",
        "num_replicas": spec.replicas,
        "max_age": spec.max_age_s * SECOND_NS,
        "max_bytes": spec.max_bytes,
        "max_msg_size": spec.max_message_bytes,
        "max_msgs_per_subject": spec.max_messages_per_subject,
        "discard": spec.discard,
        "compression": spec.compression,
        "allow_direct": True,
    }
    if spec.source:
        # One source with an untransformed filter list keeps the order of the source. One source per filter is
        # accepted too, but fills up filter by filter.
        transforms = [{"src": pattern, "dest": ""} for pattern in spec.source_filters]
        config["sources"] = [{"name": spec.source, "subject_transforms": transforms}]
    else:
        config["subjects"] = list(spec.subjects)
        config["duplicate_window"] = spec.duplicate_window_s * SECOND_NS
    if spec.counter and version >= COUNTER_VERSION:
        config["allow_msg_counter"] = True
    return config


def bucket_config(spec: BucketSpec, version: tuple[int, int]) -> Config:
    """The stream below a KV bucket (ADR-8)."""
    window_s = min(120, spec.ttl_s) if spec.ttl_s else 120
    shared = spec.name in SHARED_BUCKETS
    config: Config = {
        "name": f"KV_{spec.name}",
        "subjects": [f"$KV.{spec.name}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": spec.replicas,
        "max_age": spec.ttl_s * SECOND_NS,
        "max_bytes": spec.max_bytes,
        "max_msg_size": spec.max_value_bytes,
        "max_msgs_per_subject": spec.history,
        "discard": spec.discard,
        "allow_rollup_hdrs": not shared,
        "deny_delete": True,
        "allow_direct": True,
        "duplicate_window": window_s * SECOND_NS,
        "republish": {"src": f"$KV.{spec.name}.>", "dest": change_subject(spec.name, ">")},  # for bus.nats_watch
    }
    if version >= MARKER_VERSION:
        config["allow_msg_ttl"] = True  # deletions carry one (``bus.nats_bucket``)
        if spec.ttl_s:  # where markers of an expiry are left, the server allows a rollup by itself
            config["subject_delete_marker_ttl"] = 0 if shared else MARKER_TTL_S * SECOND_NS
    return config


def consumer_config(spec: ConsumerSpec) -> Config:
    """The server's configuration of a durable pull consumer."""
    return {
        "name": spec.name,
        "durable_name": spec.name,
        "deliver_policy": spec.deliver,
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "ack_wait": spec.acknowledge_ms * 1_000_000,
        "max_deliver": spec.max_deliver,
        "max_ack_pending": spec.max_pending,
        "filter_subject": spec.filter_subject,
        "num_replicas": spec.replicas,
    }


def _difference(
    kind: Literal["stream", "consumer", "bucket"], name: str, why: str, actual: Config | None, wanted: Config
) -> list[Change]:
    if actual is None:
        return [Change(kind=kind, name=name, action="create", why=why)]
    fields = tuple(
        FieldChange(field=field, before=actual.get(field), after=value)
        for field, value in wanted.items()
        if _comparable(field, actual.get(field)) != _comparable(field, value)
    )
    if not fields:
        return []
    action: Literal["change", "recreate"] = "recreate" if any(f.field in FIXED for f in fields) else "change"
    return [Change(kind=kind, name=name, action=action, fields=fields, why=why)]


def _explained(change: Change, error: ApiError) -> BusError:
    if error.code not in NO_STORAGE:
        return error
    return BusError(
        f"{change.kind} {change.name}: the server has no room for its limit ({error.text}); lower [streams] "
        "calls_max_bytes, or raise jetstream max_file_store in nats.conf"
    )


async def _apply_one(connection: Provisioner, wanted: Topology, change: Change) -> None:
    if change.kind == "consumer":
        spec = next(c for c in wanted.consumers if f"{c.name} on {c.stream}" == change.name)
        if change.action == "recreate":
            await connection.api(f"CONSUMER.DELETE.{spec.stream}.{spec.name}")
        body = {"stream_name": spec.stream, "config": consumer_config(spec)}
        await connection.api(f"CONSUMER.CREATE.{spec.stream}.{spec.name}.{spec.filter_subject}", body)
        return
    version = connection.server_version
    if change.kind == "stream":
        config = stream_config(next(s for s in wanted.streams if s.name == change.name), version)
    else:
        config = bucket_config(next(b for b in wanted.buckets if b.name == change.name), version)
    if change.action == "change":
        actual = await _stream_config(connection, config["name"])
        if "sources" in config:
            await _go_on_copying(connection, config)
        await connection.api(f"STREAM.UPDATE.{config['name']}", {**(actual or {}), **config})
        return
    if change.action == "recreate":
        await connection.api(f"STREAM.DELETE.{config['name']}")
    await connection.api(f"STREAM.CREATE.{config['name']}", config)


async def _go_on_copying(connection: Provisioner, config: Config) -> None:
    """A source with other filters is a new one to the server: it would copy all that is copied already once more."""
    try:
        last = (await connection.api(f"STREAM.MSG.GET.{config['name']}", {"last_by_subj": ">"}))["message"]
    except ApiError as error:
        if error.code == NO_MESSAGE_FOUND:
            return
        raise
    copied_from = parse_headers(base64.b64decode(last.get("hdrs", ""))).get(COPIED_FROM, "").split()
    if len(copied_from) > 1:  # the stream, and the sequence there
        config["sources"] = [{**config["sources"][0], "opt_start_seq": int(copied_from[1]) + 1}]


def _comparable(field: str, value: Any) -> Any:
    """Where a copy began is no difference."""
    if field != "sources" or not value:
        return value or None
    return [{name: each[name] for name in each if name != "opt_start_seq"} for each in value]


async def _stream_config(connection: Provisioner, name: str) -> Config | None:
    try:
        config: Config = (await connection.api(f"STREAM.INFO.{name}"))["config"]
    except ApiError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise
    return config


async def _consumer_config(connection: Provisioner, spec: ConsumerSpec) -> Config | None:
    try:
        config: Config = (await connection.api(f"CONSUMER.INFO.{spec.stream}.{spec.name}"))["config"]
    except ApiError as error:
        if error.code in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
            return None
        raise
    return config


async def _extras(connection: Provisioner, wanted: Topology) -> list[Change]:
    known = {s.name for s in wanted.streams} | {f"KV_{b.name}" for b in wanted.buckets}
    extras: list[Change] = []
    for name in sorted(set(await _all(connection, "STREAM.NAMES", "streams")) - known):
        if name.startswith("KV_"):
            extras.append(Change(kind="bucket", name=name[3:], action="extra"))
        else:
            extras.append(Change(kind="stream", name=name, action="extra"))
    stages = {c.name for c in wanted.consumers}
    try:
        infos = await _all(connection, f"CONSUMER.LIST.{CALLS}", "consumers")
    except ApiError as error:
        if error.code == STREAM_NOT_FOUND:
            return extras
        raise
    durable = {str(info["config"].get("durable_name", "")) for info in infos} - {""}
    return extras + [Change(kind="consumer", name=f"{n} on {CALLS}", action="extra") for n in sorted(durable - stages)]


async def _all(connection: Provisioner, name: str, key: str) -> list[Any]:
    """Every page of a listing."""
    found: list[Any] = []
    while True:
        page = await connection.api(name, {"offset": len(found)})
        found += page.get(key) or []
        if len(found) >= page.get("total", 0) or not page.get(key):
            return found
