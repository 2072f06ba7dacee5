"""docs/inspect.md: every command of the ``nats`` command line in it works on a running call."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from ops.session import offered_calls
from tests.e2e.system import INSTANT, running_system
from tests.fakes.crowd import Crowd

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        shutil.which("nats") is None or shutil.which("jq") is None,
        reason="the nats command line (natscli) or jq is not on the PATH",
    ),
]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "inspect.md"
ENDLESS = ("nats sub 'call.", "nats kv watch", "nats stream view")
"""Commands that go on until Ctrl-C."""


def commands() -> list[str]:
    """The nats commands of the page, one each, continuation lines joined, comments off."""
    section = PAGE.read_text(encoding="utf-8").split("## With the nats command line")[1].split("## With any client")[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ").replace("&&\n", "&&")
    found = [line.split("  #")[0].strip() for line in text.splitlines() if line.startswith(("nats ", "mkdir "))]
    return [*found, *re.findall(r"`(nats stream purge [^`]+)`", section)]


async def shell(command: str, environment: dict[str, str], folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f"timeout 3 {command}" if command.startswith(ENDLESS) else command,
        env=environment, cwd=folder, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 20)
    except TimeoutError:
        process.kill()
        raise AssertionError(f"{command} did not end within 20 s") from None
    return process.returncode or 0, out.decode(errors="replace")


async def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    wanted = commands()
    assert len(wanted) >= 15
    async with running_system(tmp_path, environment=INSTANT) as supervisor:
        crowd = Crowd()
        await crowd.start(1, supervisor.sip_port)
        await asyncio.sleep(2.5)
        crowd.callers[0].speak(40)
        await asyncio.sleep(3.0)
        (call,) = [call async for call in offered_calls(supervisor.connection)]
        environment = {**os.environ, "NATS_URL": supervisor.nats_url, "HOME": str(tmp_path)}
        for command in wanted:
            if command.startswith("mkdir"):
                await crowd.stop()
                await asyncio.sleep(1.0)
            named = re.sub(r"\bCALL\b", call.call_id, command)
            code, out = await shell(named, environment, tmp_path)
            assert code in (0, 124), f"{command}: {out}"
            if command.startswith("nats sub --stream CALLS") and "rec.in" not in command:
                assert "turn.ended" in out
            if command.startswith("nats service ls"):
                assert all(stage in out for stage in ("edge", "asr", "llm", "tts"))
        recorded = (tmp_path / "caller.ulaw").read_bytes()
        sent = b"".join(crowd.callers[0].sent)
    assert len(recorded) > 160 * 100
    assert sent.startswith(recorded)
