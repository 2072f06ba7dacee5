"""The supervisor with small programs in place of the services: what is restarted, what ends it all, how it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bus.client import connect
from bus.server import NatsServerProcess
from config.load import ConfigError, load
from config.settings import EdgeSection, MetricsSection, NatsSection
from ops import broker, supervisor
from ops.broker import FolderLock, port_of
from ops.process import StartError, State
from ops.session import events_of
from ops.supervisor import Supervisor, SystemPlan, edge_environments, metrics_environment
from schemas.call import CallEnded
from tests.ops.recorded import CALL_ID, call_events, record_call

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

HEARTBEATING = """
import asyncio, os, signal, sys, time
sys.path.insert(0, {root!r})
import msgspec, nats
STAGE = {stage!r}

if STAGE == "edge":
    with open({order!r}.replace("order", "lost"), "a") as lost:
        lost.write(os.environ["CALLBUS_LOST_CALLS"] + "\\n")

async def main():
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    connection = await nats.connect(os.environ["NATS_URL"])
    figures = {{"sip_port": 5999.0}} if STAGE == "edge" else {{}}
    record = {{"type": "session.worker.v1", "stage": STAGE, "worker": STAGE + "-x", "slots": 7,
               "process_id": os.getpid(), "figures": figures}}
    while not over.is_set():
        await connection.publish(f"hb.{{STAGE}}.{{STAGE}}-x", msgspec.json.encode(record))
        await asyncio.sleep(0.05)
    with open({order!r}, "a") as order:
        order.write(STAGE + "\\n")
    await connection.close()

asyncio.run(main())
"""
ENVIRONMENT = {"CALLBUS_EDGE__HOST": "127.0.0.1", "CALLBUS_EDGE__SIP_PORT": "0", "CALLBUS_EDGE__RTP_PORT_MIN": "0"}


class Stages:
    """Writes the programs that stand in for the services."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.order = folder / "order"
        for stage in ("edge", "asr", "llm", "tts"):
            self.write(stage, self.heartbeating(stage))

    def heartbeating(self, stage: str) -> str:
        return HEARTBEATING.format(root=str(Path.cwd()), stage=stage, order=str(self.order))

    def lost_calls(self) -> list[str]:
        """What each edge was told at its start of the calls that had died with another."""
        file = self.folder / "lost"
        return file.read_text().splitlines() if file.exists() else []

    def write(self, stage: str, program: str) -> None:
        (self.folder / f"fake_{stage}.py").write_text(program, encoding="utf-8")


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    made = tmp_path / "stages"
    made.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(made))
    monkeypatch.setattr(supervisor, "MODULES", {name: f"fake_{name}" for name in ("edge", "asr", "llm", "tts")})
    return Stages(made)


def plan_of(tmp_path: Path, **rest: object) -> SystemPlan:
    values = {"settings": load({}), "data": tmp_path / "data", "environment": ENVIRONMENT, "drain_s": 1.0}
    return SystemPlan(**{**values, **rest})  # type: ignore[arg-type]


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_starts_restarts_and_stops_in_order(tmp_path: Path, stages: Stages) -> None:
    said: list[str] = []
    system = Supervisor(plan_of(tmp_path, workers={"tts": 2}, say=said.append))
    with pytest.raises(StartError, match="not started"):
        _ = system.connection
    await system.start()
    stop = asyncio.Event()
    watching = asyncio.create_task(system.watch(stop))
    try:
        rows = {row.name: row for row in system.status()}
        assert list(rows) == ["nats-server", "edge-1", "asr-1", "llm-1", "tts-1", "tts-2"]
        assert {row.state for row in rows.values()} == {"ready"}
        assert (rows["asr-1"].slots, system.sip_ports, system.edge_names) == (7, (5999,), ("edge-x",))

        os.kill(rows["asr-1"].pid, signal.SIGKILL)
        os.kill(rows["nats-server"].pid, signal.SIGKILL)
        await until(lambda: all(row.state == "ready" for row in system.status()) and system.children[1].restarts == 1)
        assert {row.name: row.restarts for row in system.status() if row.restarts} == {"nats-server": 1, "asr-1": 1}
        assert system.status()[0].pid != rows["nats-server"].pid
        assert "asr-1 ended (signal 9); starting it again" in said
        assert "nats-server ended; starting it again" in said

        os.kill(rows["llm-1"].pid, signal.SIGSTOP)
        await until(lambda: system.status()[3].state == State.SILENT.value)
        os.kill(rows["llm-1"].pid, signal.SIGCONT)
    finally:
        stop.set()
        await watching
        await system.stop()
    await system.stop()
    assert stages.order.read_text().split()[0] == "edge"
    assert sorted(stages.order.read_text().split()) == ["asr", "edge", "llm", "tts", "tts"]
    assert {row.state for row in system.status()} == {"stopped"}


async def test_one_that_dies_at_once_three_times_ends_it_all(tmp_path: Path, stages: Stages) -> None:
    stages.write("llm", "print('the model is not there'); raise SystemExit(4)")
    system = Supervisor(plan_of(tmp_path))
    with pytest.raises(StartError, match=r"llm-1 can't start \(exit status 4\):\n  the model is not there"):
        await system.start()
    assert all(child.pid == 0 for child in system.children)
    assert system.children[2].restarts == 2


async def test_a_wrong_setting_is_not_tried_again(tmp_path: Path, stages: Stages) -> None:
    stages.write("tts", "print('no such voice'); raise SystemExit(2)")
    system = Supervisor(plan_of(tmp_path))
    with pytest.raises(StartError, match="no such voice"):
        await system.start()
    assert system.children[3].restarts == 0


async def test_one_that_never_gets_ready_is_named(tmp_path: Path, stages: Stages) -> None:
    stages.write("asr", "import time; print('loading', flush=True); time.sleep(60)")
    system = Supervisor(plan_of(tmp_path, ready_timeout_s=2.0, drain_s=0.0))
    with pytest.raises(StartError, match=r"(?s)not ready after 2 s: .*asr-1:\n  loading"):
        await system.start()


async def test_one_that_dies_slowly_is_named_with_the_words_of_its_last_death(tmp_path: Path, stages: Stages) -> None:
    mark = str(tmp_path / "died")
    stages.write(
        "llm",
        f"import os, time\nif os.path.exists({mark!r}): time.sleep(60)\n"
        f"open({mark!r}, 'w').close(); print('the server is not there'); raise SystemExit(1)",
    )
    system = Supervisor(plan_of(tmp_path, ready_timeout_s=3.0, drain_s=0.0))
    with pytest.raises(StartError, match=r"llm-1:\n  exit status 1; its last words:\n  the server is not there"):
        await system.start()


async def test_calls_of_a_dead_edge_are_recorded_as_ended(tmp_path: Path, stages: Stages) -> None:
    younger = CALL_ID[:-1] + "2"
    system = Supervisor(plan_of(tmp_path))
    await system.start()
    stop = asyncio.Event()
    watching = asyncio.create_task(system.watch(stop))
    ends: list[CallEnded] = []

    async def read_ends() -> list[CallEnded]:
        return [event async for event in events_of(system.connection, CallEnded)]

    try:
        await record_call(system.connection, call_events(ended=False), chunks=0)  # its edge is another one
        offered, *rest = call_events(younger, ended=False)
        await record_call(system.connection, [msgspec.structs.replace(offered, edge="edge-x"), *rest], chunks=0)
        os.kill(system.children[0].pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while not (ends := await read_ends()):
                await asyncio.sleep(0.05)
        assert [(end.call_id, end.reason, end.result.value, end.duration_ms) for end in ends] == [
            (younger, "edge_lost", "failed", 11_000)
        ]
        # The edge that is started in its place counts the call: its own figures died with it.
        async with asyncio.timeout(10):
            while len(stages.lost_calls()) < 2:
                await asyncio.sleep(0.05)
        assert stages.lost_calls() == ["", "11000"]
    finally:
        stop.set()
        await watching
        await system.stop()


def test_one_folder_serves_one_at_a_time(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "data"), FolderLock(tmp_path / "data")
    first.take()
    with pytest.raises(StartError, match=rf"another callbus runs in .*data \(process {os.getpid()}\).*--data DIR"):
        second.take()
    first.release()
    second.take()
    second.release()
    second.release()
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StartError, match="can't be used"):
        FolderLock(tmp_path / "file" / "data").take()


async def test_a_taken_sip_port_is_told_at_once(tmp_path: Path, stages: Stages) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        system = Supervisor(plan_of(tmp_path, environment={**ENVIRONMENT, "CALLBUS_EDGE__SIP_PORT": port}))
        with pytest.raises(StartError, match=rf"port {port}: Address already in use.*CALLBUS_EDGE__SIP_PORT"):
            await system.start()
    assert (system.children, system.server_pid) == ([], 0)


async def test_what_else_stops_a_start(tmp_path: Path, stages: Stages) -> None:
    away = Supervisor(plan_of(tmp_path, nats_url="nats://127.0.0.1:1"))
    with pytest.raises(StartError, match=r"does not answer.*or leave NATS_URL unset"):
        await away.start()
    wrong = Supervisor(plan_of(tmp_path, environment={"CALLBUS_EDGE__SIP_PORT": "x"}))
    with pytest.raises(ConfigError, match="sip_port"):
        await wrong.start()


async def test_several_edges_share_no_port() -> None:
    section = EdgeSection(host="127.0.0.1", sip_port=0, rtp_port_min=10_000, rtp_port_max=10_019)
    assert edge_environments(section, 1) == [{}]
    ranges = [
        (int(own["CALLBUS_EDGE__RTP_PORT_MIN"]), int(own["CALLBUS_EDGE__RTP_PORT_MAX"]))
        for own in edge_environments(section, 3)
    ]
    assert ranges == [(10_000, 10_005), (10_006, 10_011), (10_012, 10_017)]
    with NatsServerProcess() as other:  # any server that holds a TCP port
        free = EdgeSection(host="127.0.0.1", sip_port=other.port - 1 if other.port > 1024 else 0, rtp_port_min=0)
        with pytest.raises(StartError, match=f"port {other.port}"):
            edge_environments(free, 2)


def test_each_process_has_a_metrics_port_of_its_own() -> None:
    assert metrics_environment(MetricsSection(), 3) == {}
    section = MetricsSection(port=9464)
    found = [metrics_environment(section, place) for place in range(3)]
    assert found == [{}, {"CALLBUS_METRICS__PORT": "9465"}, {"CALLBUS_METRICS__PORT": "9466"}]


def test_the_port_that_was_wanted_or_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ("nats://127.0.0.1", "localhost:4333", "nats://far:4222", "nats://127.0.0.1:x")
    assert [port_of(url) for url in urls] == [4222, 4333, -1, -1]
    (tmp_path / "logs").mkdir()
    with NatsServerProcess() as other:
        server = broker.OwnServer(tmp_path, other.port)
        server.start()
        assert server.url != other.url
        asyncio.run(server.close())
        # Free when it was looked at, taken when it was bound.
        with monkeypatch.context() as patched:
            patched.setattr(broker, "_is_free", lambda port: True)
            racing = broker.OwnServer(tmp_path, other.port)
        racing.start()
        assert racing.url != other.url
        asyncio.run(racing.close())


async def test_a_supervisor_on_a_given_server_leaves_it_alone(
    tmp_path: Path, stages: Stages, fresh_nats: Callable[..., NatsServerProcess]
) -> None:
    server = fresh_nats()
    system = Supervisor(plan_of(tmp_path, nats_url=server.url))
    await system.start()
    assert (system.nats_url, system.server_pid, system.status()[0].name) == (server.url, 0, "edge-1")
    await system.stop()
    assert server.running
    connection = await connect("test", NatsSection(url=server.url), wait=False)
    assert await connection.last("call.default.x.call.ended") is None, "the streams are provisioned"
    await connection.close()
