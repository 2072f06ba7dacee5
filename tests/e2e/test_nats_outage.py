"""NATS goes away and comes back: the call goes on, the gap is named. Absent at start: said plainly, and waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bus.consume import read_call
from bus.server import DEFAULT_CONFIG, NatsServerProcess
from config.load import load
from ops.callview import view_of
from ops.commands.show import Shown, text_lines
from ops.main import cli
from ops.session import offered_calls
from ops.supervisor import Supervisor, SystemPlan
from schemas.llm import utterance_of
from schemas.playout import PlayoutFinished
from tests.e2e.nothing_lost import until_answered
from tests.e2e.system import FREE_PORTS, INSTANT
from tests.fakes.crowd import Crowd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ANSWER_S = 20.0
NOBODY = "nats://127.0.0.1:1"


async def test_a_call_survives_a_restart_of_nats(tmp_path: Path) -> None:
    server = NatsServerProcess(tmp_path / "store", config=DEFAULT_CONFIG)
    server.start()
    plan = SystemPlan(
        settings=load({}), data=tmp_path, nats_url=server.url, environment={**FREE_PORTS, **INSTANT}, drain_s=2.0
    )
    supervisor = Supervisor(plan)
    crowd = Crowd()
    try:
        await supervisor.start()
        await crowd.start(1, supervisor.sip_port)
        await asyncio.sleep(2.5)
        server.stop()
        await asyncio.sleep(1.0)
        server.start()
        await asyncio.sleep(1.5)
        crowd.callers[0].speak(40)
        connection = supervisor.connection
        (call,) = [call async for call in offered_calls(connection)]
        await until_answered(supervisor, [call], 1, time.monotonic() + ANSWER_S)
        events = await read_call(connection, call.call_id, call.tenant)
        finished = {event.utterance_id for event in events if isinstance(event, PlayoutFinished)}
        assert utterance_of(1) in finished, "the agent answers after the restart"
        page = "\n".join(text_lines(Shown(view_of(events), (), ())))
        assert "bus_disconnected at edge, gap" in page
        assert not any(child.restarts for child in supervisor.children), "no process died of it"
        assert len(crowd.callers[0].heard) > 0
    finally:
        await crowd.stop()
        await supervisor.stop()
        server.close()


@pytest.mark.parametrize("module", ["edge", "services.asr", "services.llm", "services.tts"])
def test_absent_at_start_is_said_and_waited_for(module: str, tmp_path: Path) -> None:
    environment = {**os.environ, **FREE_PORTS, **INSTANT, "NATS_URL": NOBODY, "CALLBUS_LOG__FORMAT": "json"}
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", module], env=environment, stderr=log, stdout=log)
    try:
        deadline = time.monotonic() + 20
        while "127.0.0.1:1" not in log_file.read_text():
            assert time.monotonic() < deadline, f"{module} said nothing of it: {log_file.read_text()!r}"
            assert process.poll() is None, log_file.read_text()
            time.sleep(0.05)
        time.sleep(0.5)
        assert process.poll() is None, "it keeps trying"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert "Traceback" not in log_file.read_text()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_up_says_that_the_named_server_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", NOBODY)
    result = CliRunner().invoke(cli, ["up", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output


def test_up_ends_where_a_service_can_not_start(tmp_path: Path) -> None:
    environment = {**os.environ, **FREE_PORTS, **INSTANT, "CALLBUS_TTS__ENGINE": "no.such:Engine"}
    environment.pop("NATS_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "ops.main", "up", "--data", str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "tts-1 can't start" in done.stderr
    assert "no.such:Engine" in done.stderr
