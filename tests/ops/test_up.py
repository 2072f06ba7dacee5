"""``callbus up`` as a process: its lines, its table, its ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from config.load import load
from ops.commands.up import greeting, parse_workers
from ops.supervisor import SystemPlan
from tests.e2e.system import FREE_PORTS, INSTANT
from tests.ops.conftest import Command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

COMMAND = [sys.executable, "-m", "ops.main", "up"]


class Up:
    """One ``callbus up`` with a terminal or a pipe as its standard output."""

    def __init__(self, folder: Path, *words: str, terminal: bool = False) -> None:
        environment = {**os.environ, **FREE_PORTS, **INSTANT, "COLUMNS": "120", "NO_COLOR": "1"}
        environment.pop("NATS_URL", None)
        self.errors = folder / "errors"
        reading, writing = pty.openpty() if terminal else os.pipe()
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "--data", str(folder / "data"), *words], stdout=writing, stderr=errors, env=environment
            )
        os.close(writing)
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    @property
    def out(self) -> str:
        return b"".join(self._chunks).decode()

    @property
    def said(self) -> str:
        return self.errors.read_text(encoding="utf-8")

    def until(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said + self.out
            time.sleep(0.02)

    def children(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [int(word) for word in found.split()]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(5)
        return code

    def _read(self, descriptor: int) -> None:
        while True:
            try:
                chunk = os.read(descriptor, 65_536)
            except OSError:  # the other end of a terminal is closed
                break
            if not chunk:
                break
            self._chunks.append(chunk)
        os.close(descriptor)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*words: str, terminal: bool = False) -> Up:
        started.append(Up(tmp_path, *words, terminal=terminal))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_json_lines_restart_inspection_and_end(up: Callable[..., Up], callbus: Command) -> None:
    system = up("--json")
    system.until(lambda: "ready: call sip:bank@127.0.0.1:" in system.said and system.out)
    (status,) = [json.loads(line) for line in system.out.splitlines()]
    names = [row["name"] for row in status["processes"]]
    assert names == ["nats-server", "edge-1", "asr-1", "llm-1", "tts-1"]
    assert status["sip_ports"] == [status["sip_port"]]
    assert json.loads(callbus("calls", "--json", "--nats", status["nats"]).stdout) == []

    second = up()
    assert second.process.wait(20) == 1
    assert f"another callbus runs in {system.errors.parent / 'data'} (process {system.process.pid})" in second.said

    os.kill(status["processes"][2]["pid"], signal.SIGKILL)
    system.until(lambda: '"restarts":1' in system.out.splitlines()[-1])
    system.until(lambda: system.out.splitlines()[-1].count('"ready"') == 5)
    assert system.end(signal.SIGINT) == 0
    assert system.said.splitlines()[-1] == "stopped"
    assert all(json.loads(line) for line in system.out.splitlines())


def test_on_a_terminal_a_table_and_sentences_apart(up: Callable[..., Up]) -> None:
    system = up("--workers", "edge=2,tts=2", terminal=True)
    system.until(lambda: re.search(r"tts-2 +│ ready", system.out))
    assert "edge-2" in system.out
    assert "Traceback" not in system.said
    children = system.children()
    assert len(children) == 7
    system.process.kill()
    system.process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/exe").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if Path(f"/proc/{pid}/exe").exists()], "killed, it left somebody behind"


def test_stopped_while_it_starts(up: Callable[..., Up]) -> None:
    system = up()
    system.until(lambda: "nats-server at" in system.said)
    assert system.end(signal.SIGTERM) == 0
    assert "stopped before everything was ready" in system.said
    assert system.out == ""


def test_workers() -> None:
    assert parse_workers("") == {}
    assert parse_workers(" asr = 2, tts=3 ,") == {"asr": 2, "tts": 3}
    for text, words in (("foo=1", "'foo' is no service"), ("asr", "write asr=N"), ("asr=0", "1 to 64"), ("=2", "''")):
        with pytest.raises(click.BadParameter, match=words):
            parse_workers(text)


def test_wrong_workers_end_it_before_anything_starts(callbus: Command) -> None:
    result = callbus("up", "--workers", "asr=many")
    assert (result.exit_code, "from 1 to 64" in result.stderr) == (2, True)


def test_the_greeting_names_the_pages_of_metrics(tmp_path: Path) -> None:
    plan = SystemPlan(settings=load({}), data=tmp_path, workers={"asr": 2})
    assert "metrics" not in greeting(plan, "nats://127.0.0.1:4222", (5060,))
    plan.settings = load({"CALLBUS_METRICS__PORT": "9464"})
    told = greeting(plan, "nats://127.0.0.1:4222", (5060,))
    assert "metrics at http://127.0.0.1:9464/metrics, one port a process up to 9468" in told
