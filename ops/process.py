"""One child process: started with its log in a file, watched, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

_PR_SET_PDEATHSIG = 1
LOG_TAIL_LINES = 12


class State(StrEnum):
    """Where a child is in its life."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


def _die_with_parent() -> None:
    """In the child, before its program runs: the kernel ends it when the supervisor dies, whatever killed that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class ChildProcess:
    """A service process ``python -m <module>``.

    Attributes:
        name: for people: ``asr-1``.
        restarts: how often it was started again.
        ready_ms: start to ready, of the last start; None before.
    """

    def __init__(self, name: str, module: str, environment: Mapping[str, str], log_file: Path) -> None:
        self.name = name
        self.module = module
        self.log_file = log_file
        self.state = State.STOPPED
        self.restarts = 0
        self.ready_ms: float | None = None
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._started_at = 0.0

    @property
    def pid(self) -> int:
        """Process id; 0 where none runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    @property
    def return_code(self) -> int | None:
        """Exit status of the last run; negative: killed by that signal; None while it runs."""
        return self._process.returncode if self._process is not None else None

    async def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C at a terminal reaches only the supervisor."""
        self._started_at = time.monotonic()
        self.state = State.STARTING
        self.ready_ms = None
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def mark_ready(self) -> None:
        """A heartbeat of this process came in."""
        if self.state is not State.READY:
            self.state = State.READY
            self.ready_ms = (time.monotonic() - self._started_at) * 1000

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None, "start() comes first"
        return await self._process.wait()

    async def stop(self, timeout_s: float) -> bool:
        """SIGTERM, then SIGKILL after ``timeout_s``; True where it ended by itself."""
        process = self._process
        self.state = State.STOPPED
        if process is None or process.returncode is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            # A frozen process takes its SIGTERM only when it goes on.
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return False
        return True

    def log_tail(self) -> str:
        """The last lines of its log."""
        try:
            text = self.log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])

    def resident_mb(self) -> float | None:
        """Resident memory in MB; None where the system does not tell."""
        return resident_mb(self.pid) if self.pid else None


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process in MB (Linux); None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_048_576
