"""Telephones and proxies that are not ours, from Debian's packages, as processes of a test."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.system import HOST

PACKAGES = {"sipp": "sip-tester"}
BARESIP_MODULES = (Path("/usr/lib/baresip/modules"), Path("/usr/local/lib/baresip/modules"))
START_S = 5.0


class Finished(NamedTuple):
    """How a program ended; ``said``: both of its outputs."""

    exit_code: int
    said: str


def program(name: str) -> str:
    """Path of a program, or the test is skipped and says so."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian package {PACKAGES.get(name, name)}): not tested against it")
    return path


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port that nobody uses at the moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def text_of(log: Path) -> str:
    """What a program has written so far."""
    return log.read_text(errors="replace")


async def run(*command: str, folder: Path, limit_s: float) -> Finished:
    """A program until it ends by itself; killed and failed after ``limit_s``."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await process.communicate()
    except TimeoutError:
        pytest.fail(f"{command[0]} did not end within {limit_s:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Finished(process.returncode, output.decode(errors="replace"))


@asynccontextmanager
async def running(*command: str, log: Path, ready: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """A program for the time of a test; ``ready``: what its log says once it listens."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent
        )
    try:
        deadline = asyncio.get_running_loop().time() + START_S
        while ready not in text_of(log):
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                pytest.fail(f"{command[0]} did not start: {text_of(log)[-1000:]}")
            await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 3)
            except TimeoutError:
                process.kill()
                await process.wait()


async def sipp(target: str, *options: str, folder: Path, limit_s: float) -> Finished:
    """sipp as the caller; its exit code is 0 only if no call failed."""
    command = [
        program("sipp"), target, "-i", HOST, "-p", str(free_port()), "-mi", HOST, "-mp", str(free_port() & ~1),
        "-nostdin", "-trace_err", "-error_file", str(folder / "sipp-errors.log"), *options,
    ]  # fmt: skip
    return await run(*command, folder=folder, limit_s=limit_s)


def sipp_errors(folder: Path) -> str:
    """The beginning of what :func:`sipp` complained of; a machine that is too busy for its calls answers 503."""
    path = folder / "sipp-errors.log"
    return path.read_text(errors="replace")[:2000] if path.exists() else ""


def baresip_home(folder: Path, says: Path) -> Path:
    """A configuration for one G.711 call: the WAV ``says`` for a microphone, what is heard goes to a file."""
    modules = next((each for each in BARESIP_MODULES if each.is_dir()), None)
    if modules is None:
        pytest.skip(f"baresip's modules are not at {BARESIP_MODULES[0]}: not tested against it")
    folder.mkdir()
    (folder / "config").write_text(
        f"module_path {modules}\nsip_listen {HOST}:0\nsnd_path {folder}\n"
        f"audio_player aufile,{folder}/played.wav\naudio_source aufile,{says}\naudio_alert aufile,none\n"
        "audio_srate 8000\naudio_channels 1\naudio_buffer 20-160\n"
        "module g711.so\nmodule aufile.so\nmodule sndfile.so\nmodule_app account.so\nmodule_app menu.so\n"
    )
    (folder / "accounts").write_text(f"<sip:baresip@{HOST}>;regint=0;audio_codecs=PCMU/8000/1\n")
    (folder / "contacts").write_text("")
    return folder


async def baresip_calls(target: str, home: Path, seconds: int) -> Finished:
    """baresip calls, and hangs up and ends ``seconds`` after its start."""
    command: Sequence[str] = (program("baresip"), "-f", str(home), "-e", f"/dial {target}", "-t", str(seconds))
    return await run(*command, folder=home, limit_s=seconds + 10)
