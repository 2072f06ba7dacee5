"""Traps of nats-py that would lose a connection for good, or lose it late. One test per trap, named after it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from bus.client import NatsConnection, connect
from bus.errors import BusError, BusTimeout, BusUnavailable
from bus.interface import Message
from bus.link import Link
from bus.server import NatsServerProcess
from config.settings import NatsSection
from tests.bus.behaviours.worlds import until

pytestmark = pytest.mark.bus

Servers = Callable[..., NatsServerProcess]


async def open_connection(*servers: NatsServerProcess, name: str = "test", **settings: object) -> NatsConnection:
    url = ",".join(server.url for server in servers)
    return await connect(name, NatsSection(url=url, **settings), wait=False)  # type: ignore[arg-type]


async def still_works(connection: NatsConnection) -> None:
    got: list[Message] = []
    subscription = await connection.subscribe("still.works", got.append)
    connection.publish("still.works", b"")
    await connection.flush()
    assert len(got) == 1
    await subscription.close()


async def test_callbacks_that_raise_kill_neither_read_loop_nor_reconnect(
    fresh_nats: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream: an error_cb that raises ends the read loop, a disconnected_cb that raises ends reconnecting."""
    server = fresh_nats()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the log's disk is full")

    for name in ("_on_error", "_on_lost", "_on_back"):
        whole = getattr(Link, name)

        def raising(*arguments: object, whole: Callable[..., None] = whole) -> None:
            whole(*arguments)
            raise RuntimeError("callback")

        raising.__name__ = name
        monkeypatch.setattr(Link, name, raising)
    connection = await open_connection(server)
    for _ in range(2):
        server.stop()
        await until(lambda: not connection.connected)
        server.start()
        await connection.ready(5000)
        await still_works(connection)
    assert connection._link.listener_errors >= 4
    await connection.close()


async def test_no_traceback_per_attempt_and_one_line_for_each_five_seconds(
    fresh_nats: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Upstream: the default error_cb logs a traceback for each attempt to reconnect."""
    server = fresh_nats()
    connection = await open_connection(server, reconnect_wait_ms=5)
    server.stop()
    await until(lambda: connection._link._failures > 50)
    output = "".join(capsys.readouterr())
    assert "Traceback" not in output
    assert output.count("does not answer") == 1
    assert f"NATS at {server.url} does not answer" in output
    assert output.count("bus_disconnected") == 1
    connection._link._said_at -= 6
    failures = connection._link._failures
    await until(lambda: connection._link._failures > failures + 2)
    assert "".join(capsys.readouterr()).count("does not answer") == 1  # and the next after five seconds
    await connection.close()


async def test_reconnecting_never_gives_up(fresh_nats: Servers) -> None:
    """Upstream: closed for ever after 60 attempts."""
    server = fresh_nats()
    connection = await open_connection(server, reconnect_wait_ms=2)
    server.stop()
    await until(lambda: connection._link._failures > 80, 10)
    server.start()
    await connection.ready(5000)
    await still_works(connection)
    await connection.close()


async def test_an_error_of_the_server_does_not_close_for_good(fresh_nats: Servers) -> None:
    """Upstream: any -ERR but two closes the client, unlimited reconnects or not."""
    connection = await open_connection(fresh_nats())
    told: list[str] = []
    connection.on_disconnected(lambda: told.append("lost"))
    connection.on_reconnected(lambda: told.append("back"))
    connection._wire.send(b"NONSENSE\r\n")
    await until(lambda: told == ["lost", "back"])
    await still_works(connection)
    await connection.close()


async def test_a_forbidden_subject_leaves_the_connection_alone(
    fresh_nats: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(
        'authorization { users: [{user: u, password: p, permissions: {publish: {deny: ["secret.>"]}}}] }\n'
        "no_auth_user: u\n"
    )
    connection = await open_connection(fresh_nats(config=config))
    told: list[str] = []
    connection.on_disconnected(lambda: told.append("lost"))
    connection.publish("secret.thing", b"")
    await connection.flush()
    await still_works(connection)
    assert told == []
    assert "ermissions violation" in "".join(capsys.readouterr()).lower()
    await connection.close()


@pytest.mark.parametrize("traffic", [False, True])
async def test_a_frozen_server_is_noticed_within_four_seconds_and_left(fresh_nats: Servers, traffic: bool) -> None:
    """Upstream with outbound traffic: no callback and no failover in 25 s, close() hangs (nats.py issue 671)."""
    frozen, other = fresh_nats(), fresh_nats()
    connection = await open_connection(frozen)
    connection._wire._server_pool.extend(_pool_entry(other))
    lost_after: list[float] = []
    connection.on_disconnected(lambda: lost_after.append(time.monotonic() - began))
    frozen.freeze()
    began = time.monotonic()
    while not lost_after and time.monotonic() - began < 8:
        if traffic:
            for _ in range(10):
                connection.publish_many([("live.x", b"x" * 1600)] * 20)
        await asyncio.sleep(0.1)
    assert lost_after
    assert lost_after[0] < 4.5
    await connection.ready(5000)
    assert connection._wire.connected_url.port == other.port
    await still_works(connection)
    await connection.close()


async def test_a_frozen_server_fills_no_memory(fresh_nats: Servers) -> None:
    server = fresh_nats()
    connection = await open_connection(server)
    server.freeze()
    for _ in range(400):
        connection.publish_many([("live.x", b"x" * 60_000)])
        connection.publish("live.x", b"x" * 60_000)
    assert connection.drops.total > 300
    assert connection._wire.unsent_bytes < 10_000_000
    began = time.monotonic()
    await connection.close(drain_ms=200)
    assert time.monotonic() - began < 2


async def test_the_kernels_timeout_is_set_again_after_each_reconnect(fresh_nats: Servers) -> None:
    server = fresh_nats()
    connection = await open_connection(server)
    for _ in range(2):
        raw = connection._wire._transport._io_writer.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        server.stop()
        await until(lambda: not connection.connected)
        server.start()
        await connection.ready(5000)
    await connection.close()


async def test_a_late_pong_does_not_end_the_read_loop(fresh_nats: Servers) -> None:
    """Upstream: a flush that timed out leaves a cancelled future, and the late PONG's set_result raises in the loop."""
    server = fresh_nats()
    connection = await open_connection(server)
    told: list[str] = []
    connection.on_disconnected(lambda: told.append("lost"))
    server.freeze()
    with pytest.raises(BusTimeout, match="did not answer a ping within 100 ms"):
        await connection.flush(100)
    server.thaw()
    await still_works(connection)
    assert told == []
    await connection.close()


async def test_flush_covers_what_was_published_just_before(fresh_nats: Servers) -> None:
    """Upstream: the PING of flush() is written past the messages that wait for the flusher."""
    server = fresh_nats()
    sender, receiver = await open_connection(server), await open_connection(server)
    got: list[bytes] = []
    await receiver.subscribe("live.x", lambda message: got.append(message.data))
    await receiver.flush()
    for number in range(1, 200):
        sender.publish("live.x", b"")
        await sender.flush()
        await receiver.flush()
        assert len(got) == number
    await sender.close()
    await receiver.close()


@pytest.mark.parametrize("task", ["_reading_task", "_reconnection_task"])
async def test_a_dead_task_of_nats_py_is_noticed(fresh_nats: Servers, task: str) -> None:
    """Upstream: after an unforeseen exception nothing is received, or nothing reconnects, and nobody says so."""
    server = fresh_nats()
    connection = await open_connection(server)
    if task == "_reading_task":
        connection._wire._reading_task.cancel()
    else:
        server.stop()
        await until(lambda: not connection.connected)
        connection._wire._reconnection_task.cancel()
        server.start()
    await asyncio.sleep(0.05)
    assert connection._wire.stuck
    await until(lambda: not connection._wire.stuck, 5)
    await connection.ready(5000)
    await still_works(connection)
    await connection.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_close_while_reconnecting_with_unsent_data_raises_nothing(
    fresh_nats: Servers, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Upstream under uvloop: RuntimeError, the handler is closed."""
    server = fresh_nats()

    async def main() -> float:
        connection = await open_connection(server)
        server.freeze()
        connection.publish_many([("live.x", b"x" * 60_000)] * 100)
        server.kill()
        for _ in range(100):
            connection.publish("live.x", b"x" * 1000)
        await until(lambda: not connection.connected)
        connection._wire._pending.append(b"PUB live.x  0\r\n\r\n")
        connection._wire._pending_data_size += 17
        began = time.monotonic()
        await connection.close()
        assert len(asyncio.all_tasks()) == 1
        return time.monotonic() - began

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(main()) < 2


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_close_leaves_no_task_and_no_socket(fresh_nats: Servers, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    server = fresh_nats()

    async def main() -> None:
        open_files: list[int] = []
        for _ in range(3):  # the first leaves what the loop itself keeps open
            connection = await open_connection(server)
            await connection.subscribe("a.>", lambda _: None)
            await connection.close()
            await asyncio.sleep(0.05)
            open_files.append(len(os.listdir("/proc/self/fd")))
            assert len(asyncio.all_tasks()) == 1
        assert open_files[1] == open_files[2]

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def test_wait_says_that_nats_does_not_answer_and_goes_on_when_it_does(
    fresh_nats: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    server = fresh_nats()
    server.stop()
    connecting = asyncio.ensure_future(connect("test", NatsSection(url=server.url, reconnect_wait_ms=10)))
    output = ""

    def said() -> bool:
        nonlocal output
        output += "".join(capsys.readouterr())
        return "does not answer" in output

    await until(said)
    await asyncio.sleep(0.2)
    assert not connecting.done()
    said()
    assert output.count("does not answer") == 1
    assert server.url in output
    server.start()
    connection = await asyncio.wait_for(connecting, 10)
    await still_works(connection)
    await connection.close()


async def test_without_wait_an_absent_server_is_an_error_at_once(fresh_nats: Servers) -> None:
    server = fresh_nats()
    server.stop()
    began = time.monotonic()
    with pytest.raises(BusUnavailable, match="does not answer; is nats-server running there"):
        await connect("test", NatsSection(url=server.url), wait=False)
    assert time.monotonic() - began < 2
    assert len(asyncio.all_tasks()) == 1


async def test_waiting_for_a_server_can_be_cancelled(fresh_nats: Servers) -> None:
    server = fresh_nats()
    server.stop()
    connecting = asyncio.ensure_future(connect("test", NatsSection(url=server.url)))
    await asyncio.sleep(0.1)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    assert connecting.cancelled()
    assert len(asyncio.all_tasks()) == 1


async def test_secrets_of_a_url_are_not_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BusUnavailable) as refused:
        await connect("test", NatsSection(url="nats://user:hush@127.0.0.1:1"), wait=False)
    assert "hush" not in str(refused.value) + "".join(capsys.readouterr())


async def test_a_credentials_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"credentials_file = .* is no file"):
        await connect("test", NatsSection(url="nats://127.0.0.1:1", credentials_file=str(tmp_path / "no.creds")))


async def test_credentials_need_a_package_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "user.creds"
    file.write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BusError, match=r"callbus\[nkeys\]"):
        await connect("test", NatsSection(url="nats://127.0.0.1:1", credentials_file=str(file)))


async def test_each_service_has_an_inbox_prefix_of_its_own(fresh_nats: Servers) -> None:
    """Upstream: one _INBOX for all, so that every service can read every reply."""
    connection = await open_connection(fresh_nats(), name="asr-1f2e")
    asked: list[Message] = []
    await connection.subscribe("ask.me", asked.append)
    with pytest.raises(BusTimeout):
        await connection.request("ask.me", b"", timeout_ms=50)
    assert asked[0].reply.startswith("_INBOX_asr.")
    assert connection.inbox_prefix == "_INBOX_asr"
    await connection.close()


def _pool_entry(server: NatsServerProcess) -> list[object]:
    from urllib.parse import urlparse

    from nats.aio.client import Srv

    return [Srv(urlparse(server.url))]
