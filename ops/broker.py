"""The nats-server that ``callbus up`` and ``callbus demo`` run, and the folder that only one of them may have."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from bus.errors import BusUnavailable
from bus.server import ANY_PORT, DEFAULT_CONFIG, NatsServerProcess
from ops.process import StartError, State, resident_mb

POLL_S = 0.2
MAX_FAILED_STARTS = 3
LOCAL_HOSTS = ("127.0.0.1", "localhost")


class FolderLock:
    """Holds a data folder: two nats-servers on one store would spoil it. The system lets go when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "lock"
        self._held: IO[str] | None = None

    def take(self) -> None:
        """Make the folder where it is missing, and hold it.

        Raises:
            StartError: another process holds it, or it can't be written.
        """
        folder = self._file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = self._file.open("a+", encoding="ascii")
        except OSError as error:
            raise StartError(f"folder {folder} can't be used: {error.strerror}; give another: --data DIR") from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.seek(0)
            holder = held.read().strip() or "unknown"
            held.close()
            raise StartError(
                f"another callbus runs in {folder} (process {holder}); stop it, or give another folder: --data DIR"
            ) from None
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        self._held = held

    def release(self) -> None:
        """Let go. Harmless where it is not held."""
        if self._held is not None:
            self._held.truncate(0)
            self._held.close()
            self._held = None


class OwnServer:
    """One nats-server with its store in ``data``, started again when it ends.

    Attributes:
        restarts: how often it was started again.
        ready_ms: start to answer, of the last start.
    """

    def __init__(self, data: Path, port: int = ANY_PORT, *, config: Path | None = None) -> None:
        """``port``: taken where it is free, else any. ``config``: None: for this machine, without keys."""
        self.state = State.STOPPED
        self.restarts = 0
        self.ready_ms: float | None = None
        self._data = data
        self._config = config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
        self._server = self._made(port if port != ANY_PORT and _is_free(port) else ANY_PORT)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def pid(self) -> int:
        """Process id; 0 while it does not run."""
        return self._server.pid

    def start(self) -> None:
        """Start and wait until it answers. Blocks, because only what the main thread starts ends with it.

        Raises:
            StartError: it can't start; the text holds its last words.
        """
        self.state = State.STARTING
        began = time.monotonic()
        try:
            self._server.start()
        except BusUnavailable as error:
            if self._server.port == ANY_PORT or _is_free(self._server.port):
                self.state = State.FAILED
                raise StartError(str(error)) from error
            # Somebody else was faster on the wanted port.
            self._server.close()
            self._server = self._made(ANY_PORT)
            self.start()
            return
        self.state = State.READY
        self.ready_ms = (time.monotonic() - began) * 1000

    async def keep_running(self, say: Callable[[str], None]) -> None:
        """Start it again, on its port, whenever it ends; runs until cancelled.

        Raises:
            StartError: it can't be started again.
        """
        failures = 0
        while True:
            await asyncio.sleep(POLL_S)
            if self._server.running:
                continue
            self.state = State.RESTARTING
            say("nats-server ended; starting it again")
            try:
                self._server.start()
            except BusUnavailable as error:
                failures += 1
                if failures >= MAX_FAILED_STARTS:
                    self.state = State.FAILED
                    raise StartError(f"nats-server can't be started again: {error}") from error
                continue
            failures = 0
            self.restarts += 1
            self.state = State.READY

    async def close(self) -> None:
        """Stop it in order."""
        await asyncio.to_thread(self._server.close)
        self.state = State.STOPPED

    def resident_mb(self) -> float | None:
        """Resident memory in MB; None where it does not run or the system does not tell."""
        return resident_mb(self.pid) if self.pid else None

    def _made(self, port: int) -> NatsServerProcess:
        return NatsServerProcess(
            self._data / "jetstream",
            config=self._config,
            port=port,
            log_file=self._data / "logs" / "nats-server.log",
        )


def port_of(url: str) -> int:
    """The port of a NATS URL that names this machine; ``ANY_PORT`` for any other."""
    try:
        parts = urlsplit(url if "//" in url else f"nats://{url}")
        return (parts.port or 4222) if parts.hostname in LOCAL_HOSTS else ANY_PORT
    except ValueError:
        return ANY_PORT


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
