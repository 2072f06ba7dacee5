"""The edge as a process: start, ports, heartbeat, two beside each other, drain."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bus import codec
from bus.client import NatsConnection, connect
from bus.interface import Message
from bus.provision import apply
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from edge.sip import events as sip
from schemas import call
from schemas.session import WorkerRecord
from tests.edge.harness import Observer, until
from tests.edge.processes import ROOT, EdgeProgram
from tests.fakes.caller import HOST, Caller, tone

pytestmark = [pytest.mark.integration, pytest.mark.bus]


@pytest.fixture
def server_url(fresh_nats: Callable[..., NatsServerProcess]) -> str:
    """A server of the test's own: what is counted here must not come from elsewhere."""
    return fresh_nats().url


@pytest.fixture
async def connection(server_url: str) -> AsyncIterator[NatsConnection]:
    made = await connect("observer", NatsSection(url=server_url))
    await apply(made, StreamsSection())
    yield made
    await made.close()


def test_help_names_the_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "CALLBUS_EDGE__SIP_PORT" in done.stdout
    assert "NATS_URL" in done.stdout


async def test_a_call_through_a_process_then_a_clean_stop(
    server_url: str, connection: NatsConnection, tmp_path: Path
) -> None:
    observer = Observer(connection)
    await observer.start()
    with EdgeProgram(server_url, tmp_path) as edge:
        async with Caller() as caller:
            await caller.dial(await asyncio.to_thread(lambda: edge.port), from_uri="sip:+4930123456@example.org")
            await caller.talk(tone(n) for n in range(10))
            caller.hang_up()
            await until(lambda: bool(edge.of("call_summary")))
        assert await asyncio.to_thread(edge.stop) == 0
        (line,) = edge.of("call_summary")
        assert (line["result"], line["reason"], line["ended_by"]) == ("completed", "caller_hung_up", "caller")
        assert line["packets_received"] == 10
        assert line["pacer_late_max_ms"] >= 0
        assert "4930123456" not in (tmp_path / edge._log.name).read_text(encoding="utf-8")


async def test_the_heartbeat_tells_port_calls_and_lateness(
    server_url: str, connection: NatsConnection, tmp_path: Path
) -> None:
    beats: list[WorkerRecord] = []

    def hear(message: Message) -> None:
        beats.append(codec.decode(message.data, WorkerRecord))

    await connection.subscribe("hb.edge.*", hear)
    with EdgeProgram(server_url, tmp_path, max_calls="7") as edge:
        port = await asyncio.to_thread(lambda: edge.port)
        async with Caller() as caller:
            await caller.dial(port)
            await until(lambda: any(beat.calls == 1 and beat.figures.get("pacer_turns") for beat in beats))
            beat = beats[-1]
            assert beat.slots == 7
            assert beat.figures["sip_port"] == port
            assert {"pacer_late_p99_ms", "pacer_late_max_ms", "loop_lag_ms"} <= set(beat.figures)
            caller.hang_up()
        assert await asyncio.to_thread(edge.stop) == 0


async def test_two_edges_on_one_host_share_nothing(server_url: str, connection: NatsConnection, tmp_path: Path) -> None:
    observer = Observer(connection)
    await observer.start()
    with (
        EdgeProgram(server_url, tmp_path, rtp_port_min="30000", rtp_port_max="30099") as one,
        EdgeProgram(server_url, tmp_path, rtp_port_min="30000", rtp_port_max="30099") as two,
    ):
        ports = [await asyncio.to_thread(lambda edge=edge: edge.port) for edge in (one, two)]
        assert ports[0] != ports[1]
        async with Caller() as first, Caller() as second:
            media = [await first.dial(ports[0]), await second.dial(ports[1])]
            assert media[0].remote_port != media[1].remote_port
            await first.talk(tone(n) for n in range(5))
            await second.talk(tone(100 + n) for n in range(5))
            await until(lambda: len(observer.frames) == 10)
            edges = {event.edge for event in observer.of(call.CallAnswered)}
            assert len(edges) == 2
            one.process.kill()
            await second.talk(tone(200 + n) for n in range(5))
            await until(lambda: len(observer.frames) == 15)
            second.hang_up()
            await observer.wait_for(call.CallEnded)
        assert await asyncio.to_thread(two.stop) == 0


async def test_a_sip_port_in_use_names_the_setting(connection: NatsConnection, server_url: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        with EdgeProgram(server_url, tmp_path, sip_port=str(taken.getsockname()[1])) as edge:
            assert await asyncio.to_thread(edge.process.wait, 20) == 1
            assert "[edge] sip_port" in edge.of("sip_port_taken")[0]["message"]


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [("required_stages", "asr,speech", "required_stages"), ("rtp_port_max", "9", "rtp_port_min")],
)
async def test_a_setting_that_makes_no_sense_is_exit_code_2(
    connection: NatsConnection, server_url: str, tmp_path: Path, key: str, value: str, named: str
) -> None:
    changes = {key: value, "rtp_port_min": "10"} if key.startswith("rtp") else {key: value}
    with EdgeProgram(server_url, tmp_path, **changes) as edge:
        assert await asyncio.to_thread(edge.process.wait, 20) == 2
        assert named in edge.of("bad_setting")[0]["message"]


async def test_drain_lets_a_call_end_and_refuses_another_then_hangs_up(
    server_url: str, connection: NatsConnection, tmp_path: Path
) -> None:
    observer = Observer(connection)
    await observer.start()
    with EdgeProgram(server_url, tmp_path) as edge:
        port = await asyncio.to_thread(lambda: edge.port)
        async with Caller() as caller, Caller() as late:
            await caller.dial(port)
            stopping = asyncio.create_task(asyncio.to_thread(edge.stop))
            await until(lambda: bool(edge.of("draining")))
            refused = await late.refused(port)
            assert (refused.status, refused.retry_after_s) == (503, 5)
            await caller.talk([tone(1)])
            await until(lambda: len(observer.frames) == 1)
            await caller.wait_for(sip.CallHungUp)
            ended = await observer.wait_for(call.CallEnded)
            assert (ended.reason, ended.ended_by) == ("edge_stopping", "edge")
            assert await stopping == 0
