"""A scripted caller: our own user agent as UAC on real sockets, RTP packets made by hand."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import TypeVar

from edge.media.dtmf import DtmfSender
from edge.media.rtcp import parse_compound
from edge.media.rtp import RTP_HEADER, RtpPacket, parse_packet, serialise_packet
from edge.net.ports import PortPool
from edge.net.udp import Address, open_datagram
from edge.signalling import Signalling
from edge.sip import events as sip
from edge.sip.events import CallEvent, CallHandle, Transport
from edge.sip.negotiation import LocalMedia, NegotiatedMedia, OfferAnswer
from edge.sip.sdp import Direction

E = TypeVar("E", bound=CallEvent)

HOST = "127.0.0.1"
EVENT_TYPE = 101
_numbers = itertools.count(1)


def tone(number: int, size: int = 160) -> bytes:
    """A frame that tells its number: no two of the first 65,536 are equal."""
    return bytes((number >> 8 & 0xFF, number & 0xFF)) * (size // 2)


class Caller:
    """One telephone. ``async with Caller() as caller``; then ``await caller.dial(port)``."""

    def __init__(self, transport: Transport = Transport.UDP) -> None:
        self.transport = transport
        self.signalling = Signalling(self._on_event, host=HOST, advertised_host="")
        self.events: list[CallEvent] = []
        self.media: NegotiatedMedia | None = None
        self.handle = CallHandle(-1)
        self.rtp_in: list[tuple[bytes, Address, float]] = []
        self.rtcp_in: list[bytes] = []
        self.ssrc = 0x1234_0000 + next(_numbers)
        self.sequence = 1000
        self.timestamp = 160_000
        self._arrived = asyncio.Event()
        self._seen = 0
        self._pair = PortPool(HOST, 0, 0, 0).acquire(0.0)
        self.negotiation = OfferAnswer(LocalMedia(address=HOST, port=self._pair.port, session_id=next(_numbers)))

    async def __aenter__(self) -> Caller:
        await self.signalling.start(0, tcp=True)
        self.rtp = await open_datagram(self._pair.rtp, self._on_rtp)
        self.rtcp = await open_datagram(self._pair.rtcp, lambda data, _: self.rtcp_in.append(data))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.signalling.close()
        self.rtp.close()
        self.rtcp.close()
        await asyncio.sleep(0)

    # -- signalling -------------------------------------------------------------------------------------------------

    def invite(self, port: int, *, user: str = "bank", from_uri: str = "", sdp: bytes | None = None) -> CallHandle:
        """Send INVITE to an edge of this machine."""
        offer = self.negotiation.offer() if sdp is None else sdp
        suffix = ";transport=tcp" if self.transport is Transport.TCP else ""
        self.handle = self.signalling.agent.invite(
            f"sip:{user}@{HOST}:{port}{suffix}", time.monotonic(), sdp=offer, from_uri=from_uri,
            destination=(HOST, port), transport=self.transport,
        )  # fmt: skip
        self.signalling.pump()
        return self.handle

    async def dial(self, port: int, *, user: str = "bank", from_uri: str = "") -> NegotiatedMedia:
        """Call and wait for the answer."""
        self.invite(port, user=user, from_uri=from_uri)
        answered = await self.wait_for(sip.CallAnswered)
        assert answered.answer is not None
        self.media = self.negotiation.accept(answered.answer)
        return self.media

    async def refused(self, port: int, *, sdp: bytes | None = None) -> sip.CallRejected:
        """Call and wait for the refusal."""
        self.invite(port, sdp=sdp)
        return await self.wait_for(sip.CallRejected)

    def hang_up(self) -> None:
        """BYE, or CANCEL before the answer."""
        self.signalling.agent.hang_up(self.handle, time.monotonic())
        self.signalling.pump()

    async def hold(self, direction: Direction = Direction.SENDONLY) -> NegotiatedMedia:
        """re-INVITE with another direction; what the edge answers."""
        self.signalling.agent.reinvite(self.handle, self.negotiation.offer(direction), time.monotonic())
        self.signalling.pump()
        answered = await self.wait_for(sip.ReinviteAnswered)
        assert answered.answer is not None
        return self.negotiation.accept(answered.answer)

    async def hold_off(self) -> NegotiatedMedia:
        """Take the call back."""
        return await self.hold(Direction.SENDRECV)

    def reinvite(self, sdp: bytes) -> None:
        """re-INVITE with any body; empty: the edge makes the offer."""
        self.signalling.agent.reinvite(self.handle, sdp, time.monotonic())
        self.signalling.pump()

    async def info(self, content_type: str, body: bytes) -> int:
        """INFO inside the call; its final status."""
        self.signalling.agent.info(self.handle, content_type, body, time.monotonic())
        self.signalling.pump()
        return (await self.wait_for(sip.RequestAnswered)).status

    def acknowledge(self, sdp: bytes) -> None:
        """ACK with our answer to the edge's offer."""
        self.signalling.agent.acknowledge(self.handle, sdp, time.monotonic())
        self.signalling.pump()

    async def wait_for(self, event_type: type[E], timeout_s: float = 10.0) -> E:
        """The next event of this type; earlier ones of other types are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                while self._seen < len(self.events):
                    event = self.events[self._seen]
                    self._seen += 1
                    if isinstance(event, event_type):
                        return event
                    if isinstance(event, sip.EndOfCall):
                        raise AssertionError(f"waited for {event_type.__name__}, the call ended: {event}")
                self._arrived.clear()
                await self._arrived.wait()

    def _on_event(self, event: CallEvent) -> None:
        self.events.append(event)
        self._arrived.set()

    # -- media ------------------------------------------------------------------------------------------------------

    @property
    def edge_rtp(self) -> Address:
        """Where the edge wants RTP."""
        assert self.media is not None
        return self.media.remote_address, self.media.remote_port

    def packet(self, payload: bytes, payload_type: int = 0, *, marker: bool = False) -> bytes:
        """The next packet of this telephone's stream."""
        data = serialise_packet(
            RtpPacket(payload_type, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc, payload, marker)
        )
        self.sequence += 1
        self.timestamp += len(payload)
        return data

    def send(self, datagram: bytes) -> None:
        """One datagram to the edge's RTP port."""
        self.rtp.sendto(datagram, self.edge_rtp)

    async def talk(self, payloads: Iterable[bytes], *, every_s: float = 0.002, payload_type: int = 0) -> list[bytes]:
        """Send frames; faster than real time by default (the edge follows timestamps). Returns them."""
        sent = []
        for payload in payloads:
            self.send(self.packet(payload, payload_type))
            sent.append(payload)
            await asyncio.sleep(every_s)
        return sent

    async def press(self, digits: str, *, every_s: float = 0.02) -> None:
        """Keys as RFC 4733 events."""
        keys = DtmfSender()
        keys.press(digits)
        while keys.active:
            packet = keys.next_packet(self.timestamp & 0xFFFFFFFF)
            if packet is not None:
                second = EVENT_TYPE | (0x80 if packet.marker else 0)
                self.send(RTP_HEADER.pack(0x80, second, self.sequence & 0xFFFF, packet.timestamp, self.ssrc)
                          + packet.payload)  # fmt: skip
                self.sequence += 1
            self.timestamp += 160
            await asyncio.sleep(every_s)

    def heard(self) -> list[RtpPacket]:
        """Audio packets received so far, in order of arrival."""
        return [parse_packet(data) for data, _, _ in self.rtp_in]

    async def hear(self, frames: Sequence[bytes], timeout_s: float = 10.0) -> None:
        """Wait until these payloads arrived one after the other."""
        async with asyncio.timeout(timeout_s):
            while not self.has_heard(frames):
                await asyncio.sleep(0.01)

    def has_heard(self, frames: Sequence[bytes]) -> bool:
        """Whether these payloads arrived one after the other."""
        payloads = [packet.payload for packet in self.heard()]
        wanted = list(frames)
        return any(payloads[i : i + len(wanted)] == wanted for i in range(len(payloads) - len(wanted) + 1))

    def reports(self) -> list[object]:
        """RTCP packets received so far."""
        return [packet for data in self.rtcp_in for packet in parse_compound(data)]

    def _on_rtp(self, datagram: bytes, source: Address) -> None:
        self.rtp_in.append((datagram, source, time.monotonic()))
