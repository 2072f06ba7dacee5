"""The SIP listener's sockets."""

from __future__ import annotations

import asyncio
import socket

import pytest

from edge.net.udp import PortTakenError, bind_sip, open_datagram

pytestmark = pytest.mark.integration


def test_any_port_serves_udp_and_tcp() -> None:
    udp, tcp = bind_sip("127.0.0.1", 0, tcp=True)
    assert tcp is not None
    assert udp.getsockname() == tcp.getsockname()
    udp.close()
    tcp.close()


def test_without_tcp() -> None:
    udp, tcp = bind_sip("127.0.0.1", 0, tcp=False)
    assert tcp is None
    udp.close()


def test_a_port_in_use_names_the_setting() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(PortTakenError, match=r"sip_port"):
            bind_sip("127.0.0.1", other.getsockname()[1], tcp=True)


def test_a_tcp_port_in_use_is_found_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortTakenError, match=r"CALLBUS_EDGE__SIP_PORT"):
            bind_sip("127.0.0.1", other.getsockname()[1], tcp=True)


async def test_datagrams_arrive_whole_and_network_errors_are_not_fatal() -> None:
    got: list[tuple[bytes, tuple[str, int]]] = []
    udp, _ = bind_sip("127.0.0.1", 0, tcp=False)
    transport = await open_datagram(udp, lambda data, source: got.append((data, source)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        unreachable = closed.getsockname()
    transport.sendto(b"nobody", unreachable)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.sendto(b"x" * 65_507, transport.get_extra_info("sockname"))
        peer.sendto(b"y", transport.get_extra_info("sockname"))
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(got) == 2:
                break
        assert got == [(b"x" * 65_507, peer.getsockname()), (b"y", peer.getsockname())]
    transport.close()
