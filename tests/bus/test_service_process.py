"""Processes under ``run_service`` against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nats
import pytest

from bus.client import connect
from bus.provision import apply
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection

pytestmark = pytest.mark.bus

ROOT = Path(__file__).resolve().parents[2]


class Sample:
    """A running ``tests.bus.service_process`` and the lines of its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self, *wanted: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The next line whose event is one of ``wanted``."""
        assert self.process.stderr is not None
        async with asyncio.timeout(timeout_s):
            while text := await self.process.stderr.readline():
                line: dict[str, Any] = json.loads(text)
                if line["event"] in wanted:
                    return line
        raise AssertionError(f"the process ended without a word of {wanted}")

    async def code(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    samples: list[Sample] = []

    async def start(what: str, url: str, **environment: str) -> Sample:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.bus.service_process",
            what,
            cwd=ROOT,
            env={**os.environ, "NATS_URL": url, "CALLBUS_LOG__FORMAT": "json", **environment},
            stderr=subprocess.PIPE,
        )
        samples.append(Sample(process))
        return samples[-1]

    yield start
    for sample in samples:
        if sample.process.returncode is None:
            sample.process.kill()
            await sample.process.wait()


async def provision(server: NatsServerProcess) -> None:
    connection = await connect("ops", NatsSection(url=server.url), wait=False)
    await apply(connection, StreamsSection())
    await connection.close()


async def test_absent_server_then_missing_topology_then_ready_then_stopped(
    start: Callable[..., Any], fresh_nats: Callable[..., NatsServerProcess]
) -> None:
    server = fresh_nats()
    await asyncio.to_thread(server.stop)
    sample = await start("wait", server.url)
    waiting = await sample.line("bus_unreachable", "bus_waiting", "bus_absent")
    assert server.url.removeprefix("nats://") in waiting["message"]
    await asyncio.to_thread(server.start)
    assert "callbus provision" in (await sample.line("not_provisioned"))["message"]
    await provision(server)
    ready = await sample.line("ready")
    assert ready["service"] == "sample"

    plain = await nats.connect(server.url)
    ping = json.loads((await plain.request("$SRV.PING.sample", b"", timeout=2)).data)
    assert ping["id"] == ready["instance"]
    assert ping["metadata"]["pid"] == str(sample.process.pid)
    await plain.close()

    sample.process.send_signal(signal.SIGTERM)
    assert (await sample.line("stopped"))["level"] == "info"
    assert await sample.code() == 0


async def test_crash_is_logged_and_exits_with_one(
    start: Callable[..., Any], fresh_nats: Callable[..., NatsServerProcess]
) -> None:
    server = fresh_nats()
    await provision(server)
    sample = await start("crash", server.url)
    crashed = await sample.line("crashed")
    assert crashed["message"] == "sample failed: RuntimeError: [text withheld: it may quote a caller]"
    assert "service_process.py" in crashed["exception"]
    assert "the model is broken" not in str(crashed["exception"]).replace('RuntimeError("the model is broken")', "")
    assert await sample.code() == 1


async def test_what_fails_before_a_caller_was_heard_is_told_in_full(
    start: Callable[..., Any], fresh_nats: Callable[..., NatsServerProcess]
) -> None:
    server = fresh_nats()
    await provision(server)
    sample = await start("fail", server.url)
    crashed = await sample.line("crashed")
    assert crashed["message"] == "sample failed: RuntimeError: the model is broken"
    assert await sample.code() == 1


async def test_second_signal_ends_at_once(
    start: Callable[..., Any], fresh_nats: Callable[..., NatsServerProcess]
) -> None:
    server = fresh_nats()
    await provision(server)
    sample = await start("hang", server.url)
    await sample.line("ready")
    sample.process.send_signal(signal.SIGINT)
    await sample.line("stopping")
    sample.process.send_signal(signal.SIGINT)
    assert "second signal" in (await sample.line("stopped_hard"))["message"]
    assert await sample.code() == 0


async def test_bad_setting_exits_with_two(start: Callable[..., Any]) -> None:
    sample = await start("wait", "nats://127.0.0.1:1", CALLBUS_LOG__LEVEL="loud")
    assert await sample.code() == 2
    assert b"[log] level = 'loud'" in await sample.process.stderr.read()
