"""Runs one service for people who write it: at a change of its source a new process takes over from the old one.

A worker of a stage: the new process is started beside the old one; once it is ready the old one is told to stop, and
hands its calls over. Where the new one can't start, the old one stays. An edge can not be doubled, because only one
process can have the SIP port: its code is tried by an import, then the old edge drains, then the new one starts.

The pages of the process (/metrics, /health, /ready) stay on one port, whichever process runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bus.server import ending_with_parent

WATCHED = frozenset({".py", ".toml", ".ini"})
SKIPPED = frozenset({"__pycache__", "node_modules"})
POLL_S = 0.4
READY_POLL_S = 0.05
READY_TIMEOUT_S = 60.0
PAUSE_AFTER_DEATH_S = 1.0
STOP_GRACE_S = 5.0
"""Beyond the time that a service has to drain."""

Snapshot = dict[str, int]


@dataclass(frozen=True, slots=True)
class DevelopmentPlan:
    """What to run.

    Attributes:
        service: its name, for people.
        command: the program and its arguments.
        trial: what proves that the code can be imported, run before an old process is stopped; empty: the new process
            is started beside the old one, and is the proof itself.
        folders: where a change of a file counts.
        skipped: names of folders below them where none does.
        host, port: where the pages are served; port 0: nowhere but on ports of their own.
        drain_s: how long a process may take to stop.
    """

    service: str
    command: Sequence[str]
    folders: Sequence[Path]
    skipped: frozenset[str] = frozenset()
    trial: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int = 0
    drain_s: float = 10.0
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)


class Process:
    """One run of the service. ``pages``: the port of its pages."""

    def __init__(self, process: asyncio.subprocess.Process, pages: int) -> None:
        self._process = process
        self.pages = pages

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def code(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.returncode

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL after ``timeout_s``."""
        if not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class Reloader:
    """Keeps the newest code that works running, until told to stop."""

    def __init__(self, plan: DevelopmentPlan) -> None:
        self._plan = plan
        self._current: Process | None = None
        self._front: asyncio.Server | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until ``stopping`` is set; the service has stopped then.

        Raises:
            OSError: the port of the pages is taken.
        """
        if self._plan.port:
            self._front = await asyncio.start_server(self._forward, self._plan.host, self._plan.port)
        seen = snapshot(self._plan.folders, self._plan.skipped)
        try:
            self._current = await self._start()
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), POLL_S)
                now = await asyncio.to_thread(snapshot, self._plan.folders, self._plan.skipped)
                changed = differences(seen, now)
                seen = now
                if changed and not stopping.is_set():
                    await self._reload(changed)
                elif not self._current.running:
                    await self._start_again(stopping)
        finally:
            if self._current is not None:
                await self._current.stop(self._plan.drain_s + STOP_GRACE_S)
            if self._front is not None:
                self._front.close()

    async def _reload(self, changed: list[str]) -> None:
        began = time.monotonic()
        what = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        self._say(f"{what} changed")
        assert self._current is not None
        if self._plan.trial:
            if not await self._tried():
                self._say("the new code can't be imported, see above; the old process goes on")
                return
            await self._current.stop(self._plan.drain_s + STOP_GRACE_S)
            self._current = await self._start()
            if not await self._ready(self._current):
                self._say("the new process is not ready, see above; waiting for the next change")
                return
        else:
            fresh = await self._start()
            if not await self._ready(fresh):
                await fresh.stop(STOP_GRACE_S)
                self._say("the new code can't start, see above; the old process goes on")
                return
            old, self._current = self._current, fresh
            self._say(f"new code serves after {time.monotonic() - began:.1f} s; the old process hands its calls over")
            await old.stop(self._plan.drain_s + STOP_GRACE_S)
            return
        self._say(f"new code serves after {time.monotonic() - began:.1f} s")

    async def _start_again(self, stopping: asyncio.Event) -> None:
        assert self._current is not None
        self._say(f"ended by itself (exit status {self._current.code}); starting it again")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), PAUSE_AFTER_DEATH_S)
        if not stopping.is_set():
            self._current = await self._start()

    async def _start(self) -> Process:
        pages = free_port()
        environment = dict(self._plan.environment)
        environment |= {"CALLBUS_METRICS__HOST": "127.0.0.1", "CALLBUS_METRICS__PORT": str(pages)}
        process = await asyncio.create_subprocess_exec(
            *self._plan.command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=ending_with_parent(),
        )
        return Process(process, pages)

    async def _tried(self) -> bool:
        process = await asyncio.create_subprocess_exec(*self._plan.trial, stdin=asyncio.subprocess.DEVNULL)
        try:
            return await asyncio.wait_for(process.wait(), READY_TIMEOUT_S) == 0
        except TimeoutError:
            # Code that does not come back from being imported is no code to change to.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return False

    async def _ready(self, process: Process) -> bool:
        """Whether its page /ready says so in time."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while process.running and time.monotonic() < deadline:
            if await says_ready(process.pages):
                return True
            await asyncio.sleep(READY_POLL_S)
        return False

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand one connection on to the process that serves now."""
        try:
            if self._current is None:
                return
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._current.pages)
            await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))
        except OSError:
            pass  # Nothing serves at this moment: whoever asks sees a connection that ends.
        finally:
            writer.close()

    def _say(self, text: str) -> None:
        self._plan.say(f"callbus dev {self._plan.service}: {text}")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def says_ready(port: int) -> bool:
    """Whether the process with its pages on ``port`` takes work."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET /ready HTTP/1.0\r\n\r\n")
            line = await asyncio.wait_for(reader.readline(), 2.0)
            return b" 200 " in line
        finally:
            writer.close()
    except (OSError, TimeoutError):
        return False


def snapshot(folders: Sequence[Path], skipped: frozenset[str] = frozenset()) -> Snapshot:
    """Path -> time of the last change, of every file that counts."""
    found: Snapshot = {}
    for folder in folders:
        for place, names, files in os.walk(folder):
            names[:] = [name for name in names if name not in SKIPPED | skipped and not name.startswith(".")]
            for file in files:
                if os.path.splitext(file)[1] in WATCHED and not file.startswith("."):
                    path = os.path.join(place, file)
                    with contextlib.suppress(OSError):
                        found[path] = os.stat(path).st_mtime_ns
    return found


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """Names of the files that are new, gone, or changed."""
    changed = [path for path in {*before, *after} if before.get(path) != after.get(path)]
    return sorted(os.path.basename(path) for path in changed)


def free_port() -> int:
    """A TCP port of this machine that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
