"""The edge process's parts, in this process and with the bus in memory."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from typing import Any

import msgspec
import pytest

from bus import codec
from bus.edges import LOST_CALLS
from bus.heartbeat import Heartbeat
from bus.memory import MemoryConnection, MemoryServer
from bus.service import ServiceContext
from config.settings import EdgeSection, OwnershipSection, Settings
from edge import __main__ as program
from edge import process
from edge.process import EdgeProcess, drain_ms, main, raise_file_limit, wait_until
from schemas import call
from schemas.session import Stage, WorkerRecord
from tests.edge.harness import LOCAL, Observer, until
from tests.edge.test_metrics import Grown
from tests.fakes.caller import HOST, Caller

pytestmark = pytest.mark.integration


def context(server: MemoryServer, section: EdgeSection = LOCAL, drain_ms: int = 300) -> ServiceContext:
    section = msgspec.structs.replace(section, niceness=0)
    settings = Settings(edge=section, ownership=OwnershipSection(drain_ms=drain_ms))
    return ServiceContext("edge", settings, server.connect("edge"), "edge-inside")


async def test_from_start_to_drain() -> None:
    server = MemoryServer()
    inside = context(server)
    observer = Observer(server.connect("observer"))
    await observer.start()
    beats: list[WorkerRecord] = []
    await observer.connection.subscribe("hb.edge.*", lambda m: beats.append(codec.decode(m.data, WorkerRecord)))
    running = asyncio.create_task(main(inside))
    await until(lambda: bool(beats))
    port = int(beats[-1].figures["sip_port"])
    async with Caller() as caller:
        await caller.dial(port)
        await until(lambda: beats[-1].calls == 1 and beats[-1].figures["pacer_turns"] > 20)
        assert beats[-1].figures["pacer_late_max_ms"] >= beats[-1].figures["pacer_late_p50_ms"]
        inside.stopping.set()
        ended = await observer.wait_for(call.CallEnded)
        await running
    assert ended.reason == "edge_stopping"
    assert any(beat.draining for beat in beats)


async def test_a_port_in_use_is_exit_code_1() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        section = msgspec.structs.replace(LOCAL, sip_port=taken.getsockname()[1])
        with pytest.raises(SystemExit) as stopped:
            await main(context(MemoryServer(), section))
    assert stopped.value.code == 1


async def test_a_stage_that_is_none_is_exit_code_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        await main(context(MemoryServer(), msgspec.structs.replace(LOCAL, required_stages="speech")))
    assert stopped.value.code == 2


async def test_stopping_without_calls_is_quick() -> None:
    edge = EdgeProcess(context(MemoryServer(), drain_ms=60_000))
    await edge.start()
    assert edge.sip_port > 0
    async with asyncio.timeout(5):
        await edge.stop()


async def test_it_counts_the_calls_of_the_edge_whose_place_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOST_CALLS, "11000,0")
    grown = Grown()
    edge = EdgeProcess(context(MemoryServer()))
    await edge.start()
    await edge.stop()
    assert grown("calls_ended_total", result="failed", reason="edge_lost") == 2
    assert (grown("call_duration_seconds_count"), grown("call_duration_seconds_sum")) == (1, 11)


async def test_calls_have_the_time_that_the_edge_gives_them() -> None:
    inside = context(MemoryServer(), msgspec.structs.replace(LOCAL, drain_ms=60_000), drain_ms=100)
    edge = EdgeProcess(inside)
    await edge.start()
    async with Caller() as caller:
        await caller.dial(edge.sip_port)
        await until(lambda: len(edge.switchboard.calls) == 1)
        stopping = asyncio.create_task(edge.stop())
        await asyncio.sleep(0.5)
        assert len(edge.switchboard.calls) == 1, "the time of the workers is over, that of the calls is not"
        caller.hang_up()
        async with asyncio.timeout(5):
            await stopping


@pytest.mark.parametrize(("own", "wanted"), [(0, 3000), (1_800_000, 1_800_000)])
def test_how_long_calls_may_go_on(own: int, wanted: int) -> None:
    settings = Settings(edge=EdgeSection(drain_ms=own), ownership=OwnershipSection(drain_ms=3000))
    assert drain_ms(settings) == wanted


async def test_waiting_has_an_end() -> None:
    assert not await wait_until(lambda: False, 0.05)
    assert await wait_until(lambda: True, 0.0)


def test_open_files_are_raised_as_far_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 400))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    raise_file_limit(50)
    raise_file_limit(300)
    raise_file_limit(1000)
    assert asked == [(300, 400), (400, 400)]


def test_priority_that_is_not_allowed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "not allowed")

    monkeypatch.setattr(process.os, "setpriority", refuse)
    monkeypatch.setattr(process.os, "sched_setscheduler", refuse)
    process.raise_priority(-10, realtime=True)


def test_realtime_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(process.os, "sched_setscheduler", lambda _, policy, __: asked.append(policy))
    process.raise_priority(0, realtime=True)
    assert asked == [os.SCHED_RR | os.SCHED_RESET_ON_FORK]


def test_the_program_runs_the_service(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[tuple[object, ...]] = []
    monkeypatch.setattr(program, "run_service", lambda *what: ran.append(what))
    program.main([])
    assert ran == [("edge", main, drain_ms)]
    with pytest.raises(SystemExit) as stopped:
        program.main(["--help"])
    assert stopped.value.code == 0
    assert "CALLBUS_EDGE__MAX_CALLS" in capsys.readouterr().out


async def test_an_edge_is_ready_while_a_worker_of_each_required_stage_is_heard() -> None:
    server = MemoryServer()
    inside = context(server, msgspec.structs.replace(LOCAL, required_stages="asr,tts"))
    running = asyncio.create_task(main(inside))
    worker = server.connect("worker")
    tts = inside_heartbeat(inside, worker, Stage.TTS)
    asr = inside_heartbeat(inside, worker, Stage.ASR)

    def why() -> str:
        inside.health.beat()
        return str(inside.health.ready()["why"])

    await until(lambda: inside.health.is_ready)
    assert why().startswith("edge refuses calls: no asr worker is heard; start one, or see why it does not come")
    asr.beat()
    await until(lambda: "no tts worker" in why(), 1.0)
    tts.beat()
    await until(lambda: not why(), 1.0)
    await until(lambda: "no asr worker" in why(), 3.0)
    inside.stopping.set()
    await running


def inside_heartbeat(inside: ServiceContext, connection: MemoryConnection, stage: Stage) -> Heartbeat:
    return Heartbeat(connection, stage, f"{stage.value}-1", settings=inside.settings.ownership, slots=4)
