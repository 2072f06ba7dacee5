"""The shell around the SIP user agent: its sockets, its timer, and where its messages go."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable

from bus.logs import get_logger
from bus.metrics.calls import SIP_DEFECTS
from edge.net.addresses import interface_towards, is_literal
from edge.net.tcp import SipConnection, TcpTransport
from edge.net.udp import Address, bind_sip, open_datagram
from edge.sip.configuration import UserAgentConfiguration
from edge.sip.endpoint import UserAgent
from edge.sip.events import CallEvent, Defect, Event, Outgoing, Transport

log = get_logger(__name__)

TOKEN_BYTES = 12
DEFECT_LINES_A_SECOND = 10
"""More malformed messages than this are counted, not logged one by one."""


class Signalling:
    """SIP of one edge: listens on UDP and TCP, hands call events to ``on_event``.

    After any call of an ``agent`` method that may send, call :meth:`pump`.
    """

    def __init__(self, on_event: Callable[[CallEvent], None], *, host: str, advertised_host: str) -> None:
        self._on_event = on_event
        self._host = host
        self._advertised_host = advertised_host
        self.port = 0
        self.defects = 0
        self.agent = UserAgent(
            UserAgentConfiguration(
                tokens=lambda: secrets.token_hex(TOKEN_BYTES),
                local_address=lambda peer, transport: (self.address_towards(peer[0]), self.port),
            )
        )
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp = TcpTransport(self._on_message, self._on_opened, self._on_unreachable)
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._resolving: set[asyncio.Task[None]] = set()
        self._defect_second = 0
        self._defect_lines = 0

    async def start(self, port: int, *, tcp: bool) -> None:
        """Listen.

        Raises:
            PortTakenError: the port is in use.
        """
        udp, stream = bind_sip(self._host, port, tcp=tcp)
        self.port = udp.getsockname()[1]
        self._udp = await open_datagram(udp, self._on_datagram)
        if stream is not None:
            await self._tcp.listen(stream)

    def close(self) -> None:
        """Stop listening; what is buffered still leaves."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._resolving:
            task.cancel()
        self._tcp.close()
        if self._udp is not None:
            self._udp.close()

    def pump(self) -> None:
        """Send what the user agent has to send, and wake it when its next timer is due."""
        now = time.monotonic()
        for message in self.agent.messages_to_send(now):
            self._send(message)
        self._arm()

    def sweep(self, now: float) -> None:
        """Once a second: close idle connections."""
        self._tcp.sweep(now)

    def address_towards(self, peer_host: str) -> str:
        """Our address as that peer must write it: the advertised one, or that of the interface that reaches it."""
        if self._advertised_host:
            return self._advertised_host
        if self._host not in ("0.0.0.0", "::"):
            return self._host
        return interface_towards(peer_host)

    # -- in ---------------------------------------------------------------------------------------------------------

    def _on_datagram(self, data: bytes, source: Address) -> None:
        self._received(self.agent.receive(data, source[:2], Transport.UDP, time.monotonic()))

    def _on_message(self, data: bytes, peer: Address, connection: SipConnection) -> None:
        self._received(self.agent.receive(data, peer, Transport.TCP, time.monotonic(), connection))

    def _on_opened(self, destination: Address, connection: SipConnection) -> None:
        """Nothing to do: a connection of our own is found again by its destination."""

    def _on_unreachable(self, destination: Address, data: bytes) -> None:
        self._failed(destination, Transport.TCP)

    def _failed(self, destination: Address, transport: Transport) -> None:
        self._received(self.agent.unreachable(destination, transport, time.monotonic()))

    def _on_deadline(self) -> None:
        self._timer = None
        self._received(self.agent.handle_deadline(time.monotonic()))

    def _received(self, events: list[Event]) -> None:
        # Answers first: 100 Trying must not wait for what the events set off.
        self.pump()
        for event in events:
            if isinstance(event, Defect):
                self._log_defect(event)
            else:
                self._dispatch(event)
        if events:
            self.pump()

    def _dispatch(self, event: CallEvent) -> None:
        try:
            self._on_event(event)
        except Exception:
            log.exception("sip_event_failed", message=f"handling of {type(event).__name__} failed; the edge goes on")

    def _log_defect(self, defect: Defect) -> None:
        self.defects += 1
        SIP_DEFECTS.inc()
        second = int(time.monotonic())
        if second != self._defect_second:
            self._defect_second, self._defect_lines = second, 0
        self._defect_lines += 1
        if self._defect_lines <= DEFECT_LINES_A_SECOND:
            log.info("sip_defect", message=defect.text, status=defect.status)

    # -- out --------------------------------------------------------------------------------------------------------

    def _send(self, message: Outgoing) -> None:
        if not is_literal(message.destination[0]):
            task = asyncio.get_running_loop().create_task(self._resolve_and_send(message))
            self._resolving.add(task)
            task.add_done_callback(self._resolving.discard)
        elif message.transport is Transport.TCP:
            self._tcp.send(message.data, message.destination, message.connection)
        elif self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(message.data, message.destination)

    async def _resolve_and_send(self, message: Outgoing) -> None:
        host, port = message.destination
        loop = asyncio.get_running_loop()
        kind = socket.SOCK_STREAM if message.transport is Transport.TCP else socket.SOCK_DGRAM
        try:
            async with asyncio.timeout(4.0):
                found = await loop.getaddrinfo(host, port, type=kind)
        except (OSError, TimeoutError):
            found = []
        if not found:
            log.info("sip_name_unresolved", message="a host name in a Contact or Via can't be resolved")
            self._failed(message.destination, message.transport)
            return
        address = found[0][4]
        self._send(message._replace(destination=(str(address[0]), int(address[1]))))

    def _arm(self) -> None:
        deadline = self.agent.next_deadline()
        if deadline is None:
            return
        if self._timer is not None:
            if self._armed_for <= deadline:
                return  # It fires early at worst, and arms again.
            self._timer.cancel()
        self._armed_for = deadline
        delay = max(0.0, deadline - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_deadline)
