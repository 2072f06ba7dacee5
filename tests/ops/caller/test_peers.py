"""The caller against peers that are not ours: sipp and baresip, over UDP and TCP."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ops.caller import CallScript, Hold, Outcome, Pause, PlayFile, PressKeys, Resume, WaitForSilence, place_call
from services.audio import level
from services.audio.wav import read_wav, write_wav
from tests.ops.caller.callee import tone, tone_file

pytestmark = pytest.mark.e2e

BARESIP_MODULES = (Path("/usr/lib/baresip/modules"), Path("/usr/local/lib/baresip/modules"))


def program(name: str) -> str:
    """Path of a program, or the test is skipped and says so."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(
            f"{name} is not installed (Debian package {name.replace('sipp', 'sip-tester')}): not tested against it"
        )
    return path


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def text_of(log: Path) -> str:
    return log.read_text(errors="replace")


def dumps(folder: Path) -> list[bytes]:
    """What baresip's module sndfile has written of the audio that it decoded."""
    return [read_wav(path).pcm for path in folder.glob("dump-*dec.wav")]


@asynccontextmanager
async def peer(*command: str, log: Path, ready: str = "") -> AsyncIterator[None]:
    """A program that runs for the time of a test; ``ready``: what its log says once it listens."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent
        )
    try:
        for _ in range(100):
            await asyncio.sleep(0.05)
            if ready in text_of(log) and process.returncode is None:
                break
        else:
            pytest.fail(f"{command[0]} did not start: {text_of(log)[-500:]}")
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_answers_and_echoes(tmp_path: Path, transport: str):
    port, media = free_port(), free_port() & ~1
    command = [program("sipp"), "-sn", "uas", "-i", "127.0.0.1", "-p", str(port), "-mp", str(media), "-rtp_echo"]
    command += ["-nostdin", "-t", "t1" if transport == "tcp" else "u1"]
    script = CallScript((PlayFile(tone_file(tmp_path, 400)), WaitForSilence(silence_ms=200), Pause(0.1)))
    async with peer(*command, log=tmp_path / "sipp.log"):
        await asyncio.sleep(0.3)
        report = await place_call(f"sip:service@127.0.0.1:{port};transport={transport}", script)
    assert report.succeeded, report
    assert (report.transport, report.codec, report.sip_status) == (transport, "PCMU", 200)
    assert abs(report.received.frames - report.sent.packets) <= 5
    said, heard = report.recording.said, report.recording.heard
    begun, echoed = said.first_voiced(0), heard.first_voiced(0)
    assert 0 <= echoed - begun < 1600, "the echo comes within 200 ms"
    assert heard.pcm[2 * echoed : 2 * echoed + 6000] == said.pcm[2 * begun : 2 * begun + 6000]


@asynccontextmanager
async def baresip(folder: Path) -> AsyncIterator[int]:
    """baresip that answers at once and plays a tone of 300 ms, silence, then another; its SIP port."""
    path = program("baresip")
    modules = next((each for each in BARESIP_MODULES if each.is_dir()), None)
    if modules is None:
        pytest.skip(f"baresip's modules are not at {BARESIP_MODULES[0]}: not tested against it")
    port = free_port()
    write_wav(folder / "agent.wav", bytes(3200) + tone(300) + bytes(16 * 1500) + tone(300) + bytes(16 * 20000), 8000)
    (folder / "accounts").write_text(f"<sip:agent@127.0.0.1:{port}>;regint=0;answermode=auto\n")
    (folder / "contacts").write_text("")
    (folder / "config").write_text(
        f"module_path {modules}\nsip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\n"
        f"audio_source aufile,{folder}/agent.wav\naudio_player aufile,{folder}/play.wav\naudio_alert aufile,none\n"
        f"audio_channels 1\nsnd_path {folder}\nmodule g711.so\nmodule aufile.so\nmodule sndfile.so\n"
        "module_app account.so\nmodule_app menu.so\n"
    )
    async with peer(path, "-f", str(folder), log=folder / "baresip.log", ready="baresip is ready"):
        yield port


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_baresip_is_called_held_and_hears_us(tmp_path: Path, transport: str):
    script = CallScript(
        (
            WaitForSilence(silence_ms=200),
            PlayFile(tone_file(tmp_path, 400)),
            WaitForSilence(silence_ms=200),
            PressKeys("42"),
            Hold(),
            Pause(0.3),
            Resume(),
            Pause(0.3),
        )
    )
    async with baresip(tmp_path) as port:
        report = await place_call(f"sip:agent@127.0.0.1:{port};transport={transport}", script)
        await asyncio.sleep(0.3)
        log = text_of(tmp_path / "baresip.log")
    assert report.succeeded, report
    assert (report.outcome, report.ended_by, report.transport) == (Outcome.COMPLETED, "caller", transport)
    assert report.greeting_ms is not None
    assert report.steps[1].answer_latency_ms is not None, "the second tone follows our words"
    assert report.received.lost == 0
    assert "terminated" in log, "our BYE arrived"
    heard = dumps(tmp_path)
    assert heard, "baresip has recorded what it decoded"
    assert max(level.rms(pcm) for pcm in heard) > 500


async def test_the_command_itself_against_sipp(tmp_path: Path):
    port = free_port()
    command = [program("sipp"), "-sn", "uas", "-i", "127.0.0.1", "-p", str(port), "-mp", str(free_port() & ~1)]
    out = tmp_path / "out.wav"
    async with peer(*command, "-nostdin", log=tmp_path / "sipp.log"):
        await asyncio.sleep(0.3)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ops.main", "call", f"sip:service@127.0.0.1:{port}", "--no-listen",
            "--wav", str(tone_file(tmp_path, 300)), "--record", str(out), "--json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(20):
            stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    assert b'"outcome":"completed"' in stdout
    assert read_wav(out).channels == 2
