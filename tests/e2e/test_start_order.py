"""The order in which things are started does not matter: services before nats-server, that before its streams."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bus.client import connect
from bus.provision import apply
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from ops.supervisor import MODULES
from tests.e2e.system import FREE_PORTS, HOST, INSTANT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

READY_S = 20.0
ROOT = Path(__file__).resolve().parents[2]


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def ready_page(port: int) -> tuple[int, dict[str, Any]]:
    """Status and body of /ready; (0, {}) where nobody listens yet."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return 0, {}
    writer.write(b"GET /ready HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


class Service:
    """One process, its page and its log."""

    def __init__(self, name: str, port: int, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.port = port
        self.process = process
        self.log = log

    async def says(self, what: Callable[[int, str], bool], limit_s: float) -> str:
        """Wait until /ready says it; its sentence."""
        deadline = time.monotonic() + limit_s
        status, answer = 0, {}
        while time.monotonic() < deadline:
            status, answer = await ready_page(self.port)
            if status and what(status, answer["why"]):
                assert answer["service"] == self.name
                return str(answer["why"])
            await asyncio.sleep(0.05)
        raise AssertionError(f"{self.name}: {status} {answer}\n{self.log.read_text(encoding='utf-8')}")

    def logged(self, text: str) -> bool:
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        return any(text in line["message"] for line in lines)

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 10)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


async def start(name: str, port: int, url: str, folder: Path) -> Service:
    environment = {**os.environ, **FREE_PORTS, **INSTANT, "NATS_URL": url}
    environment |= {"CALLBUS_METRICS__PORT": str(port), "CALLBUS_METRICS__HOST": HOST, "CALLBUS_LOG__FORMAT": "json"}
    path = folder / f"{name}.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULES[name], env=environment, cwd=ROOT, stdout=log, stderr=log
        )
    return Service(name, port, process, path)


async def stop_all(services: Sequence[Service]) -> None:
    """All at once: NATS is away, and each waits for what it has not stored."""
    await asyncio.gather(*(service.stop() for service in services))


async def test_services_then_server_then_streams(fresh_nats: Callable[..., NatsServerProcess], tmp_path: Path) -> None:
    server = fresh_nats()
    await asyncio.to_thread(server.stop)
    async with AsyncExitStack() as stack:
        services: list[Service] = []
        stack.push_async_callback(stop_all, services)
        for name, port in zip(MODULES, free_ports(len(MODULES)), strict=True):
            services.append(await start(name, port, server.url, tmp_path))
        for service in services:
            why = await service.says(lambda status, why: status == 503 and "waits for NATS" in why, 40)
            assert server.url.removeprefix("nats://") in why
        await asyncio.to_thread(server.start)
        for service in services:
            await service.says(lambda status, why: status == 503 and "callbus provision" in why, 20)
        connection = await connect("ops", NatsSection(url=server.url), wait=False)
        begun = time.monotonic()
        await apply(connection, StreamsSection())
        for service in services:
            await service.says(lambda status, why: status == 200 and not why, READY_S)
        assert time.monotonic() - begun < READY_S
        await connection.close()
        for service in services:
            assert service.logged("does not answer for"), "NATS is away"
            assert service.logged("callbus provision"), "and then empty"
            assert service.logged(f"{service.name} is ready")
        # What comes back brings all back; what is lacking is said by the edge alone.
        (tts,) = [service for service in services if service.name == "tts"]
        await tts.stop()
        edge = services[0]
        why = await edge.says(lambda status, _: status == 503, 10)
        assert why.startswith("edge refuses calls: no tts worker is heard")
        await asyncio.to_thread(server.stop)
        await services[1].says(lambda status, why: status == 503 and "has lost NATS" in why, 10)
