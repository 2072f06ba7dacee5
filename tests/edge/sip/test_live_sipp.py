"""A real peer: sipp's own caller against the user agent on real sockets (Debian package sip-tester)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from edge.sip.events import CallAcknowledged, CallHungUp, Defect, IncomingCall
from tests.fakes.sip_shell import HOST, SipShell

pytestmark = pytest.mark.e2e

CALLS = 100
CALLS_PER_SECOND = 20
DEADLINE_S = 60


@pytest.mark.skipif(not shutil.which("sipp"), reason="sipp is not installed: apt-get install sip-tester")
@pytest.mark.parametrize("mode", ["u1", "t1"], ids=["udp", "tcp"])
async def test_a_hundred_calls(mode: str, tmp_path: Path) -> None:
    shell = SipShell()
    await shell.start()
    arguments = ["-sn", "uac", "-r", str(CALLS_PER_SECOND), "-m", str(CALLS), "-d", "200", "-t", mode, "-i", HOST]
    process = await asyncio.create_subprocess_exec(
        "sipp",
        *arguments,
        f"{HOST}:{shell.port}",
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
        await shell.stop()
    assert process.returncode == 0, output.decode(errors="replace")[-4000:]
    for kind in (IncomingCall, CallAcknowledged, CallHungUp):
        assert sum(isinstance(event, kind) for event in shell.events) == CALLS
    assert not [event for event in shell.events if isinstance(event, Defect)]
    assert shell.user_agent.call_count == 0
