"""UDP: the SIP listener, and the sockets of a call's RTP and RTCP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from edge.net.addresses import family_of

Address = tuple[str, int]
"""Host and port. IPv6 addresses lose flow and scope: two numbers name a peer."""

OnDatagram = Callable[[bytes, Address], None]

_RECEIVE_BUFFER_BYTES = 1 << 20


class PortTakenError(Exception):
    """A listening port is in use; the text names the setting."""


class DatagramProtocol(asyncio.BaseProtocol):
    """Hands each datagram to a plain function.

    ``datagram_received`` is an attribute on purpose: the event loop then calls the receiver without a step between.
    """

    datagram_received: OnDatagram

    def __init__(self, on_datagram: OnDatagram) -> None:
        self.datagram_received = on_datagram
        self.errors = 0

    def error_received(self, error: Exception) -> None:
        """The network refused something (often ICMP "port unreachable"); counted, never fatal: RTP may recover."""
        self.errors += 1

    def connection_lost(self, error: Exception | None) -> None:
        """Closed."""


def bind_sip(host: str, port: int, *, tcp: bool) -> tuple[socket.socket, socket.socket | None]:
    """Sockets for SIP over UDP and, with ``tcp``, TCP, both on one port. ``port`` 0: any port free for both.

    Raises:
        PortTakenError: the port is in use or not allowed.
    """
    attempts = 16 if port == 0 else 1
    for attempt in range(attempts):
        udp = socket.socket(family_of(host), socket.SOCK_DGRAM)
        stream: socket.socket | None = None
        try:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            udp.setblocking(False)
            udp.bind((host, port))
            if tcp:
                stream = socket.socket(family_of(host), socket.SOCK_STREAM)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                stream.setblocking(False)
                stream.bind((host, udp.getsockname()[1]))
                stream.listen(128)
            return udp, stream
        except OSError as error:
            udp.close()
            if stream is not None:
                stream.close()
            if attempt == attempts - 1:
                raise PortTakenError(
                    f"SIP can't listen on {host} port {port}: {error.strerror}. Set [edge] sip_port "
                    "(CALLBUS_EDGE__SIP_PORT) to a free port, or to 0 for any; [edge] host must be an address of this "
                    "machine"
                ) from error
    raise AssertionError("unreachable")


async def open_datagram(sock: socket.socket, on_datagram: OnDatagram) -> asyncio.DatagramTransport:
    """A datagram endpoint on a bound socket; closing the transport closes the socket."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: DatagramProtocol(on_datagram), sock=sock)
    return transport
