"""SIP over TCP: framing, one connection per peer used both ways, and a new connection where the old one is gone.

RFC 3261 section 18.2.2: an answer goes back on the connection that its request came on; where that is closed, to the
address that the Via names.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import cast

from bus.logs import get_logger
from edge.net.framing import StreamFramer
from edge.net.udp import Address

OnMessage = Callable[[bytes, Address, "SipConnection"], None]
OnOpened = Callable[[Address, "SipConnection"], None]
OnUnreachable = Callable[[Address, bytes], None]

MAX_CONNECTIONS = 1024
MAX_UNSENT_BYTES = 262_144
"""A peer that leaves this much unread is cut off."""
IDLE_S = 900.0
PARTIAL_S = 30.0
"""A message that is not whole after this long is given up, with its connection."""
CONNECT_S = 4.0

_log = get_logger("edge.net.tcp")


class SipConnection(asyncio.Protocol):
    """One TCP connection, opened by either side. ``open``: messages may be written (they wait where it is opening)."""

    def __init__(self, owner: TcpTransport, expected: Address | None = None) -> None:
        """``expected``: the address that this side connects to; None for an accepted connection."""
        self._owner = owner
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self.peer: Address = expected or ("", 0)
        self._unsent: list[bytes] = []
        self._active_at = time.monotonic()
        self._partial_since = 0.0
        self.open = expected is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open: send what waited."""
        self._transport = cast(asyncio.Transport, transport)
        self.open = True
        if not self.peer[1]:
            peer = transport.get_extra_info("peername")
            self.peer = (peer[0], peer[1]) if peer else ("", 0)
        if not self._owner.opened(self):
            self._transport.abort()
            return
        unsent, self._unsent = self._unsent, []
        for data in unsent:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Frame, answer keep-alives, pass messages on."""
        now = time.monotonic()
        self._active_at = now
        messages = self._framer.feed(data)
        for _ in range(self._framer.take_pings()):
            self.write(b"\r\n")
        for message in messages:
            self._owner.on_message(message, self.peer, self)
        if self._framer.broken:
            _log.info("sip_stream_broken", defect=self._framer.broken)
            self.close()
        elif not self._framer.pending:
            self._partial_since = 0.0
        elif messages or not self._partial_since:
            self._partial_since = now

    def connection_lost(self, error: Exception | None) -> None:
        """Closed by either side."""
        self.open = False
        self._owner.closed(self)

    def write(self, data: bytes) -> None:
        """Send, or keep until the connection is open. A peer that reads nothing is cut off."""
        self._active_at = time.monotonic()
        if self._transport is None:
            if sum(map(len, self._unsent)) + len(data) <= MAX_UNSENT_BYTES:
                self._unsent.append(data)
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            _log.info("sip_peer_reads_nothing", unsent_bytes=self._transport.get_write_buffer_size())
            self._transport.abort()

    def expired(self, now: float) -> bool:
        """Idle for too long, or stuck in the middle of a message."""
        if self._partial_since and now - self._partial_since > PARTIAL_S:
            return True
        return now - self._active_at > IDLE_S

    def fail(self) -> list[bytes]:
        """The connection could not be opened: what it was to carry."""
        self.open = False
        unsent, self._unsent = self._unsent, []
        return unsent

    def close(self) -> None:
        """Send what is buffered, then close."""
        self.open = False
        if self._transport is not None:
            self._transport.close()


class TcpTransport:
    """All SIP connections of one edge."""

    def __init__(self, on_message: OnMessage, on_opened: OnOpened, on_unreachable: OnUnreachable) -> None:
        """What to call with a message and its peer; a connection that this side begins; a message that can't leave."""
        self.on_message = on_message
        self._on_opened = on_opened
        self._on_unreachable = on_unreachable
        self._connections: dict[Address, SipConnection] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SipConnection(self), sock=sock)

    @property
    def connection_count(self) -> int:
        """Connections open or opening."""
        return len(self._connections)

    def send(self, data: bytes, destination: Address, connection: object | None = None) -> None:
        """Send on ``connection`` while it is open, else on one to ``destination``, which is opened where there is none.

        RFC 3261 section 18.2.2: ``destination`` is where the peer listens, so it outlives a connection of the peer's.
        """
        if not isinstance(connection, SipConnection) or not connection.open:
            connection = self._connections.get(destination)
        if connection is None or not connection.open:
            connection = self._begin(destination)
        if connection is None:
            self._on_unreachable(destination, data)
            return
        connection.write(data)

    def sweep(self, now: float) -> None:
        """Close what is idle or stuck. ``now``: monotonic seconds; to be called about once a second."""
        for connection in [each for each in self._connections.values() if each.expired(now)]:
            connection.close()

    def close(self) -> None:
        """Stop listening, send what is buffered, close everything."""
        if self._server is not None:
            self._server.close()
        for task in self._opening:
            task.cancel()
        for connection in list(self._connections.values()):
            connection.close()

    def opened(self, connection: SipConnection) -> bool:
        """A connection is open; False where there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS and connection.peer not in self._connections:
            _log.warning("sip_connections_exhausted", limit=MAX_CONNECTIONS)
            return False
        self._connections[connection.peer] = connection
        return True

    def closed(self, connection: SipConnection) -> None:
        """A connection is gone."""
        if self._connections.get(connection.peer) is connection:
            del self._connections[connection.peer]

    def _begin(self, destination: Address) -> SipConnection | None:
        if len(self._connections) >= MAX_CONNECTIONS:
            _log.warning("sip_connections_exhausted", limit=MAX_CONNECTIONS)
            return None
        connection = SipConnection(self, destination)
        self._connections[destination] = connection
        self._on_opened(destination, connection)
        task = asyncio.get_running_loop().create_task(self._open(connection, destination))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return connection

    async def _open(self, connection: SipConnection, destination: Address) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(lambda: connection, destination[0], destination[1])
        except (OSError, TimeoutError) as error:
            _log.info("sip_peer_unreachable", error=type(error).__name__)
            self.closed(connection)
            for data in connection.fail():
                self._on_unreachable(destination, data)
