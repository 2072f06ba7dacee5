"""``callbus`` as a user types it, on a bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from bus.memory import MemoryServer
from ops import session
from ops.main import cli
from tests.ops.recorded import call_events, record_call

Command = Callable[..., Result]


@pytest.fixture
def callbus() -> Command:
    """Run the command line with these words; standard output and error apart."""

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, list(words), catch_exceptions=False)

    return run


@pytest.fixture
def memory_bus(monkeypatch: pytest.MonkeyPatch) -> MemoryServer:
    """A server in memory that every inspecting command reaches."""
    server = MemoryServer()

    async def connect(name: str, _: object, *, wait: bool) -> object:
        assert not wait
        return server.connect(name)

    monkeypatch.setattr(session, "connect", connect)
    return server


@pytest.fixture
def recorded(memory_bus: MemoryServer) -> MemoryServer:
    """The server with one whole call and a younger one that still goes on."""

    async def fill() -> None:
        connection = memory_bus.connect("test")
        await record_call(connection, missing=(7,))
        await record_call(connection, call_events("01a1f8bd86e7789192e5bff0e7cd2871", ended=False), chunks=0)
        await connection.close()

    asyncio.run(fill())
    return memory_bus
