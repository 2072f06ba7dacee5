"""``callbus health`` over a real nats-server, as a process of its own and against its deadline."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

import pytest

from bus.client import NatsConnection, connect
from bus.interface import Message
from bus.micro import MicroService
from bus.server import NatsServerProcess
from bus.service_query import Round
from config.settings import NatsSection

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

Fresh = Callable[..., NatsServerProcess]
Services = Callable[..., "asyncio.Future[None]"]


async def callbus(server: str, *words: str) -> tuple[int, str, float]:
    """Exit code, what it printed, and the seconds it took, its start included."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALLBUS_METRICS")}
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.main", "health", *words, env={**environment, "NATS_URL": server},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode().strip(), time.monotonic() - begun


@pytest.fixture
async def server(fresh_nats: Fresh) -> AsyncIterator[tuple[str, NatsConnection]]:
    url = fresh_nats().url
    connection = await connect("asr-1", NatsSection(url=url), wait=False)
    yield url, connection
    await connection.close()


async def service(connection: NatsConnection, name: str, instance: str, why: str = "") -> MicroService:
    answer = {"ok": True, "ready": not why, "why": why, "service": name, "instance": instance}
    made = MicroService(connection, name=name, version="1.0.0", instance=instance, health=lambda: answer)
    await made.start()
    return made


async def test_every_instance_is_asked(server: tuple[str, NatsConnection]) -> None:
    url, connection = server
    await service(connection, "asr", "asr-1")
    await service(connection, "asr", "asr-2", "asr is starting")
    code, text, _ = await callbus(url, "asr", "--timeout-ms", "5000")
    assert (code, text) == (0, "1 of 2 asr take work; asr-2: asr is starting")
    code, text, _ = await callbus(url, "llm", "--timeout-ms", "5000")
    assert (code, text) == (1, "no llm answers on NATS: start one, or see in its log why it does not come")


async def test_all_is_a_table(server: tuple[str, NatsConnection]) -> None:
    url, connection = server
    for name in ("edge", "asr", "llm"):
        await service(connection, name, f"{name}-1")
    code, text, _ = await callbus(url, "all", "--timeout-ms", "5000")
    assert code == 1
    assert text.splitlines()[1].split() == ["edge", "edge-1", "ready"]
    assert text.splitlines()[-1] == "take no work: tts"
    await service(connection, "tts", "tts-1")
    code, text, _ = await callbus(url, "all", "--json", "--timeout-ms", "5000")
    found = json.loads(text)
    assert (code, found["ok"], found["sentence"]) == (0, True, "every service takes work")
    assert [each["service"] for each in found["instances"]] == ["nats", "asr", "edge", "llm", "tts"]


async def slow_service(connection: NatsConnection, name: str, ping_s: float, health_s: float) -> None:
    """One whose process is busy: it says after ``ping_s`` that it is there, and ``health_s`` later how it is."""
    loop = asyncio.get_running_loop()
    there = json.dumps({"name": name, "id": f"{name}-1"}).encode()
    well = json.dumps({"ok": True, "ready": True, "why": "", "instance": f"{name}-1"}).encode()
    for subject, delay_s, answer in (("$SRV.PING", ping_s, there), (f"{name}.{name}-1.health", health_s, well)):

        def later(message: Message, delay_s: float = delay_s, answer: bytes = answer) -> None:
            loop.call_later(delay_s, connection.publish, message.reply, answer)

        await connection.subscribe(subject, later)


@pytest.mark.parametrize(("ping_s", "health_s"), [(0.5, 0.0), (0.0, 0.95), (0.45, 0.5)])
async def test_people_wait_for_who_takes_his_second(
    server: tuple[str, NatsConnection], ping_s: float, health_s: float
) -> None:
    """What a service may take is less than what is waited for, and who is expected is waited for."""
    url, connection = server
    for name in ("edge", "asr", "llm"):
        await service(connection, name, f"{name}-1")
    await slow_service(connection, "tts", ping_s, health_s)
    code, text, _ = await callbus(url, "all")
    assert (code, text.splitlines()[-1]) == (0, "every service takes work"), text


async def test_who_does_not_come_is_not_waited_for_long(server: tuple[str, NatsConnection]) -> None:
    url, connection = server
    await service(connection, "asr", "asr-1")
    asking = await connect("callbus-cli", NatsSection(url=url), wait=False)
    begun = time.monotonic()
    heard = await Round(asking, "", ("asr", "tts")).run(asyncio.get_running_loop().time() + 20)
    assert [each["service"] for each in heard] == ["asr"]
    assert time.monotonic() - begun < 5
    await asking.close()


async def test_nats_itself(server: tuple[str, NatsConnection], fresh_nats: Fresh) -> None:
    url, _ = server
    code, text, _ = await callbus(url, "nats", "--timeout-ms", "5000")
    assert (code, text) == (
        0, "nats-server works: JetStream answers and holds 0 streams; run `callbus provision`",
    )  # fmt: skip
    plain = fresh_nats(config=None)
    code, text, _ = await callbus("nats://127.0.0.1:1", "nats", "--url", plain.url, "--timeout-ms", "5000")
    assert code in (0, 1)
    assert text


async def test_no_server_is_said(fresh_nats: Fresh) -> None:
    code, text, _ = await callbus("nats://127.0.0.1:1", "asr", "--timeout-ms", "5000")
    assert code == 1
    assert text == "NATS at nats://127.0.0.1:1 does not answer; is nats-server running there?"


async def test_the_answer_comes_in_time_even_from_a_server_that_says_nothing() -> None:
    """The deadline is that of the whole command; what Python itself needs to end is allowed on top."""
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    code, text, took_s = await callbus(url, "asr", "--timeout-ms", "2000")
    silent.close()
    assert code == 1
    assert "can't be connected to in time" in text
    assert took_s < 3.5
