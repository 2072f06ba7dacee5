"""The life of a process, in this process: a memory server, virtual time, signals by hand."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from bus import health as health_module
from bus import logs, service
from bus.errors import BusError, BusTimeout, NotProvisioned
from bus.health import Health
from bus.memory import MemoryServer
from bus.service import ServiceContext, _Process, bind_all, ownership_drain_ms
from config.settings import NatsSection, OwnershipSection, Settings
from schemas.session import Stage
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit

SETTINGS = Settings(ownership=OwnershipSection(drain_ms=3000))
Main = Callable[[ServiceContext], Awaitable[None]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> MemoryServer:
    """The server that processes of the test connect to."""
    server = MemoryServer()

    async def connect(name: str, _: object) -> object:
        return server.connect(name)

    monkeypatch.setattr(service.client, "connect", connect)
    return server


def process(main: Main, drain_ms: int = ownership_drain_ms(SETTINGS)) -> _Process:
    return _Process("sample", SETTINGS, "sample-1", main, drain_ms)


async def until_told(context: ServiceContext) -> None:
    await context.ready()
    await context.stopping.wait()


def run(work: Callable[[], Awaitable[int]]) -> int:
    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler = lambda *_: None  # type: ignore[method-assign, assignment]
        return await work()

    return run_virtual(scenario())


def test_stopped_as_told(server: MemoryServer) -> None:
    contexts: list[ServiceContext] = []

    async def main(context: ServiceContext) -> None:
        contexts.append(context)
        await until_told(context)

    async def scenario() -> int:
        one = process(main)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        operator = server.connect("ops")
        ping = json.loads((await operator.request("$SRV.PING.sample", b"")).data)
        assert (ping["id"], ping["metadata"]["worker"], ping["metadata"]["ready"]) == ("sample-1", "sample-1", "true")
        health = json.loads((await operator.request("sample.sample-1.health", b"")).data)
        assert health == {
            "ok": True,
            "ready": True,
            "why": "",
            "service": "sample",
            "instance": "sample-1",
            "connected": True,
            "stopping": False,
            "log_level": logs.level(),
        }
        one._on_signal(signal.SIGTERM)
        return await running

    assert run(scenario) == service.EXIT_OK
    (context,) = contexts
    assert (context.name, context.worker, context.settings) == ("sample", "sample-1", SETTINGS)
    assert not server.connections[:-1], "the process has closed its connection"


def test_main_that_returns_ends_the_process(server: MemoryServer) -> None:
    async def main(context: ServiceContext) -> None:
        await context.ready()

    assert run(lambda: process(main).run()) == service.EXIT_OK


def test_main_that_raises_is_a_failure(server: MemoryServer, caplog: pytest.LogCaptureFixture) -> None:
    async def main(_: ServiceContext) -> None:
        raise RuntimeError("the model is broken")

    assert run(lambda: process(main).run()) == service.EXIT_FAILED


def test_main_that_cancels_itself_is_a_failure(server: MemoryServer) -> None:
    async def main(_: ServiceContext) -> None:
        raise asyncio.CancelledError

    assert run(lambda: process(main).run()) == service.EXIT_FAILED


@pytest.mark.parametrize(("drain_ms", "signals", "seconds"), [(3000, 1, 5.0), (60_000, 1, 62.0), (60_000, 2, 0.0)])
def test_main_that_does_not_stop_is_stopped(server: MemoryServer, drain_ms: int, signals: int, seconds: float) -> None:
    async def main(context: ServiceContext) -> None:
        await asyncio.Event().wait()

    async def scenario() -> int:
        one = process(main, drain_ms)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        begun = asyncio.get_running_loop().time()
        for _ in range(signals):
            one._on_signal(signal.SIGINT)
        code = await running
        assert asyncio.get_running_loop().time() - begun == pytest.approx(seconds, abs=0.5)
        return code

    assert run(scenario) == service.EXIT_OK


def test_topology_is_waited_for(server: MemoryServer) -> None:
    async def scenario() -> int:
        consumers, server.consumers = server.consumers, {}
        ready: list[float] = []

        async def main(context: ServiceContext) -> None:
            ready.append(asyncio.get_running_loop().time())

        running = asyncio.create_task(process(main).run())
        await asyncio.sleep(20)
        assert not ready
        server.consumers = consumers
        return await running

    assert run(scenario) == service.EXIT_OK


def test_stop_while_waiting(server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> int:
        server.consumers = {}
        one = process(until_told)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(20)
        one._on_signal(signal.SIGTERM)
        return await running

    assert run(scenario) == service.EXIT_OK

    async def connect_never(*_: object) -> Any:
        await asyncio.sleep(3600)

    monkeypatch.setattr(service.client, "connect", connect_never)

    async def without_server() -> int:
        one = process(until_told)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(20)
        one._on_signal(signal.SIGTERM)
        return await running

    assert run(without_server) == service.EXIT_OK


def test_bind_all_names_what_is_missing() -> None:
    async def scenario() -> None:
        server = MemoryServer()
        connection = server.connect("x")
        await bind_all(connection, SETTINGS)
        del server.stores["owners"]
        with pytest.raises(NotProvisioned, match=r"'owners' does not exist.*callbus provision"):
            await bind_all(connection, SETTINGS)

        async def silent(*_: object) -> Any:
            raise BusTimeout("no answer")

        connection.bucket = silent  # type: ignore[method-assign]
        with pytest.raises(BusTimeout):
            await bind_all(connection, SETTINGS)

    run_virtual(scenario())


def test_tts_waits_for_the_copy_that_it_reads() -> None:
    """Without it a takeover would wait for what was said until the call is over."""

    async def scenario() -> None:
        server = MemoryServer()
        connection = server.connect("tts-1")
        await bind_all(connection, SETTINGS, "tts")
        del server.streams["CALLS_TTS"]
        await bind_all(connection, SETTINGS, "llm")
        with pytest.raises(NotProvisioned, match=r"'CALLS_TTS' does not exist.*callbus provision"):
            await bind_all(connection, SETTINGS, "tts")

    run_virtual(scenario())


def test_unhandled_errors_of_the_loop_do_not_end_it(server: MemoryServer) -> None:
    async def main(context: ServiceContext) -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    assert run(lambda: process(main).run()) == service.EXIT_OK


def test_context_gives_a_heartbeat() -> None:
    async def scenario() -> None:
        context = ServiceContext("edge", SETTINGS, MemoryServer().connect("edge-1"), "edge-1")
        record = context.heartbeat(Stage.EDGE, 300, "sip").record()
        assert (record.stage, record.worker, record.slots, record.engine) == (Stage.EDGE, "edge-1", 300, "sip")

    run_virtual(scenario())


def test_bad_setting_is_named_and_ends_with_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLBUS_NATS__RECONNECT_WAIT_MS", "soon")
    with pytest.raises(SystemExit) as ended:
        service.run_service("sample", until_told)
    assert ended.value.code == service.EXIT_CONFIG
    assert "reconnect_wait_ms = 'soon'" in capsys.readouterr().err


def test_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.metadata, "version", lambda _: "1.2.3")
    assert service.version() == "1.2.3"

    def missing(name: str) -> str:
        raise service.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(service.metadata, "version", missing)
    assert service.version() == "0.0.0"


def test_the_pages_live_as_long_as_the_process(server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def serve(section: object, health: Health) -> Callable[[], None]:
        seen.append((section, health.ready()["why"]))
        return lambda: seen.append("ended")

    monkeypatch.setattr(service.pages, "serve", serve)

    async def main(context: ServiceContext) -> None:
        assert len(seen) == 1
        assert context.health.ready()["why"] == "sample is starting: it loads its engines or opens its ports"

    assert run(lambda: process(main).run()) == service.EXIT_OK
    assert seen == [(SETTINGS.metrics, "sample is starting"), "ended"]


def test_health_says_what_is_waited_for(server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Health] = []

    def serve(_: object, health: Health) -> Callable[[], None]:
        heard.append(health)
        return lambda: None

    monkeypatch.setattr(service.pages, "serve", serve)
    monkeypatch.setattr(health_module.time, "monotonic", lambda: asyncio.get_event_loop().time())
    connect = service.client.connect

    async def connect_late(name: str, section: Any) -> Any:
        await asyncio.sleep(5)
        return await connect(name, section)

    monkeypatch.setattr(service.client, "connect", connect_late)

    async def scenario() -> int:
        consumers, server.consumers = server.consumers, {}
        one = process(until_told)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        (health,) = heard
        said = [health.ready()["why"]]
        await asyncio.sleep(10)
        said.append(health.ready()["why"])
        server.consumers = consumers
        await asyncio.sleep(5)
        said.append(health.ready()["why"])
        one._on_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        code = await running
        said.append(health.ready()["why"])
        assert said[0] == ("sample waits for NATS at nats://127.0.0.1:4222: start nats-server there, or mend NATS_URL")
        assert "does not exist" in said[1] and "callbus provision" in said[1]
        assert said[2] == ""
        assert said[3].startswith("sample is draining")
        return code

    assert run(scenario) == service.EXIT_OK


def test_a_bus_that_can_not_be_used_is_said_and_ends_with_two(
    server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> Any:
        raise BusError("[nats] credentials_file = 'x' is no file")

    monkeypatch.setattr(service.client, "connect", refuse)
    with capture_logs() as lines:
        assert run(lambda: process(until_told).run()) == service.EXIT_CONFIG
    assert lines[-1]["message"] == "sample can't start: [nats] credentials_file = 'x' is no file"


def test_servers_are_named_without_secrets() -> None:
    url = "nats://user:secret@a:4222, tls://b:4223"
    assert service.servers(Settings(nats=NatsSection(url=url))) == "nats://a:4222, tls://b:4223"
