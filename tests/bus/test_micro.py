from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from bus import tracing
from bus.interface import Connection
from bus.memory import MemoryServer
from bus.micro import MicroService
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit


async def ask(connection: Connection, subject: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await connection.request(subject, b"")).data)
    return answer


def test_process_answers_ping_info_stats_and_health() -> None:
    async def scenario() -> None:
        server = MemoryServer()
        connection, operator = server.connect("asr-1"), server.connect("ops")
        tracing.GuardedHandler("micro", lambda _: None)("call.t.c.asr.final", {}, 1)
        micro = MicroService(
            connection,
            name="services.asr",
            version="0.1.0",
            instance="asr-1",
            description="callbus asr",
            metadata={"pid": "7"},
            health=lambda: {"ok": True, "ready": False},
        )
        await micro.start()
        micro.metadata["ready"] = "true"
        for subject in ("$SRV.PING", "$SRV.PING.services-asr", "$SRV.PING.services-asr.asr-1"):
            assert await ask(operator, subject) == {
                "type": "io.nats.micro.v1.ping_response",
                "name": "services-asr",
                "id": "asr-1",
                "version": "0.1.0",
                "metadata": {"pid": "7", "ready": "true"},
            }
        info = await ask(operator, "$SRV.INFO.services-asr")
        assert info["type"] == "io.nats.micro.v1.info_response"
        assert info["description"] == "callbus asr"
        (endpoint,) = info["endpoints"]
        assert await ask(operator, endpoint["subject"]) == {"ok": True, "ready": False}
        stats = await ask(operator, "$SRV.STATS.services-asr.asr-1")
        assert stats["type"] == "io.nats.micro.v1.stats_response"
        assert stats["endpoints"][0]["num_requests"] == 1
        assert stats["endpoints"][0]["average_processing_time"] > 0
        handler = next(e for e in stats["endpoints"] if e["name"] == "micro-call_any_any_asr_final")
        assert handler["num_requests"] == 1
        await micro.stop()
        connection.publish("$SRV.PING", b"")

    run_virtual(scenario())


def test_health_that_fails_says_so() -> None:
    def broken() -> Mapping[str, Any]:
        raise RuntimeError("no model")

    async def scenario() -> None:
        server = MemoryServer()
        connection = server.connect("asr-1")
        micro = MicroService(connection, name="asr", version="0.1.0", instance="asr-1", health=broken)
        await micro.start()
        assert await ask(server.connect("ops"), "asr.asr-1.health") == {"ok": False, "error": "RuntimeError"}
        connection.publish("asr.asr-1.health", b"")
        connection.publish("$SRV.PING", b"")
        stats = await ask(connection, "$SRV.STATS")
        assert stats["endpoints"][0]["num_errors"] >= 1
        assert stats["endpoints"][0]["last_error"] == "RuntimeError", "its text may quote somebody"
        await micro.stop()

    run_virtual(scenario())
