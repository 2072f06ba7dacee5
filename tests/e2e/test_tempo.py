"""A real collector and a real Tempo with our configuration hold a real call; the queries of the dashboards find it.

No package index has them: this is tried where ``otelcol`` (or ``otelcol-contrib``) and ``tempo`` are on the PATH.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.peers import free_port, running
from tests.e2e.system import HOST, INSTANT, running_system
from tests.e2e.test_prometheus import hold_calls
from tests.ops.test_dashboards import FILES, load, panels

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

OPS = Path(__file__).resolve().parents[2] / "ops"
ALWAYS_FOUND = {"Turns", "Stages", "Calls"}
"""Panels that show something of every call; the others show what is slow or has failed."""
PATIENCE_S = 30.0


def program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"{names[0]} is not on the PATH: the collector's and Tempo's configuration are not tried")
    return found


def moved(file: Path, folder: Path, places: Mapping[str, str]) -> Path:
    """A configuration of ours with other ports and folders, as several of them run on this machine."""
    text = file.read_text(encoding="utf-8")
    for ours, place in places.items():
        assert ours in text, f"{file.name} does not say {ours}"
        text = text.replace(ours, place)
    (folder / file.name).write_text(text, encoding="utf-8")
    return folder / file.name


@asynccontextmanager
async def tempo(folder: Path, intake: int) -> AsyncIterator[str]:
    page, inside = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    places = {
        "/var/tempo": str(folder / "tempo"),
        "0.0.0.0:4317": f"{HOST}:{intake}",
        "0.0.0.0:4318": f"{HOST}:{free_port(socket.SOCK_STREAM)}",
        "http_listen_port: 3200": f"http_listen_port: {page}\n  grpc_listen_port: {inside}",
    }
    file = moved(OPS / "tempo" / "tempo.yml", folder, places)
    async with running(program("tempo"), f"-config.file={file}", log=folder / "tempo.log"):
        await answers(f"http://{HOST}:{page}/ready")
        yield f"http://{HOST}:{page}/api"


@asynccontextmanager
async def collector(folder: Path, intake: int, tempo_intake: int) -> AsyncIterator[None]:
    health = free_port(socket.SOCK_STREAM)
    places = {
        "tempo:4317": f"{HOST}:{tempo_intake}",
        "0.0.0.0:4317": f"{HOST}:{intake}",
        "0.0.0.0:4318": f"{HOST}:{free_port(socket.SOCK_STREAM)}",
        "0.0.0.0:13133": f"{HOST}:{health}",
    }
    file = moved(OPS / "otel-collector" / "otel-collector.yml", folder, places)
    async with running(program("otelcol", "otelcol-contrib"), f"--config={file}", log=folder / "otelcol.log"):
        await answers(f"http://{HOST}:{health}")
        yield


async def answers(url: str) -> None:
    """Until the page says that all is well."""
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.2)


def questions() -> Iterator[tuple[str, str]]:
    """Title and TraceQL of every panel that asks Tempo."""
    for path in FILES:
        for panel in panels(load(path)):
            for target in panel.get("targets", ()):
                if target["datasource"]["type"] == "tempo":
                    yield panel["title"], target["query"]


async def find(session: aiohttp.ClientSession, api: str, query: str) -> list[Any]:
    async with session.get(f"{api}/search", params={"q": query, "limit": "20", "spss": "50"}) as answer:
        text = await answer.text()
        assert answer.status == 200, (query, text)
        traces: list[Any] = (await answer.json(content_type=None)).get("traces", [])
        return traces


async def find_some(session: aiohttp.ClientSession, api: str, query: str) -> list[Any]:
    """As :func:`find`, until there is something: spans come in batches."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await find(session, api, query)):
            await asyncio.sleep(0.5)
    return found


async def test_a_call_is_found_by_every_panel(tmp_path: Path) -> None:
    intake, tempo_intake = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    environment = {**INSTANT, "CALLBUS_TRACING__ENDPOINT": f"http://{HOST}:{intake}"}
    async with (
        tempo(tmp_path, tempo_intake) as api,
        collector(tmp_path, intake, tempo_intake),
        running_system(tmp_path, environment=environment) as supervisor,
        aiohttp.ClientSession() as session,
    ):
        await hold_calls(supervisor)
        calls = await find_some(session, api, '{ name = "call" } | select(span.callbus.call_id)')
        attributes = calls[0]["spanSets"][0]["spans"][0]["attributes"]
        (call,) = [each["value"]["stringValue"] for each in attributes if each["key"] == "callbus.call_id"]
        async with session.get(f"{api}/traces/{call}") as answer:
            assert answer.status == 200
        for title, query in questions():
            if query == "$call":
                continue
            ask = find_some if title in ALWAYS_FOUND else find
            await ask(session, api, query.replace("$call", call))
