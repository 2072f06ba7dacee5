"""SIP over TCP against real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge.net import tcp
from edge.net.tcp import SipConnection, TcpTransport
from edge.net.udp import Address, bind_sip

pytestmark = pytest.mark.integration

MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 2\r\n\r\nhi"


class Side:
    """A transport and what it told."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[bytes, Address, SipConnection]] = asyncio.Queue()
        self.opened: list[Address] = []
        self.unreachable: asyncio.Queue[tuple[Address, bytes]] = asyncio.Queue()
        self.transport = TcpTransport(
            lambda data, peer, connection: self.messages.put_nowait((data, peer, connection)),
            lambda peer, connection: self.opened.append(peer),
            lambda peer, data: self.unreachable.put_nowait((peer, data)),
        )

    async def next(self) -> tuple[bytes, Address, SipConnection]:
        return await asyncio.wait_for(self.messages.get(), 5)


@pytest.fixture
async def sides() -> AsyncIterator[tuple[Side, Side, Address]]:
    one, two = Side(), Side()
    udp, stream = bind_sip("127.0.0.1", 0, tcp=True)
    assert stream is not None
    address = stream.getsockname()
    udp.close()
    await two.transport.listen(stream)
    yield one, two, address
    one.transport.close()
    two.transport.close()
    await asyncio.sleep(0.01)


async def test_one_connection_carries_both_ways(sides: tuple[Side, Side, Address]) -> None:
    one, two, address = sides
    one.transport.send(MESSAGE, address)
    one.transport.send(MESSAGE + MESSAGE, address)
    data, peer, connection = await two.next()
    await two.next()
    await two.next()
    assert data == MESSAGE
    assert one.opened == [address]
    two.transport.send(b"SIP/2.0 200 OK\r\nl: 0\r\n\r\n", ("127.0.0.1", 1), connection)
    answer, source, _ = await one.next()
    assert answer.startswith(b"SIP/2.0 200")
    assert source == address
    assert peer in two.transport._connections
    assert one.transport.connection_count == 1


async def test_an_answer_finds_another_way_where_the_connection_is_gone(sides: tuple[Side, Side, Address]) -> None:
    one, two, address = sides
    _, writer = await asyncio.open_connection(*address)
    writer.write(MESSAGE)
    _, _, connection = await two.next()
    writer.close()
    await writer.wait_closed()
    for _ in range(100):
        if not connection.open:
            break
        await asyncio.sleep(0.01)
    _, stream = bind_sip("127.0.0.1", 0, tcp=True)
    assert stream is not None
    await one.transport.listen(stream)
    two.transport.send(MESSAGE, stream.getsockname(), connection)
    assert (await one.next())[0] == MESSAGE
    assert two.opened == [stream.getsockname()]


async def test_nobody_there_gives_the_message_back() -> None:
    side = Side()
    _, stream = bind_sip("127.0.0.1", 0, tcp=True)
    assert stream is not None
    address = stream.getsockname()
    stream.close()
    side.transport.send(MESSAGE, address)
    assert await asyncio.wait_for(side.unreachable.get(), 5) == (address, MESSAGE)
    assert side.transport.connection_count == 0
    side.transport.close()


async def test_keepalive_is_answered(sides: tuple[Side, Side, Address]) -> None:
    reader, writer = await asyncio.open_connection(*sides[2])
    writer.write(b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readexactly(2), 5) == b"\r\n"
    writer.close()


async def test_a_broken_stream_is_closed_after_its_last_message(sides: tuple[Side, Side, Address]) -> None:
    _, two, address = sides
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: -1\r\n\r\n")
    assert (await two.next())[0].startswith(b"OPTIONS")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_idle_and_stuck_connections_are_swept(sides: tuple[Side, Side, Address]) -> None:
    _, two, address = sides
    reader, writer = await asyncio.open_connection(*address)
    writer.write(MESSAGE + b"OPTIONS sip:")
    _, _, connection = await two.next()
    now = connection._active_at
    two.transport.sweep(now + tcp.PARTIAL_S - 1)
    assert connection.open
    two.transport.sweep(now + tcp.PARTIAL_S + 1)
    assert not connection.open
    assert await asyncio.wait_for(reader.read(), 5) == b""
    assert connection.expired(now + tcp.IDLE_S + 1)
    writer.close()


async def test_the_number_of_connections_is_limited(
    sides: tuple[Side, Side, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two, address = sides
    monkeypatch.setattr(tcp, "MAX_CONNECTIONS", 1)
    _, writer = await asyncio.open_connection(*address)
    writer.write(MESSAGE)
    await two.next()
    other_reader, other_writer = await asyncio.open_connection(*address)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(other_reader.readexactly(1), 5)
    two.transport.send(MESSAGE, ("127.0.0.1", 9))
    assert (await asyncio.wait_for(two.unreachable.get(), 5))[0] == ("127.0.0.1", 9)
    writer.close()
    other_writer.close()


async def test_a_peer_that_reads_nothing_is_cut_off(
    sides: tuple[Side, Side, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two, address = sides
    monkeypatch.setattr(tcp, "MAX_UNSENT_BYTES", 1000)
    _, writer = await asyncio.open_connection(*address)
    writer.write(MESSAGE)
    _, _, connection = await two.next()
    for _ in range(2000):
        connection.write(b"z" * 65_536)
        if not connection.open:
            break
        await asyncio.sleep(0)
    assert not connection.open
    writer.close()
