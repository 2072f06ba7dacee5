"""The system in containers, for end-to-end tests: built, started on ports that are free, and always removed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWITCH = "CALLBUS_TEST_DOCKER"
GIVE_UP_S = 180
RTP_PORTS = 40
PROCESSES = ("edge", "asr", "llm", "tts")
SERVERS = (*PROCESSES, "nats", "prometheus")


def why_not() -> str:
    """Why no container can be started here; empty: one can."""
    if os.environ.get(SWITCH) != "1":
        return f"{SWITCH}=1 is not set: `make compose-test` builds the images and runs these"
    if shutil.which("docker") is None:
        return "NO CONTAINER ENGINE: there is no docker command; nothing of compose was tried with real containers"
    found = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if found.returncode:
        return f"NO CONTAINER ENGINE answers; nothing of compose was tried with real containers: {found.stderr[-200:]}"
    found = subprocess.run([str(ROOT / "ops/docker/base-images")], capture_output=True, text=True, check=False)
    if found.returncode:
        return f"BASE IMAGES MISSING; nothing of compose was tried with real containers: {found.stdout}{found.stderr}"
    return ""


def busy() -> float:
    """How much longer things may take here than on a quiet machine: what wants to run over the processors there are;
    1 where there is one for each."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def free_port() -> int:
    """A port that neither UDP nor TCP has in use."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            with contextlib.suppress(OSError):
                datagram.bind(("0.0.0.0", port))
                return port


def free_range(count: int) -> int:
    """The first of ``count`` UDP ports in a row that are free, an even one."""
    for first in range(21_000, 31_000, count):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket(type=socket.SOCK_DGRAM)).bind(("0.0.0.0", port))
            return first
    raise RuntimeError("no range of UDP ports is free")


@dataclass
class Stack:
    """One project of Compose.

    Attributes:
        folder: where the compose files lie.
        files: which of them.
        build_s, up_s: how long these took.
    """

    folder: Path = ROOT
    files: Sequence[str] = ("docker-compose.yml",)
    project: str = field(default_factory=lambda: f"callbus-test-{os.urandom(3).hex()}")
    extra: dict[str, str] = field(default_factory=dict)
    build_s: float = 0.0
    up_s: float = 0.0

    def __post_init__(self) -> None:
        self.sip_port, self.prometheus_port = free_port(), free_port()
        self.rtp_first = free_range(RTP_PORTS)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
        self.environment = {
            **kept,
            "CALLBUS_TAG": "test",
            "CALLBUS_EDGE__SIP_PORT": str(self.sip_port),
            "CALLBUS_EDGE__RTP_PORT_MIN": str(self.rtp_first),
            "CALLBUS_EDGE__RTP_PORT_MAX": str(self.rtp_first + RTP_PORTS - 1),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            **self.extra,
        }

    def compose(self, *words: str, check: bool = True, timeout_s: float = 600) -> str:
        """A command of Compose; what it printed."""
        named = [part for file in self.files for part in ("-f", file)]
        return self._run(
            "docker", "compose", "--env-file", "/dev/null", "-p", self.project, *named, *words,
            check=check, timeout_s=timeout_s,
        )  # fmt: skip

    def docker(self, *words: str, check: bool = True) -> str:
        """A command of the engine; what it printed."""
        return self._run("docker", *words, check=check, timeout_s=120)

    def build(self) -> None:
        began = time.monotonic()
        self.compose("build", "--quiet")
        self.build_s = time.monotonic() - began

    def up(self, *words: str) -> float:
        """Start what does not run and wait until all is healthy; seconds. Not with --wait-timeout: where that time is
        over, Compose 2.26 at times says that all is well."""
        began = time.monotonic()
        try:
            self.compose("up", "-d", "--wait", *words, timeout_s=GIVE_UP_S)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            raise AssertionError(f"{error}\n{self.compose('ps', '-a')}\n{self.logs()[-6000:]}") from None
        return time.monotonic() - began

    def down(self, *words: str) -> None:
        self.compose("--profile", "*", "down", "--timeout", "20", *words, timeout_s=180)

    def logs(self, *services: str) -> str:
        return self.compose("logs", "--no-color", *services)

    def containers(self, *, ended: bool = False) -> dict[str, dict[str, Any]]:
        """Name -> what the engine says of it."""
        flags = ["-a"] if ended else []
        ids = self.docker("ps", "-q", *flags, "--filter", f"label=com.docker.compose.project={self.project}").split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids)) if ids else []
        return {each["Name"].strip("/"): each for each in found}

    def left(self) -> str:
        """Containers, volumes and networks of the project that are still there."""
        mine = f"label=com.docker.compose.project={self.project}"
        return "".join(
            [
                self.docker("ps", "-aq", "--filter", mine),
                self.docker("volume", "ls", "-q", "--filter", mine),
                self.docker("network", "ls", "-q", "--filter", mine),
            ]
        )

    def _run(self, *words: str, check: bool, timeout_s: float) -> str:
        found = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )
        if check:
            assert found.returncode == 0, f"{' '.join(words)}: {found.stdout[-2000:]}{found.stderr[-3000:]}"
        return found.stdout + (found.stderr if "logs" in words else "")


@contextlib.contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Built and healthy; removed with all that it made, whatever happened."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    try:
        stack.build()
        stack.up_s = stack.up()
        yield stack
    finally:
        stack.down("-v")
