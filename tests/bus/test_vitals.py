"""What every process tells: its loop, its handlers, its failures, its dead letters, what is not stored, its workers."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any, cast

import pytest

from bus import metrics, publish, vitals
from bus.client import NatsConnection
from bus.dead_letter import bury
from bus.drops import KINDS
from bus.health import Health
from bus.heartbeat import Heartbeat
from bus.memory import MemoryServer
from bus.metrics import page
from bus.metrics.registry import REGISTRY
from bus.publish import Recorder
from bus.tracing import GuardedHandler
from bus.vitals import Vitals
from config.settings import OwnershipSection
from schemas.failure import Failure
from schemas.session import Stage
from tests.bus.samples import AT_US, CALL, sentence, until

pytestmark = pytest.mark.unit


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"callbus_{name}", labels) or 0.0


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Health:
    monkeypatch.setattr(page._Process, "figures", page._Process.figures)
    return Health("asr", "asr-1")


async def test_a_process_tells_whether_it_is_ready_and_connected(health: Health) -> None:
    server = MemoryServer()
    connection = server.connect("edge-1")
    told = Vitals("edge", "1.0", health)
    told.connected(cast(NatsConnection, connection))
    try:
        assert (value("ready"), value("bus_connected")) == (0, 1)
        health.is_ready = True
        assert value("ready") == 1
        reconnects = value("bus_reconnects_total")
        connection.interrupt()
        assert value("bus_connected") == 0
        for subject in (
            "rt.a.b.audio.in", "rt.a.b.control.edge.flush", "rt.a.b.replay", "call.a.b.asr.final", "hb.edge.edge-1",
            "_INBOX_asr.ask.1", "_R_.x.1", "trace.keep",
        ):  # fmt: skip
            connection.publish(subject, b"")
        connection.publish_many([("rt.a.b.audio.in", b""), ("rt.a.b.audio.in", b"")])
        dropped = {kind: value("bus_dropped_publishes_total", kind=kind) for kind in KINDS}
        assert dropped == {"audio": 3, "control": 2, "event": 1, "heartbeat": 1, "answer": 2, "other": 1}
        connection.restore()
        assert (value("bus_connected"), value("bus_reconnects_total") - reconnects) == (1, 1)
    finally:
        told.end()


async def test_a_loop_that_is_held_up_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "SAMPLE_S", 0.01)
    before = value("event_loop_lag_seconds_sum")
    sampling = asyncio.create_task(vitals.sample_lag())
    await asyncio.sleep(0.015)
    time.sleep(0.2)  # noqa: ASYNC251 - it is what the test is about
    await asyncio.sleep(0.03)
    sampling.cancel()
    assert value("event_loop_lag_seconds_sum") - before > 0.15


async def test_handlers_are_timed_and_counted_by_subject(health: Health) -> None:
    def handle(given: int) -> None:
        if given:
            raise ValueError("no")

    told = Vitals("asr", "1.0", health)
    subject = "call.*.*.playout.paused"
    before = value("handler_seconds_count", subject=subject), value("handler_errors_total", subject=subject)
    handler: GuardedHandler[int] = GuardedHandler("vitals", handle)
    for given in (0, 0, 1):
        handler(f"call.acme.{CALL}.playout.paused", {}, given)
    assert value("handler_seconds_count", subject=subject) - before[0] == 3
    assert value("handler_errors_total", subject=subject) - before[1] == 1
    assert value("handler_seconds_bucket", subject=subject, le="+Inf") == value(
        "handler_seconds_count", subject=subject
    )
    told.end()


async def test_failures_and_dead_letters_are_counted_by_code_and_service() -> None:
    server = MemoryServer()
    connection = server.connect("tts-1")
    failures = value("failures_total", stage="tts", code="engine_timeout")
    letters = value("dead_letters_total", service="tts")
    recorder = Recorder(connection, service="tts")
    recorder.record(Failure(call_id=CALL, at_us=AT_US, code="engine_timeout", stage="tts", worker="tts-1"))
    bury(connection, "tts", f"call.default.{CALL}.llm.sentence", b"{", "no JSON")
    assert value("failures_total", stage="tts", code="engine_timeout") - failures == 1
    assert value("dead_letters_total", service="tts") - letters == 1
    await recorder.close(1000)


async def test_what_is_not_stored_yet_is_counted_over_all_calls(health: Health) -> None:
    gc.collect()
    told = Vitals("llm", "1.0", health)
    server = MemoryServer()
    connection = server.connect("llm-1")
    recorders = [Recorder(connection, service="llm") for _ in range(2)]
    await asyncio.sleep(0.01)
    before = value("store_pending")
    connection.interrupt()
    for recorder in recorders:
        recorder.record(sentence(0))
        recorder.record(sentence(1))
    assert value("store_pending") - before == 4
    connection.restore()
    await until(lambda: value("store_pending") == before)
    dropped = value("store_dropped_total")
    connection.interrupt()
    recorders[0].record(sentence(2))
    await recorders[0].close(0)
    assert value("store_dropped_total") - dropped == 1 == publish.figures.dropped - dropped
    told.end()


async def test_a_worker_tells_its_load() -> None:
    server = MemoryServer()
    heartbeat = Heartbeat(server.connect("asr-1"), Stage.ASR, "asr-1", settings=OwnershipSection(), slots=40)
    heartbeat.calls = 10
    await heartbeat.start()
    found: list[Any] = [value(f"worker_{name}", stage="asr") for name in ("calls", "slots", "utilization")]
    assert found == [10, 40, 0.25]
    heartbeat.slots = 0
    assert REGISTRY.get_sample_value("callbus_worker_utilization", {"stage": "asr"}) is None
    await heartbeat.stop()


def test_what_runs_is_told(health: Health) -> None:
    metrics.begin("tts", "9.9.9")
    assert b'service="tts"' in metrics.render()[0]
