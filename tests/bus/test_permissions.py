"""What each NATS user can not do, tried on a real server with the real nats.conf, and what it can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from bus import permissions
from bus.control import serve_control
from bus.provision import apply
from bus.topology import READS_COPY, TTS_FOLLOWS, topology
from config.settings import StreamsSection
from schemas import subjects
from schemas.control import ControlMessage, ControlReply, Hangup
from schemas.subjects import COMMAND_TYPES, EVENT_BY_NAME, SPEAKERS, command_name, matches
from services.asr.fold import NAMES as ASR_FOLLOWS
from services.llm.conversation import EVENTS as LLM_FOLLOWS
from services.tts.call import FOLLOWED as TTS_CALL_FOLLOWS
from tests.bus.secured import CALL, Secured, Visitor, secured_server

pytestmark = [pytest.mark.bus, pytest.mark.asyncio(loop_scope="module")]

SERVICES = ("edge", "asr", "llm", "tts")
SECRET = b"my card number is four two seven one"
STREAMS = [stream.name for stream in topology(StreamsSection()).streams]
BUCKETS = [f"KV_{bucket.name}" for bucket in topology(StreamsSection()).buckets]

MAY_COMMAND = {
    "edge": set[str](),
    "asr": {"edge.flush", "edge.pause", "edge.resume", "edge.give_up", "tts.say"},
    "llm": {"edge.hangup", "edge.transfer"},
    "tts": set[str](),
    "inspect": set[str](),
}
#: API subjects that make, change or delete; S a stream, C a consumer.
MANAGES = (
    "STREAM.CREATE.S", "STREAM.UPDATE.S", "STREAM.DELETE.S", "STREAM.PURGE.S", "STREAM.MSG.DELETE.S",
    "STREAM.SNAPSHOT.S", "STREAM.RESTORE.S", "STREAM.PEER.REMOVE.S", "STREAM.LEADER.STEPDOWN.S",
    "CONSUMER.CREATE.S", "CONSUMER.CREATE.S.C", "CONSUMER.CREATE.S.C.call.*.*.llm.sentence",
    "CONSUMER.DURABLE.CREATE.S.C", "CONSUMER.DELETE.S.C", "CONSUMER.PAUSE.S.C", "CONSUMER.LEADER.STEPDOWN.S.C",
    "CONSUMER.RESET.S.C", "CONSUMER.UNPIN.S.C", "STREAM.TEMPLATE.CREATE.x", "ACCOUNT.PURGE.CALLBUS", "SERVER.REMOVE",
    "META.LEADER.STEPDOWN",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    """Provisioned by ops, with a call that said something and has its words in the context."""
    with secured_server(tmp_path_factory.mktemp("secured")) as server:
        ops, asr, llm = [await server.connect(user) for user in ("ops", "asr", "llm")]
        await apply(ops, StreamsSection())
        await asr.store(subjects.event_subject("asr.final", CALL), SECRET)
        await asr.store(subjects.event_subject("turn.ended", CALL), SECRET)
        await llm.store(subjects.event_subject("llm.sentence", CALL), b"for the caller")
        await (await llm.bucket("context")).put(CALL, SECRET)
        async with asyncio.timeout(5):
            while not [m async for m in ops.read("call.>", stream=READS_COPY["tts"])]:
                await asyncio.sleep(0.02)
            while len([m async for m in ops.read("call.>", stream="HISTORY")]) < 3:
                await asyncio.sleep(0.02)
        for connection in (ops, asr, llm):
            await connection.close()
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def visitors(secured: Secured) -> AsyncIterator[dict[str, Visitor]]:
    found = {user: await secured.visit(user) for user in (*SERVICES, "ops", "inspect")}
    yield found
    for visitor in found.values():
        await visitor.client.close()


Visitors = dict[str, Visitor]


@pytest.mark.parametrize("user", [*SERVICES, "inspect"])
async def test_nobody_but_ops_makes_changes_or_deletes_streams_and_consumers(user: str, visitors: Visitors) -> None:
    ops = visitors["ops"].client
    before = (await ops.request("$JS.API.STREAM.LIST", b"")).data
    for stream in ("NEW", *STREAMS, *BUCKETS):
        for template in MANAGES:
            name = template.replace(".S", f".{stream}").replace(".C", f".{user}-assign", 1)
            assert not await visitors[user].may_publish(f"$JS.API.{name}", b"{}"), name
    kept, found = (
        [(s["config"], s["state"]["messages"]) for s in msgspec.json.decode(data)["streams"]]
        for data in (before, (await ops.request("$JS.API.STREAM.LIST", b"")).data)
    )
    assert kept == found


@pytest.mark.parametrize("user", [*SERVICES, "inspect"])
async def test_each_says_its_own_events_and_no_others(user: str, visitors: Visitors) -> None:
    for name in EVENT_BY_NAME:
        speaker = SPEAKERS[name.split(".")[0]]
        own = speaker == user or (name == "failure" and user in SERVICES)
        own = own or (name == "edge.lost" and user in permissions.STAGES)
        assert await visitors[user].may_publish(subjects.event_subject(name, "none"), b"{}") is own, name
    for way in ("in", "out"):
        assert await visitors[user].may_publish(subjects.recording(way, "none"), b"") is (user == "edge")


@pytest.mark.parametrize("user", [*MAY_COMMAND])
async def test_each_sends_its_own_commands_and_no_others(user: str, visitors: Visitors) -> None:
    """asr may hold and drop what the agent says; it may not hang up, transfer or send keys."""
    await visitors["ops"].may_subscribe("rt.*.*.control.>")
    visitors["ops"].heard.clear()
    sent = set()
    for stage in SERVICES:
        for command in COMMAND_TYPES:
            subject = subjects.control_of(stage, CALL, command=command_name(command))
            if await visitors[user].may_publish(subject, b"{}", reply=f"_INBOX_{user}.ask.1"):
                sent.add(f"{stage}.{command_name(command)}")
        for name in ("*", ">", "nonsense"):
            await visitors[user].may_publish(f"rt.default.{CALL}.control.{stage}.{name}", b"{}")
        await visitors[user].may_publish(f"rt.default.{CALL}.control.{stage}", b"{}")
    assert sent == MAY_COMMAND[user]
    await visitors["ops"].settle()
    heard = {message.subject.split(".control.")[1] for message in visitors["ops"].heard}
    assert heard == MAY_COMMAND[user]


#: Every way to read a message that JetStream has; each asks for the transcript or for everything.
READS = {
    "DIRECT.GET.CALLS": {"next_by_subj": "call.>", "seq": 1, "batch": 100},
    "DIRECT.GET.CALLS ": {"multi_last": ["call.>"], "batch": 100},
    "DIRECT.GET.CALLS  ": {"last_by_subj": f"call.default.{CALL}.asr.final"},
    f"DIRECT.GET.CALLS.call.default.{CALL}.asr.final": None,
    f"DIRECT.GET.CALLS.call.default.{CALL}.turn.ended": None,
    "STREAM.MSG.GET.CALLS": {"last_by_subj": f"call.default.{CALL}.asr.final"},
    "STREAM.MSG.GET.CALLS ": {"seq": 1},
    "DIRECT.GET.HISTORY": {"next_by_subj": "call.>", "seq": 1, "batch": 100},
    f"DIRECT.GET.HISTORY.call.default.{CALL}.asr.final": None,
    "STREAM.MSG.GET.HISTORY": {"seq": 1},
    "DIRECT.GET.CALLS_TTS": {"next_by_subj": ">", "seq": 1, "batch": 100},
    "STREAM.MSG.GET.CALLS_TTS": {"seq": 1},
    "DIRECT.GET.KV_context": {"next_by_subj": ">", "seq": 1, "batch": 100},
    f"DIRECT.GET.KV_context.$KV.context.{CALL}": None,
    "STREAM.MSG.GET.KV_context": {"last_by_subj": f"$KV.context.{CALL}"},
    "STREAM.MSG.GET.KV_calls": {"seq": 1},
    "CONSUMER.MSG.NEXT.CALLS.asr-assign": {"batch": 10, "no_wait": True},
    "CONSUMER.CREATE.CALLS.spy.call.*.*.asr.final": {
        "stream_name": "CALLS",
        "config": {"name": "spy", "filter_subject": "call.*.*.asr.final", "deliver_subject": "_INBOX_tts.spy"},
    },
    "CONSUMER.CREATE.CALLS.spy.call.*.*.llm.sentence": {
        "stream_name": "CALLS",
        "config": {"name": "spy", "filter_subject": "call.*.*.asr.final", "deliver_subject": "_INBOX_tts.spy"},
    },
    "CONSUMER.CREATE.CALLS": {"stream_name": "CALLS", "config": {"deliver_subject": "_INBOX_tts.spy"}},
    "CONSUMER.DURABLE.CREATE.CALLS.spy": {
        "stream_name": "CALLS",
        "config": {"durable_name": "spy", "deliver_subject": "_INBOX_tts.spy"},
    },
    "STREAM.SNAPSHOT.CALLS": {"deliver_subject": "_INBOX_tts.spy"},
    "STREAM.CREATE.SPY": {"name": "SPY", "mirror": {"name": "CALLS"}},
    "STREAM.UPDATE.CALLS_TTS": {"name": "CALLS_TTS", "sources": [{"name": "CALLS"}]},
}


async def test_tts_reads_no_transcript(secured: Secured) -> None:
    """By no request that JetStream knows, and not live either. What it is to say it can read."""
    tts, asr = await secured.visit("tts"), await secured.visit("asr")
    assert await tts.may_subscribe("_INBOX_tts.>")
    for number, (request, body) in enumerate(READS.items()):
        data = msgspec.json.encode(body) if body is not None else b""
        await tts.may_publish(f"$JS.API.{request.strip()}", data, reply=f"_INBOX_tts.js.{number}")
    for subject in (
        ">", "*.>", "call.>", "call.*.*.>", "call.*.*.asr.final", f"call.default.{CALL}.asr.*", "call.*.*.turn.*",
        "call.*.*.turn.ended", "kv.>", "kv.context.*", "$KV.context.>", "rt.*.*.audio.in",
    ):  # fmt: skip
        assert not await tts.may_subscribe(subject), subject
    assert await tts.may_subscribe("call.*.*.llm.sentence")
    await asr.client.publish(subjects.event_subject("asr.final", CALL), SECRET)
    await asr.client.publish(subjects.event_subject("turn.ended", CALL), SECRET)
    await asr.settle()
    await tts.settle()
    assert not [message.subject for message in tts.heard if SECRET in message.data]
    assert [m.data for m in tts.heard if m.data == b"for the caller"], "what it has to say it can read"
    # The same requests of ops find the words: so it is the permissions that keep them from tts.
    ops = await secured.visit("ops")
    await ops.may_subscribe("_INBOX_ops.>")
    for request in ("DIRECT.GET.CALLS", "STREAM.MSG.GET.KV_context"):
        body = msgspec.json.encode(READS[request])
        assert await ops.may_publish(f"$JS.API.{request}", body, reply=f"_INBOX_ops.js.{request}")
    await ops.settle()
    assert [m for m in ops.heard if SECRET in m.data]
    assert [m for m in ops.heard if m.subject.endswith("KV_context") and b"message" in m.data]
    for visitor in (tts, asr, ops):
        await visitor.client.close()


async def test_the_copy_for_tts_holds_no_word_of_a_caller(secured: Secured) -> None:
    ops = await secured.connect("ops")
    found = {m.subject.split(".", 3)[3] async for m in ops.read(">", stream=READS_COPY["tts"])}
    assert "llm.sentence" in found
    assert not [name for name in found if not any(matches(pattern, name) for pattern in TTS_FOLLOWS)]
    await ops.close()


@pytest.mark.parametrize("user", [*SERVICES, "inspect"])
async def test_nobody_reads_or_forges_the_answers_of_others(user: str, secured: Secured) -> None:
    visitor = await secured.visit(user)
    others = {*SERVICES, "ops", "inspect"} - {user}
    for subject in (">", "*", "*.>", "_INBOX.>", *(f"_INBOX_{other}.>" for other in others)):
        assert not await visitor.may_subscribe(subject), subject
    assert await visitor.may_subscribe(f"_INBOX_{user}.>")
    for other in others:
        for kind in ("js.token.1", "ack.token.1", "pull.token.1"):
            if other in permissions.PEOPLE and kind.startswith("pull"):
                continue  # people use clients of all sorts: what is not callbus's own is not told apart
            assert not await visitor.may_publish(f"_INBOX_{other}.{kind}", b'{"stream":"CALLS","seq":1}'), (other, kind)
    await visitor.client.close()


async def sent_by_the_server(visitors: Visitors, data: bytes, target: str) -> None:
    """``tts`` stores ``data`` where it may, and reads it with ``target`` as the subject of the answer."""
    tts, own = visitors["tts"], subjects.event_subject("tts.done", CALL)
    assert await tts.may_publish(own, data)
    await tts.settle()
    assert await tts.may_publish(f"$JS.API.DIRECT.GET.CALLS.{own}", b"", reply=target)
    body = msgspec.json.encode({"seq": 1, "batch": 99, "next_by_subj": own, "no_hdr": True})
    assert await tts.may_publish(f"$JS.API.DIRECT.GET.{READS_COPY['tts']}", body, reply=target)
    await tts.settle()


async def test_what_the_server_was_made_to_send_is_no_command(secured: Secured, visitors: Visitors) -> None:
    """No right on subjects holds the answers of JetStream back, but they come without a reply subject."""
    edge, obeyed = await secured.connect("edge"), list[ControlMessage]()

    def obey(command: ControlMessage) -> ControlReply:
        obeyed.append(command)
        return ControlReply(ok=True)

    serving = await serve_control(edge, "edge", CALL, "default", obey, service="edge")
    heard = visitors["inspect"]
    target = subjects.control_of("edge", CALL, command="hangup")
    assert await heard.may_subscribe(target)
    await sent_by_the_server(visitors, msgspec.json.encode(Hangup(call_id=CALL)), target)
    assert sum(b"control.hangup" in message.data for message in heard.heard) >= 2, "it was sent"
    assert not obeyed
    await serving.close()
    await edge.close()


@pytest.mark.parametrize("user", SERVICES)
async def test_each_writes_its_own_keys_and_no_others(user: str, visitors: Visitors) -> None:
    own = {"llm": {"context", "calls"}}.get(user, set())
    for bucket in ("context", "calls", "tenants"):
        assert await visitors[user].may_publish(f"$KV.{bucket}.x", b"{}") is (bucket in own), bucket
    for stage in SERVICES:
        assert await visitors[user].may_publish(f"$KV.owners.{stage}.x", b"{}") is (stage == user != "edge")
        assert await visitors[user].may_publish(f"$KV.workers.{stage}.x", b"{}") is (stage == user)
        assert await visitors[user].may_publish(f"hb.{stage}.x", b"{}") is (stage == user)
        assert await visitors[user].may_publish(f"dead_letter.{stage}", b"{}") is (stage == user)


@pytest.mark.parametrize("user", ["asr", "llm", "tts"])
async def test_nobody_takes_the_keys_of_others_away(user: str, visitors: Visitors) -> None:
    """A write may ask for everything before it to go, in the whole bucket: no right on subjects holds that back."""
    ops = visitors["ops"].client
    others = [f"$KV.{bucket}.{stage}.kept" for bucket in ("owners", "workers") for stage in SERVICES if stage != user]
    for subject in others:
        await ops.request(subject, b"{}")
    for bucket in ("owners", "workers"):
        for extent in ("all", "sub"):
            await visitors[user].client.publish(f"$KV.{bucket}.{user}.x", b"{}", headers={"Nats-Rollup": extent})
    await visitors[user].settle()
    for subject in others:
        answer = await ops.request(f"$JS.API.DIRECT.GET.KV_{subject.split('.')[1]}.{subject}", b"")
        assert answer.data == b"{}", subject


@pytest.mark.parametrize("user", SERVICES)
async def test_only_ops_gives_orders_to_processes(user: str, visitors: Visitors) -> None:
    for subject in (f"ops.log_level.{user}.x", "ops.anything", f"{user}.x.health", "$SRV.PING"):
        assert not await visitors[user].may_publish(subject), subject
    assert await visitors[user].may_subscribe(f"ops.log_level.{user}.*")
    assert await visitors["ops"].may_publish(f"ops.log_level.{user}.x")
    assert not await visitors["inspect"].may_publish(f"ops.log_level.{user}.x")


async def test_audio_comes_from_those_who_make_it(visitors: Visitors) -> None:
    for user in (*SERVICES, "ops", "inspect"):
        for way, speaker in (("in", "edge"), ("out", "tts")):
            assert await visitors[user].may_publish(subjects.live_audio(way, "none"), b"") is (user == speaker)


async def test_inspect_watches_all_and_writes_nothing(secured: Secured) -> None:
    visitor = await secured.visit("inspect")
    for subject in ("call.>", "rt.>", "hb.>", "kv.>", "dead_letter.>"):
        assert await visitor.may_subscribe(subject), subject
    for subject in (f"$KV.context.{CALL}", "$KV.tenants.default", f"call.default.{CALL}.asr.final", "dead_letter.cli",
                    f"rt.default.{CALL}.audio.out", "hb.asr.x", "ops.x", "trace.keep", "limit.x",
                    "$JS.ACK.CALLS.asr-assign.1.1.1.1.0", "$JS.API.CONSUMER.MSG.NEXT.CALLS.asr-assign"):  # fmt: skip
        assert not await visitor.may_publish(subject), subject
    await visitor.client.close()
    reader = await secured.connect("inspect", "callbus-cli")
    assert SECRET in [m.data async for m in reader.read("call.>")]
    entry = await (await reader.bucket("context")).get(CALL)
    assert entry is not None
    assert entry.value == SECRET
    await reader.close()


async def test_every_right_of_the_table_is_granted(visitors: Visitors) -> None:
    for user in permissions.users():
        for right in user.subscribe:
            assert await visitors[user.name].may_subscribe(right.subject), (user.name, right.subject)


async def test_the_table_follows_what_the_stages_follow() -> None:
    assert (*ASR_FOLLOWS,) == permissions.HEARS["asr"]
    assert (*LLM_FOLLOWS,) == permissions.HEARS["llm"]
    assert (*TTS_CALL_FOLLOWS,) == permissions.HEARS["tts"] == TTS_FOLLOWS
    said = {name for user in SERVICES for name in permissions.said_by(user)}
    assert said == set(EVENT_BY_NAME) - {"failure", "edge.lost"}
    words = [name for name in EVENT_BY_NAME if name.split(".")[0] in ("asr", "tool", "dtmf") or name == "turn.ended"]
    assert not [name for name in words if any(matches(pattern, name) for pattern in TTS_FOLLOWS)]
