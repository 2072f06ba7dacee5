"""Two worlds with one behaviour: the bus in memory on a clock of its own, and a real nats-server on real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from bus.client import NatsConnection, connect
from bus.clock import ManualClock
from bus.interface import Connection
from bus.memory import MemoryConnection, MemoryServer
from bus.memory_stream import MemoryConsumer, MemoryStore
from bus.provision import apply, bucket_config, consumer_config
from bus.server import DEFAULT_CONFIG, NatsServerProcess
from bus.topology import BucketSpec, ConsumerSpec
from config.settings import NatsSection, StreamsSection


class World(Protocol):
    """A server with the topology on it, and what may happen to it."""

    async def connect(self, name: str) -> Any: ...

    async def stop(self) -> None:
        """The server is gone; every connection has noticed when this returns."""

    async def start(self) -> None:
        """The server is back, and every connection too."""

    async def interrupt(self, connection: Any) -> None:
        """One connection breaks, and has noticed; it comes back by itself or by :meth:`restore`."""

    async def restore(self, connection: Any) -> None:
        """It is back."""

    async def elapse(self, milliseconds: int) -> None: ...

    async def make_bucket(self, spec: BucketSpec) -> None: ...

    async def make_consumer(self, spec: ConsumerSpec) -> None: ...


class MemoryWorld:
    """Everything in this process; time passes only in :meth:`elapse`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.server = MemoryServer(clock=self.clock)

    async def connect(self, name: str) -> Connection:
        return self.server.connect(name)

    async def stop(self) -> None:
        self.server.stop()

    async def start(self) -> None:
        self.server.start()

    async def interrupt(self, connection: MemoryConnection) -> None:
        connection.interrupt()

    async def restore(self, connection: MemoryConnection) -> None:
        connection.restore()

    async def elapse(self, milliseconds: int) -> None:
        await self.clock.advance(milliseconds)

    async def make_bucket(self, spec: BucketSpec) -> None:
        self.server.stores[spec.name] = MemoryStore(spec, self.clock)

    async def make_consumer(self, spec: ConsumerSpec) -> None:
        stream = self.server.streams[spec.stream]
        self.server.consumers[spec.stream, spec.name] = MemoryConsumer(spec, stream, self.clock)


class NatsWorld:
    """A nats-server of its own."""

    def __init__(self, server: NatsServerProcess) -> None:
        self.server = server
        self.connections: list[NatsConnection] = []

    async def connect(self, name: str) -> NatsConnection:
        connection = await connect(name, NatsSection(url=self.server.url), wait=False)
        self.connections.append(connection)
        return connection

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await until(lambda: not any(connection.connected for connection in self.connections))

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)
        for connection in self.connections:
            if not connection._link.closed:
                await connection.ready(5000)

    async def interrupt(self, connection: NatsConnection) -> None:
        connection._wire.cut()
        await until(lambda: not connection.connected)

    async def restore(self, connection: NatsConnection) -> None:
        await connection.ready(5000)

    async def elapse(self, milliseconds: int) -> None:
        await asyncio.sleep(milliseconds / 1000)

    async def make_bucket(self, spec: BucketSpec) -> None:
        config = bucket_config(spec, (2, 15))
        await self.connections[0].api(f"STREAM.CREATE.{config['name']}", config)

    async def make_consumer(self, spec: ConsumerSpec) -> None:
        body = {"stream_name": spec.stream, "config": consumer_config(spec)}
        await self.connections[0].api(f"CONSUMER.CREATE.{spec.stream}.{spec.name}.{spec.filter_subject}", body)


@asynccontextmanager
async def open_world(kind: str) -> AsyncIterator[World]:
    """``memory`` or ``nats``."""
    if kind == "memory":
        yield MemoryWorld()
        return
    with NatsServerProcess(config=DEFAULT_CONFIG) as server:
        world = NatsWorld(server)
        await apply(await world.connect("provision"), StreamsSection())
        yield world
        for connection in world.connections:
            await connection.close()


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition; a test that waits in vain fails here."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)
