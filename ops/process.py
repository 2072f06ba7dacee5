"""One child process: started with its log in a file, watched, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from bus.server import ending_with_parent

LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 32_768


class StartError(RuntimeError):
    """A process can't start; the text says which one and holds its last log lines."""


class State(StrEnum):
    """Where a child is in its life. ``SILENT``: it runs, but its heartbeat is not heard."""

    STARTING = "starting"
    READY = "ready"
    SILENT = "silent"
    RESTARTING = "restarting"
    DRAINING = "draining"
    FAILED = "failed"
    STOPPED = "stopped"


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
        self._log_from = 0

    @property
    def pid(self) -> int:
        """Process id; 0 where none runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    @property
    def return_code(self) -> int | None:
        """Exit status of the last run; negative: killed by that signal; None while it runs."""
        return self._process.returncode if self._process is not None else None

    async def start(self, more: Mapping[str, str] = {}) -> None:
        """Start it in a session of its own, so that Ctrl-C at a terminal reaches only the supervisor. ``more``: beside
        its environment, for this run."""
        self._started_at = time.monotonic()
        self.state = State.STARTING
        self.ready_ms = None
        with self.log_file.open("ab") as log:
            self._log_from = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                env={**self._environment, **more},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=ending_with_parent(),
            )

    def mark_ready(self) -> None:
        """A heartbeat of this process came in."""
        if self.state in (State.STARTING, State.RESTARTING):
            self.state = State.READY
            self.ready_ms = (time.monotonic() - self._started_at) * 1000

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None, "start() comes first"
        return await self._process.wait()

    async def stop(self, timeout_s: float) -> bool:
        """SIGTERM, then SIGKILL after ``timeout_s``; True where it ended by itself."""
        process = self._process
        if process is None or process.returncode is not None:
            self.state = State.STOPPED
            return True
        self.state = State.DRAINING
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
        finally:
            self.state = State.STOPPED
        return True

    def tell_to_stop(self) -> None:
        """SIGTERM, without waiting; a second one ends a service at once."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def log_tail(self) -> str:
        """The last lines that its last run wrote into its log, as sentences."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(self._log_from, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(f"  {readable(line)}" for line in text.splitlines()[-LOG_TAIL_LINES:])

    def resident_mb(self) -> float | None:
        """Resident memory in MB; None where the system does not tell."""
        return resident_mb(self.pid) if self.pid else None


def readable(line: str) -> str:
    """A JSON log line as its level and sentence; any other line as it is."""
    try:
        entry = json.loads(line)
        return f"{entry['level']}: {entry['message']}"
    except (ValueError, TypeError, KeyError):
        return line


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process in MB (Linux); None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_048_576
