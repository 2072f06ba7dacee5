"""The life of a process: settings, logs, connection, topology, readiness, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from bus import logs
from bus.interface import Connection
from config.load import ConfigError, load
from config.settings import Settings

Main = Callable[["ServiceContext"], Awaitable[None]]


class ServiceContext:
    """What a process has: settings, connection, its own name, and the event that says stop."""

    def __init__(self, name: str, settings: Settings, connection: Connection, worker: str) -> None:
        self.name = name
        self.settings = settings
        self.connection = connection
        self.worker = worker
        self.stopping = asyncio.Event()
        self.log: Any = logs.get_logger(name)

    async def ready(self) -> None:
        """Say that the process takes work from now on."""
        self.log.info("ready", message=f"{self.name} is ready", pid=os.getpid())


def run_service(name: str, main: Main) -> None:
    """Run a process until it is told to stop; ends the interpreter with its exit code."""
    try:
        settings = load()
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    worker = f"{name.replace('.', '-')}-{os.urandom(4).hex()}"
    logs.configure(settings.log, name, worker)

    async def run() -> None:
        from bus.client import connect

        connection = await connect(worker, settings.nats)
        context = ServiceContext(name, settings, connection, worker)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, context.stopping.set)
        await main(context)
        await connection.close()

    uvloop.run(run())
