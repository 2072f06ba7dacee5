"""The NATS fixtures of tests/conftest.py."""

from __future__ import annotations

import asyncio

import pytest

from bus.client import NatsConnection
from bus.clock import uuid7_hex
from bus.provision import check
from config.settings import StreamsSection

pytestmark = pytest.mark.bus


async def test_the_sessions_server_has_the_topology(nats_connection: NatsConnection, nats_url: str) -> None:
    assert nats_url.startswith("nats://")
    assert await check(nats_connection, StreamsSection()) == []
    call = uuid7_hex()
    await nats_connection.store(f"call.default.{call}.call.ended", b"1")
    assert [m.data async for m in nats_connection.read(f"call.default.{call}.>")] == [b"1"]


async def test_a_fresh_server_is_another_one(fresh_nats, nats_url: str) -> None:  # type: ignore[no-untyped-def]
    server = fresh_nats(start=False)
    assert not server.running
    await asyncio.to_thread(server.start)
    assert server.url != nats_url
