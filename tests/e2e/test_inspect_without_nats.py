"""docs/inspect.md without the ``nats`` command line: each of its commands as what it asks the server, by nats-py."""

from __future__ import annotations

import asyncio
import json
import re
import time
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy
from nats.js.errors import KeyNotFoundError

from ops.session import offered_calls
from schemas.audio import Codec
from services.audio.g711 import decode
from tests.e2e.nats_page import not_there, shape, shown
from tests.e2e.system import INSTANT, running_system
from tests.fakes.crowd import Crowd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

STAGES = {"edge", "asr", "llm", "tts"}
LIVE_SECTIONS = ("Watch calls live", "The way of a command")
LIVE_S = 3.0
REPLAY_S = 3.0


class Looking:
    """Somebody with a plain NATS client who looks at one call. Each method is one command of the page.

    Attributes:
        sent: the caller's payloads, in order.
    """

    def __init__(self, client: Client, call_id: str, folder: Path) -> None:
        self.client = client
        self.stream = client.jetstream()
        self.call_id = call_id
        self.sent = b""
        self._folder = folder

    # --- live --------------------------------------------------------------------------------------------------------

    async def _heard(self, subject: str, seconds: float = LIVE_S) -> list[Any]:
        """What comes on a subject within ``seconds``."""
        found: list[Any] = []

        async def take(message: Any) -> None:
            found.append(message)

        subscription = await self.client.subscribe(subject, cb=take)
        await asyncio.sleep(seconds)
        await subscription.unsubscribe()
        return found

    async def watch_all(self) -> None:
        messages = await self._heard("call.>")
        assert {message.subject.split(".")[2] for message in messages} == {self.call_id}

    async def watch_one(self) -> None:
        messages = await self._heard(f"call.*.{self.call_id}.>")
        events = [message for message in messages if ".rec." not in message.subject]
        assert events and all(self.call_id in message.headers["traceparent"] for message in events)

    async def watch_kind(self) -> None:
        (message,) = await self._heard("call.*.*.turn.ended")
        assert json.loads(message.data)["type"] == "turn.ended.v1"

    async def listen_in(self) -> None:
        messages = await self._heard(f"call.default.{self.call_id}.rec.in")
        voice = b"".join(message.data[16:] for message in messages)
        assert len(voice) >= (LIVE_S - 0.5) * 8000

    async def trace(self) -> None:
        to = self.client.new_inbox()
        subscription = await self.client.subscribe(to)
        headers = {"Nats-Trace-Dest": to, "Nats-Trace-Only": "true"}
        await self.client.publish(f"rt.default.{self.call_id}.control.edge.pause", headers=headers)
        seen = json.loads((await subscription.next_msg(timeout=5)).data)
        await subscription.unsubscribe()
        reached = {event.get("name", "").split("-")[0] for event in seen["events"] if event["type"] == "eg"}
        assert reached == {"edge"}

    async def owners(self) -> None:
        held = await self._subjects("KV_owners", "$KV.owners.>")
        assert set(held) == {f"$KV.owners.{stage}.{self.call_id}" for stage in ("asr", "llm", "tts")}

    async def owner(self) -> None:
        entry = await (await self.stream.key_value("owners")).get(f"asr.{self.call_id}")
        assert json.loads(entry.value)["worker"].startswith("asr-")

    # --- events ------------------------------------------------------------------------------------------------------

    async def _subjects(self, stream: str, pattern: str) -> dict[str, int]:
        return (await self.stream.stream_info(stream, subjects_filter=pattern)).state.subjects or {}

    async def calls(self) -> None:
        assert await self._subjects("CALLS", "call.*.*.call.offered") == {
            f"call.default.{self.call_id}.call.offered": 1
        }

    async def subjects(self) -> None:
        held = await self._subjects("CALLS", f"call.*.{self.call_id}.>")
        if held:
            assert held[f"call.default.{self.call_id}.rec.in"] > 10

    async def _fetched(self, stream: str, pattern: str, batch: int) -> list[Any]:
        """A batch of stored messages, as the page asks for it."""
        wanted = {"seq": 1, "next_by_subj": pattern, "batch": batch}
        page = next(each.command for each in shown() if f"DIRECT.GET.{stream}" in each.command)
        assert json.dumps(wanted).replace(self.call_id, "CALL") in page
        to = self.client.new_inbox()
        subscription = await self.client.subscribe(to)
        await self.client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(wanted).encode(), reply=to)
        found = []
        while (message := await subscription.next_msg(timeout=5)).headers.get("Status") != "204":
            found.append(message)
        await subscription.unsubscribe()
        return found

    async def events(self) -> None:
        messages = await self._fetched("HISTORY", f"call.*.{self.call_id}.>", 1000)
        names = [message.headers["Nats-Subject"].split(".", 3)[3] for message in messages]
        assert (names[0], names[-1]) == ("call.offered", "call.ended")

    async def last_final(self) -> None:
        message = await self.stream.get_last_msg("CALLS", f"call.default.{self.call_id}.asr.final")
        assert (message.headers or {})["traceparent"].split("-")[1] == self.call_id
        assert message.data and json.loads(message.data)["type"] == "asr.final.v1"

    # --- replay ------------------------------------------------------------------------------------------------------

    async def make_replay(self) -> None:
        config = ConsumerConfig(
            name=f"replay-{self.call_id}", filter_subject=f"call.*.{self.call_id}.>", ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.ALL, replay_policy=ReplayPolicy.ORIGINAL, inactive_threshold=30,
        )  # fmt: skip
        made = await self.stream.add_consumer("HISTORY", config)
        assert made.config.replay_policy == ReplayPolicy.ORIGINAL

    async def take_replay(self) -> None:
        reader = await self.stream.pull_subscribe_bind(f"replay-{self.call_id}", stream="HISTORY")
        begun, told = time.time(), []
        while time.time() - begun < REPLAY_S:
            told += [json.loads(message.data)["at_us"] for message in await reader.fetch(1, timeout=REPLAY_S)]
        assert (max(told) - min(told)) / 1e6 == pytest.approx(REPLAY_S, abs=1.0)

    async def make_voice(self) -> None:
        wanted = {
            "name": f"voice-{self.call_id}", "filter_subject": f"call.*.{self.call_id}.rec.in",
            "deliver_subject": f"replay.{self.call_id}", "deliver_policy": "all", "replay_policy": "original",
            "ack_policy": "none", "inactive_threshold": 60_000_000_000,
        }  # fmt: skip
        page = next(each.command for each in shown() if "CONSUMER.CREATE" in each.command)
        assert re.findall(r"'(\{.*\})'", page) == [
            json.dumps({"stream_name": "CALLS", "config": wanted}).replace(self.call_id, "CALL")
        ]
        body = json.dumps({"stream_name": "CALLS", "config": wanted}).encode()
        reply = await self.client.request(f"$JS.API.CONSUMER.CREATE.CALLS.voice-{self.call_id}", body, timeout=5)
        assert json.loads(reply.data)["config"]["replay_policy"] == "original"

    async def hear_voice(self) -> None:
        messages = await self._heard(f"replay.{self.call_id}", REPLAY_S)
        voice = b"".join(message.data[16:] for message in messages)
        assert self.sent.startswith(voice)
        assert len(voice) == pytest.approx(REPLAY_S * 8000, rel=0.25)

    async def save_voice(self) -> None:
        messages = await self._fetched("CALLS", f"call.*.{self.call_id}.rec.in", 10_000)
        voice = b"".join(message.data[16:] for message in messages)
        assert len(voice) > 8000 and self.sent.startswith(voice)
        (self._folder / "caller.ulaw").write_bytes(voice)

    async def make_wav(self) -> None:
        voice = (self._folder / "caller.ulaw").read_bytes()
        with wave.open(str(self._folder / "caller.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(decode(voice, Codec.PCMU))
        assert (self._folder / "caller.wav").stat().st_size == 44 + 2 * len(voice)

    # --- buckets, services, queues -----------------------------------------------------------------------------------

    async def buckets(self) -> None:
        names = {info.config.name for info in await self.stream.streams_info()}
        assert {f"KV_{name}" for name in ("calls", "context", "owners", "workers", "tenants")} <= names

    async def session(self) -> None:
        entry = await (await self.stream.key_value("calls")).get(self.call_id)
        assert json.loads(entry.value)["status"] == "COMPLETED"

    async def context(self) -> None:
        entry = await (await self.stream.key_value("context")).get(self.call_id)
        assert json.loads(entry.value)["conversation_history"]

    async def workers(self) -> None:
        held = await self._subjects("KV_workers", "$KV.workers.>")
        assert {key.split(".")[2] for key in held} == STAGES

    async def heartbeats(self) -> None:
        messages = await self._heard("hb.*.*", 1.0)
        assert {json.loads(message.data)["stage"] for message in messages} == STAGES

    async def _services(self, verb: str) -> dict[str, Any]:
        to = self.client.new_inbox()
        subscription = await self.client.subscribe(to)
        await self.client.publish(f"$SRV.{verb}", b"", reply=to)
        answers = [json.loads((await subscription.next_msg(timeout=5)).data) for _ in STAGES]
        await subscription.unsubscribe()
        assert {answer["type"] for answer in answers} == {f"io.nats.micro.v1.{verb.lower()}_response"}
        return {answer["name"]: answer for answer in answers}

    async def services(self) -> None:
        assert set(await self._services("PING")) == STAGES

    async def service_info(self) -> None:
        assert (await self._services("INFO"))["asr"]["endpoints"][0]["name"] == "health"

    async def service_stats(self) -> None:
        lines = {line["name"]: line for line in (await self._services("STATS"))["asr"]["endpoints"]}
        assert lines["asr-call_any_any_turn_ended"]["num_requests"] >= 1

    async def queues(self) -> None:
        infos = {info.name: info for info in await self.stream.consumers_info("CALLS")}
        for stage in ("asr", "llm", "tts"):
            assert (infos[f"{stage}-assign"].num_pending, infos[f"{stage}-assign"].num_ack_pending) == (0, 0)

    async def queue(self) -> None:
        info = await self.stream.consumer_info("CALLS", "asr-assign")
        assert info.config.filter_subject == "call.*.*.call.offered"

    async def streams(self) -> None:
        infos = {info.config.name: info for info in await self.stream.streams_info()}
        assert infos["CALLS"].state.messages > infos["HISTORY"].state.messages > 10

    async def dead_letters(self) -> None:
        assert await self._subjects("DEAD_LETTERS", "dead_letter.>") == {}

    async def backup(self) -> None:
        to = self.client.new_inbox()
        subscription = await self.client.subscribe(to)
        wanted = json.dumps({"deliver_subject": to, "no_consumers": True, "chunk_size": 131_072}).encode()
        reply = await self.client.request("$JS.API.STREAM.SNAPSHOT.HISTORY", wanted, timeout=5)
        assert json.loads(reply.data)["config"]["name"] == "HISTORY"
        size = 0
        # The last chunk is empty; each of the others is acknowledged.
        while chunk := await subscription.next_msg(timeout=5):
            if not chunk.data:
                break
            size += len(chunk.data)
            if chunk.reply:
                await self.client.publish(chunk.reply)
        await subscription.unsubscribe()
        assert size > 1000

    # --- erase -------------------------------------------------------------------------------------------------------

    async def erase_calls(self) -> None:
        await self.stream.purge_stream("CALLS", subject=f"call.*.{self.call_id}.>")
        assert await self._subjects("CALLS", f"call.*.{self.call_id}.>") == {}

    async def erase_history(self) -> None:
        await self.stream.purge_stream("HISTORY", subject=f"call.*.{self.call_id}.>")
        assert await self._subjects("HISTORY", f"call.*.{self.call_id}.>") == {}

    async def _purge(self, bucket: str) -> None:
        values = await self.stream.key_value(bucket)
        await values.purge(self.call_id)
        with pytest.raises(KeyNotFoundError):
            await values.get(self.call_id)

    async def erase_copy(self) -> None:
        await self.stream.purge_stream("CALLS_TTS", subject=f"call.*.{self.call_id}.>")
        assert await self._subjects("CALLS_TTS", f"call.*.{self.call_id}.>") == {}

    async def erase_session(self) -> None:
        await self._purge("calls")

    async def erase_context(self) -> None:
        await self._purge("context")

    async def connect(self) -> None:
        assert self.client.is_connected


EQUIVALENTS: dict[str, Callable[[Looking], Awaitable[None]]] = {
    "nats context save callbus": Looking.connect,
    "nats trace rt.default.CALL.control.edge.pause": Looking.trace,
    "nats sub 'call.>'": Looking.watch_all,
    "nats sub 'call.*.CALL.>'": Looking.watch_one,
    "nats sub 'call.*.*.turn.ended'": Looking.watch_kind,
    "nats sub call.default.CALL.rec.in": Looking.listen_in,
    "nats stream subjects KV_owners": Looking.owners,
    "nats kv get owners": Looking.owner,
    "nats stream subjects CALLS 'call.*.*.call.offered'": Looking.calls,
    "nats stream subjects CALLS 'call.*.CALL.>'": Looking.subjects,
    "nats req '$JS.API.DIRECT.GET.HISTORY'": Looking.events,
    "nats stream get CALLS -S call.default.CALL.asr.final": Looking.last_final,
    "nats consumer add HISTORY replay-CALL": Looking.make_replay,
    "nats consumer next HISTORY replay-CALL": Looking.take_replay,
    "nats req '$JS.API.CONSUMER.CREATE.CALLS.voice-CALL'": Looking.make_voice,
    "nats sub replay.CALL": Looking.hear_voice,
    "nats req '$JS.API.DIRECT.GET.CALLS'": Looking.save_voice,
    "sox -t ul -r 8000 -c 1 caller.ulaw caller.wav": Looking.make_wav,
    "nats kv ls": Looking.buckets,
    "nats kv get calls": Looking.session,
    "nats kv get context": Looking.context,
    "nats stream subjects KV_workers": Looking.workers,
    "nats sub 'hb.*.*'": Looking.heartbeats,
    "nats service ls": Looking.services,
    "nats service ping": Looking.services,
    "nats service info asr": Looking.service_info,
    "nats service stats asr": Looking.service_stats,
    "nats consumer report CALLS": Looking.queues,
    "nats consumer info CALLS asr-assign": Looking.queue,
    "nats stream ls": Looking.streams,
    "nats stream subjects DEAD_LETTERS": Looking.dead_letters,
    "nats stream backup HISTORY": Looking.backup,
    "nats stream purge CALLS": Looking.erase_calls,
    "nats stream purge HISTORY": Looking.erase_history,
    "nats stream purge CALLS_TTS": Looking.erase_copy,
    "nats kv purge calls": Looking.erase_session,
    "nats kv purge context": Looking.erase_context,
}
"""Beginning of a command -> the same by nats-py; the longest that fits."""


def equivalent(command: str) -> Callable[[Looking], Awaitable[None]]:
    """Raises ``ValueError`` where the page has a command that nothing stands for."""
    return EQUIVALENTS[max((key for key in EQUIVALENTS if command.startswith(key)), key=len)]


def test_every_command_has_its_equivalent() -> None:
    page = shown()
    assert len(page) >= 35
    assert {equivalent(each.command) for each in page} == set(EQUIVALENTS.values())


def test_a_line_that_does_not_come_is_found() -> None:
    call_id = "01a1fa9936ae7856b14afc680eb6fdcf"
    real = f"│ call.default.{call_id}.asr.final     │ 12    │\nrtt=3.5ms"
    assert not_there(("│ call.default.CALL.asr.final │ 1 │", "...", "rtt=13ms"), real, call_id) == []
    assert not_there(("│ call.default.CALL.asr.finale │ 1 │", "rtt=..."), real, call_id) == [
        "│ call.default.CALL.asr.finale │ 1 │"
    ]
    assert shape("asr asr-22560df8   rtt=13ms", call_id) == "asr asr-HEX rtt=N"


async def test_every_command_of_the_page_by_nats_py(tmp_path: Path) -> None:
    page = shown()
    async with running_system(tmp_path / "data", environment=INSTANT) as supervisor:
        crowd = Crowd()
        await crowd.start(1, supervisor.sip_port)
        await asyncio.sleep(2.5)
        (call,) = [call async for call in offered_calls(supervisor.connection)]
        client = await nats.connect(supervisor.nats_url)
        try:
            looking = Looking(client, call.call_id, tmp_path)
            live = [equivalent(each.command)(looking) for each in page if each.section in LIVE_SECTIONS]
            listening = asyncio.gather(*live)
            await asyncio.sleep(0.2)
            crowd.callers[0].speak(40)
            await listening
            await asyncio.sleep(1.0)
            await crowd.stop()
            await asyncio.sleep(1.0)
            looking.sent = b"".join(crowd.callers[0].sent)
            for each in page:
                if each.section not in LIVE_SECTIONS:
                    await equivalent(each.command)(looking)
        finally:
            await client.close()
