"""An edge in the test's own process: real sockets, the bus in memory or on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from bus import codec
from bus.codec import UnknownEventError
from bus.fencing import MESSAGE_ID
from bus.heartbeat import WorkerDirectory
from bus.interface import Connection, Message
from config.settings import EdgeSection
from edge.admission import Admission, parse_stages
from edge.net.ports import PortPool
from edge.switchboard import Switchboard
from schemas.audio import AudioFrame, unpack_audio
from schemas.base import Event

E = TypeVar("E", bound=Event)

LOCAL = EdgeSection(host="127.0.0.1", sip_port=0, rtp_port_min=0, port_drain_ms=0, required_stages="")


def settings(**changes: Any) -> EdgeSection:
    """Settings of a test's edge: loopback, free ports, no stage required."""
    return msgspec.structs.replace(LOCAL, **changes)


class Observer:
    """Hears everything on the bus, as a client of its own."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self.frames: list[AudioFrame] = []
        self.recorded: dict[str, list[AudioFrame]] = {"rec.in": [], "rec.out": []}
        self.dead: list[Message] = []
        self._ids: set[str] = set()

    async def start(self) -> None:
        """Subscribe."""
        await self.connection.subscribe("call.>", self._on_event)
        await self.connection.subscribe("rt.*.*.audio.in", self._on_frame)
        await self.connection.subscribe("dead_letter.>", self.dead.append)
        await self.connection.flush()

    def _on_event(self, message: Message) -> None:
        identity = message.headers.get(MESSAGE_ID, "")
        if identity in self._ids:
            return
        self._ids.add(identity)
        name = message.subject.split(".", 3)[3]
        if name in self.recorded:
            self.recorded[name].append(unpack_audio(message.data))
            return
        try:
            self.events.append(codec.decode_event(message.subject, message.data))
        except UnknownEventError:
            return

    def _on_frame(self, message: Message) -> None:
        self.frames.append(unpack_audio(message.data))

    def of(self, event_type: type[E]) -> list[E]:
        """Events of one type so far."""
        return [event for event in self.events if isinstance(event, event_type)]

    async def wait_for(self, event_type: type[E], count: int = 1, timeout_s: float = 10.0) -> E:
        """The ``count``-th event of a type."""
        await until(lambda: len(self.of(event_type)) >= count, timeout_s, event_type.__name__)
        return self.of(event_type)[count - 1]

    @property
    def call_id(self) -> str:
        """Of the last call that was offered."""
        return next(event.call_id for event in reversed(self.events))


async def until(condition: Callable[[], bool], timeout_s: float = 10.0, what: str = "condition") -> None:
    """Wait for a condition of real sockets; fails after ``timeout_s``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        await asyncio.sleep(0.005)


class Edge:
    """A running edge and its observer."""

    def __init__(self, board: Switchboard, observer: Observer, admission: Admission) -> None:
        self.board = board
        self.observer = observer
        self.admission = admission

    @property
    def port(self) -> int:
        return self.board.signalling.port


@asynccontextmanager
async def running_edge(
    connection: Connection, observing: Connection, section: EdgeSection | None = None
) -> AsyncIterator[Edge]:
    """Start an edge on ``connection``; ``observing`` is the observer's own connection."""
    section = section or settings()
    observer = Observer(observing)
    await observer.start()
    workers = WorkerDirectory(connection)
    await workers.start()
    admission = Admission(
        section.max_calls, parse_stages(section.required_stages), workers, section.max_calls_per_caller
    )
    ports = PortPool(section.host, section.rtp_port_min, section.rtp_port_max, section.port_drain_ms)
    board = Switchboard(section, connection, edge="edge-test", admission=admission, ports=ports)
    await board.signalling.start(section.sip_port, tcp=True)
    board.pacer.start()
    try:
        yield Edge(board, observer, admission)
    finally:
        board.hang_up_all("test_over")
        board.pacer.stop()
        await board.close(2.0)
        board.signalling.close()
        await workers.close()
