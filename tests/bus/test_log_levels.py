"""The log level of a process, changed over the bus."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bus import codec, logs
from bus.log_levels import LevelControl
from bus.memory import MemoryServer
from config.settings import LogSection
from schemas.log_level import LogLevelOrder, LogLevelReply
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def output() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(LogSection(level="info", format="json"), "asr", "asr-1", stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


async def ask(server: MemoryServer, target: str, order: LogLevelOrder | bytes) -> LogLevelReply:
    data = order if isinstance(order, bytes) else codec.encode(order)
    answer = await server.connect("ops").request(f"ops.log_level.{target}", data)
    return codec.decode(answer.data, LogLevelReply)


def test_an_order_is_obeyed_answered_and_logged(output: io.StringIO) -> None:
    async def scenario() -> None:
        server = MemoryServer()
        control = LevelControl(server.connect("asr-1"), "asr", "asr-1", "info")
        await control.start()
        reply = await ask(server, "asr", LogLevelOrder(level="error", by="ann@desk"))
        assert (reply.service, reply.instance, reply.before, reply.level, reply.error) == (
            "asr", "asr-1", "info", "error", "",
        )  # fmt: skip
        assert logs.level() == "error"
        reply = await ask(server, "asr-1", LogLevelOrder(level="configured"))
        assert (reply.before, reply.level) == ("error", "info")
        await control.stop()

    run_virtual(scenario())
    first, second = lines(output)
    assert (first["event"], first["by"], first["before"], first["now"]) == (
        "log_level_changed", "ann@desk", "info", "error",
    )  # fmt: skip
    assert first["message"] == "ann@desk changes the log level from info to error"
    assert second["message"] == "somebody changes the log level from error to info"


def test_the_configured_level_comes_back_by_itself(output: io.StringIO) -> None:
    async def scenario() -> None:
        server = MemoryServer()
        control = LevelControl(server.connect("asr-1"), "asr", "asr-1", "info")
        await control.start()
        await ask(server, "asr", LogLevelOrder(level="debug", for_s=600))
        await asyncio.sleep(500)
        await ask(server, "asr", LogLevelOrder(level="warning", for_s=600))
        await asyncio.sleep(500)
        assert logs.level() == "warning", "the newer order counts"
        await asyncio.sleep(200)
        assert logs.level() == "info"
        await ask(server, "asr", LogLevelOrder(level="debug", for_s=600))
        await control.stop()
        await asyncio.sleep(1000)
        assert logs.level() == "debug", "nothing happens after the end"

    run_virtual(scenario())
    assert [line["message"] for line in lines(output)][2] == "the log level is info again, as configured"


@pytest.mark.parametrize("order", [b"", b"{}", b'{"level":"loud"}', b'{"level":"debug","for_s":1e9}'])
def test_rubbish_changes_nothing(order: bytes) -> None:
    async def scenario() -> None:
        server = MemoryServer()
        await LevelControl(server.connect("asr-1"), "asr", "asr-1", "info").start()
        reply = await ask(server, "asr", order)
        assert reply.error
        assert (reply.level, logs.level()) == ("info", "info")

    run_virtual(scenario())
