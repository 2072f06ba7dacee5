"""Services that a test starts and stops one by one, on a server of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from bus import codec
from bus.interface import Message
from ops.process import ChildProcess
from ops.supervisor import MODULES, Supervisor
from schemas.session import WorkerRecord
from schemas.subjects import heartbeat
from tests.e2e.system import FREE_PORTS, running_system
from tests.fakes.crowd import Crowd

READY_LIMIT_S = 40
STOP_S = 4.0


class Fleet:
    """The services of a system, each started and stopped by hand."""

    def __init__(self, supervisor: Supervisor, folder: Path, environment: Mapping[str, str]) -> None:
        self.supervisor = supervisor
        self.running: dict[str, ChildProcess] = {}
        self.records: dict[int, WorkerRecord] = {}
        self.crowds: list[Crowd] = []
        self._folder = folder
        self._all: list[ChildProcess] = []
        self._environment = {**os.environ, **FREE_PORTS, **environment, "NATS_URL": supervisor.nats_url}

    async def start(self, service: str) -> ChildProcess:
        """One more process of a service; the one that new work goes to from now on."""
        name = f"{service}-{len(self._all)}"
        child = ChildProcess(name, MODULES[service], self._environment, self._folder / f"{name}.log")
        self._all.append(child)
        await child.start()
        self.running[service] = child
        return child

    async def ready(self) -> None:
        """Until all of them have been heard."""
        async with asyncio.timeout(READY_LIMIT_S):
            while not all(child.pid in self.records for child in self.running.values()):
                assert all(child.pid for child in self.running.values()), "a process has ended"
                await asyncio.sleep(0.02)

    def sip_port(self) -> int:
        return int(self.records[self.running["edge"].pid].figures["sip_port"])

    def hear(self, message: Message) -> None:
        record = codec.decode(message.data, WorkerRecord)
        self.records[record.process_id] = record

    async def close(self) -> None:
        for crowd in self.crowds:
            await crowd.stop()
        await asyncio.gather(*(child.stop(STOP_S) for child in self._all))


@asynccontextmanager
async def fleet_of(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Fleet]:
    """A server with its streams, and nothing else yet."""
    nobody = dict.fromkeys(MODULES, 0)
    async with running_system(folder, workers=nobody) as supervisor:
        fleet = Fleet(supervisor, folder, environment)
        await supervisor.connection.subscribe(heartbeat("*", "*"), fleet.hear)
        try:
            yield fleet
        finally:
            await fleet.close()
