"""A real peer: sipp's own caller and callee against the user agent on real sockets (Debian package sip-tester)."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path

import pytest

from edge.sip.events import CallAcknowledged, CallAnswered, CallHungUp, Defect, Event, IncomingCall
from tests.fakes.sip_shell import HOST, SipShell

pytestmark = pytest.mark.e2e

CALLS = 100
CALLS_PER_SECOND = 20
DEADLINE_S = 60


sipp_installed = pytest.mark.skipif(
    not shutil.which("sipp"), reason="sipp is not installed: apt-get install sip-tester"
)


@sipp_installed
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


@sipp_installed
async def test_we_call_sipp(tmp_path: Path) -> None:
    def hang_up_when_answered(shell: SipShell, event: Event) -> None:
        if isinstance(event, CallAnswered):
            shell.user_agent.hang_up(event.call, shell.now())

    shell = SipShell(hang_up_when_answered)
    await shell.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "sipp",
        *["-sn", "uas", "-m", "20", "-i", HOST, "-p", str(port)],
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        for _ in range(20):
            # Before sipp listens the INVITE is lost, and sent again.
            shell.user_agent.invite(f"sip:service@{HOST}:{port}", shell.now(), sdp=shell.session(0).offer())
            shell.react([])
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
        await shell.stop()
    assert process.returncode == 0, output.decode(errors="replace")[-4000:]
    assert sum(isinstance(event, CallAnswered) for event in shell.events) == 20
    assert shell.user_agent.call_count == 0
