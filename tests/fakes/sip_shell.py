"""A user agent on real sockets that answers every call at once: the smallest shell around `UserAgent`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from edge.net.framing import StreamFramer
from edge.sip.configuration import UserAgentConfiguration
from edge.sip.endpoint import UserAgent
from edge.sip.errors import NotAcceptable
from edge.sip.events import Address, Event, IncomingCall, Outgoing, ReinviteReceived, Transport
from edge.sip.negotiation import LocalMedia, OfferAnswer

HOST = "127.0.0.1"


class SipShell:
    """UDP and TCP on one port of loopback. `events` holds all that was said."""

    def __init__(self, on_event: Callable[[SipShell, Event], None] | None = None, rtp_port: int = 40_000) -> None:
        counter = itertools.count(1)
        self.port = 0
        self.rtp_port = rtp_port
        self.user_agent = UserAgent(
            UserAgentConfiguration(
                tokens=lambda: f"token{next(counter):016d}", local_address=lambda peer, transport: (HOST, self.port)
            )
        )
        self.events: list[Event] = []
        self._on_event = on_event or answer_everything
        self._sessions: dict[int, OfferAnswer] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._connections: dict[Address, asyncio.StreamWriter] = {}

    async def start(self) -> None:
        """Listen on a free port."""
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._udp, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self), (HOST, self.port))

    async def stop(self) -> None:
        """Close everything."""
        if self._timer:
            self._timer.cancel()
        for writer in self._connections.values():
            writer.close()
        self._udp.close()
        self._server.close()

    def session(self, call: int) -> OfferAnswer:
        """Offer/answer state of a call."""
        local = LocalMedia(address=HOST, port=self.rtp_port, session_id=call)
        return self._sessions.setdefault(call, OfferAnswer(local))

    def received(self, data: bytes, source: Address, transport: Transport, connection: Address | None = None) -> None:
        """Feed the user agent, let the application speak, send."""
        self.react(self.user_agent.receive(data, source, transport, self._loop.time(), connection))

    def react(self, events: list[Event]) -> None:
        """Tell the application, send what is due, and arm the one timer."""
        for event in events:
            self.events.append(event)
            self._on_event(self, event)
        for outgoing in self.user_agent.messages_to_send(self._loop.time()):
            self._send(outgoing)
        if self._timer:
            self._timer.cancel()
        deadline = self.user_agent.next_deadline()
        self._timer = self._loop.call_at(deadline, self._wake) if deadline is not None else None

    def now(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    def _wake(self) -> None:
        self.react(self.user_agent.handle_deadline(self._loop.time()))

    def _send(self, outgoing: Outgoing) -> None:
        if outgoing.transport is Transport.UDP:
            self._udp.sendto(outgoing.data, outgoing.destination)
        elif outgoing.connection in self._connections:
            self._connections[outgoing.connection].write(outgoing.data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: Address = writer.get_extra_info("peername")
        self._connections[peer] = writer
        framer = StreamFramer()
        while data := await reader.read(65_536):
            for message in framer.feed(data):
                self.received(message, peer, Transport.TCP, peer)
            for _ in range(framer.take_pings()):
                writer.write(b"\r\n")
        del self._connections[peer]
        self.user_agent.connection_closed(peer)
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, shell: SipShell) -> None:
        self.datagram_received = lambda data, address: shell.received(data, address, Transport.UDP)  # type: ignore[method-assign]


def answer_everything(shell: SipShell, event: Event) -> None:
    """180 and 200 to each call, 200 to each change, 488 where no codec fits."""
    now = shell.now()
    if isinstance(event, IncomingCall):
        try:
            session = shell.session(event.call)
            sdp = session.answer(event.offer) if event.offer else session.offer()
        except NotAcceptable as error:
            shell.user_agent.reject(event.call, error.status, now)
            return
        shell.user_agent.ring(event.call, now)
        shell.user_agent.answer(event.call, sdp, now)
    elif isinstance(event, ReinviteReceived):
        session = shell.session(event.call)
        sdp = session.answer(event.offer) if event.offer else session.offer()
        shell.user_agent.answer_reinvite(event.call, sdp, now)
