"""The whole system with one key per process, under the rights of nats.conf: calls, takeovers, the command line."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.secured import SecuredFolder
from tests.e2e.nothing_lost import calls_in_order, until_answered
from tests.e2e.system import INSTANT, running_system
from tests.e2e.test_takeover import Attack
from tests.fakes.crowd import Crowd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CALLS = 3
ANSWER_S = 20.0
STAGES = ("asr", "llm", "tts")


def violations(data: Path) -> list[str]:
    """What any process, or the server, says of a right that was lacking."""
    found = []
    for file in (data / "logs").iterdir():
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [f"{file.name}: {line[:300]}" for line in lines if "violation" in line.lower()]
    return found


async def callbus(url: str, environment: dict[str, str], *words: str) -> str:
    """A command as somebody with that user's key runs it."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "ops.main", *words],
        env={**os.environ, **environment, "NATS_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "violation" not in done.stderr.lower()
    return done.stdout


@pytest.mark.parametrize("secure", ["mutual"])
async def test_calls_and_takeovers_of_every_stage(secure: str, tmp_path: Path) -> None:
    """No word is lost, and nobody asks for a right that he lacks."""
    workers = dict.fromkeys(STAGES, 2)
    async with running_system(tmp_path, workers=workers, environment=INSTANT, secure=secure) as supervisor:
        crowd = Crowd()
        try:
            await crowd.start(CALLS, supervisor.sip_port)
            calls = await calls_in_order(supervisor, crowd)
            await until_answered(supervisor, calls, 0, time.monotonic() + ANSWER_S)
            attack = Attack(supervisor, crowd, calls)
            for stage in STAGES:
                await attack.run(stage, signal.SIGKILL, 0.6)
                await attack.settle()
                await attack.verify()
            folder, last = SecuredFolder(tmp_path, "" if secure == "keys" else secure), calls[-1].call_id
            for user in ("ops", "inspect"):
                own = folder.environment(user)
                assert last[-8:] in await callbus(supervisor.nats_url, own, "calls")
                assert "agent" in await callbus(supervisor.nats_url, own, "show", last)
                await callbus(supervisor.nats_url, own, "play", last, "--wav", str(tmp_path / f"{user}.wav"))
            assert "nothing to do" in await callbus(supervisor.nats_url, folder.environment("ops"), "provision")
        finally:
            await crowd.stop()
        await asyncio.sleep(1.0)
    assert violations(tmp_path) == []
