"""``callbus log-level`` against real processes and a real nats-server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import click
import pytest

from bus.client import connect
from bus.provision import apply
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from ops.commands.log_level import seconds_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

ROOT = Path(__file__).resolve().parents[2]


async def callbus(url: str, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.main", "log-level", *words, "--nats", url, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode().strip()


@pytest.fixture
async def running(fresh_nats: Callable[..., NatsServerProcess], tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The URL of a server with an asr process on it, and the process's log."""
    server = fresh_nats()
    connection = await connect("ops", NatsSection(url=server.url), wait=False)
    await apply(connection, StreamsSection())
    await connection.close()
    log = tmp_path / "asr.log"
    instant = {"CALLBUS_ASR__ENGINE": "instant", "CALLBUS_ASR__VAD": "energy", "CALLBUS_TURN__ENDPOINTING": "fixed"}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.asr", cwd=ROOT, stderr=file,
            env={**os.environ, **instant, "NATS_URL": server.url, "CALLBUS_LOG__FORMAT": "json"},
        )  # fmt: skip
    async with asyncio.timeout(30):
        while '"ready"' not in log.read_text(encoding="utf-8"):
            await asyncio.sleep(0.05)
    yield server.url, log
    process.terminate()
    await process.wait()


async def test_show_change_and_come_back(running: tuple[str, Path]) -> None:
    url, log = running
    code, text = await callbus(url)
    instance = text.partition(":")[0]
    assert (code, text) == (0, f"{instance}: info")
    code, text = await callbus(url, "asr", "debug", "--for", "2s")
    assert (code, text) == (0, f"{instance}: info -> debug for 2s")
    async with asyncio.timeout(15):
        while "as configured" not in log.read_text(encoding="utf-8"):
            await asyncio.sleep(0.05)
    code, text = await callbus(url, "asr", "warning", "--instance", instance, "--json")
    (reply,) = json.loads(text)
    assert (code, reply["before"], reply["level"], reply["configured"]) == (0, "info", "warning", "info")
    code, text = await callbus(url, "--json")
    assert json.loads(text) == [{"instance": instance, "level": "warning"}]
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    changes = [line for line in lines if line["event"] == "log_level_changed"]
    assert [(line["before"], line["now"]) for line in changes] == [
        ("info", "debug"), ("debug", "info"), ("info", "warning"),
    ]  # fmt: skip
    assert "@" in changes[0]["by"]


async def test_nobody_answers(running: tuple[str, Path]) -> None:
    url, _ = running
    code, text = await callbus(url, "tts", "debug")
    assert (code, text) == (1, "Error: no tts answers; `callbus health tts` says why")
    assert (await callbus(url, "asr"))[0] == 2
    assert (await callbus(url, "asr", "loud"))[0] == 2


@pytest.mark.parametrize(("text", "seconds"), [("", 0), ("90s", 90), ("10m", 600), ("24h", 86_400)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["10", "0s", "25h", "m", "-5m", "1d"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write for example"):
        seconds_of(text)
