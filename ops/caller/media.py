"""RTP of one outgoing call: a packet every frame, what is heard put on record."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from typing import NamedTuple, Protocol

from edge.media.dtmf import DtmfPressed
from edge.media.frames import ReceivedFrame
from edge.media.receiver import MediaReceiver
from edge.media.sender import MediaSender
from edge.net.ports import PortPair
from edge.net.udp import Address, open_datagram
from edge.sip.negotiation import NegotiatedMedia
from ops.caller.recording import SAMPLE_BYTES, SAMPLE_RATE_HZ, CallRecording, SpeechDetector
from ops.caller.report import RtpReceived, RtpSent
from schemas.audio import Codec
from services.audio import g711

SKIP_AFTER_S = 0.06
"""Turns later than this are left out: they would only fill the other side's jitter buffer."""


class Span(NamedTuple):
    """A stretch of what this side sent, ticks since the answer."""

    start: int
    end: int


class Effects(Protocol):
    """The caller's surroundings: what is heard passes them, and what is sent comes out of them."""

    def hear(self, ticks: int, pcm: bytes) -> None:
        """A frame of the other side, placed at ``ticks``."""

    def mix(self, ticks: int, pcm: bytes) -> bytes:
        """What leaves at ``ticks`` in place of this frame (digital silence where nothing is played): as much audio."""


class CallMedia:
    """Sends from the answer on: what is to be played, else silence. All waits are in turns of one frame."""

    def __init__(self, pair: PortPair, agreed: NegotiatedMedia) -> None:
        self.recording = CallRecording()
        self.detector = SpeechDetector()
        self.keys = ""
        self.effects: Effects | None = None
        self._pair = pair
        self._codec = Codec[agreed.codec]
        self._frame_ticks = agreed.frame_ms * self._codec.bytes_per_ms
        self._sender = MediaSender(
            ssrc=secrets.randbits(32),
            sequence=secrets.randbits(16),
            timestamp=secrets.randbits(32),
            frame_ticks=self._frame_ticks,
        )
        self._receiver = MediaReceiver(())
        self._octets_received = 0
        self._playing: deque[bytes] = deque()
        self._holding = False
        self._turn: asyncio.Future[None] | None = None
        self._transports: list[asyncio.DatagramTransport] = []
        self._pacer: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._behind_ticks: int | None = None
        self._apply(agreed)

    async def start(self) -> None:
        """The call was answered: now is time 0 of the recording."""
        self._transports = [
            await open_datagram(self._pair.rtp, self._on_datagram),
            # RTCP is received so that nothing bounces; this caller reports nothing.
            await open_datagram(self._pair.rtcp, lambda data, source: None),
        ]
        self._started_at = time.monotonic()
        self._receiver.start(self._started_at)
        self._pacer = asyncio.get_running_loop().create_task(self._send_forever(), name="caller-pacer")

    async def stop(self) -> None:
        """Send nothing more; the rest of what was received goes on record."""
        if self._pacer is not None:
            self._pacer.cancel()
            await asyncio.wait({self._pacer})
        for event in self._receiver.finish():
            self._take(event)
        self.recording.heard.shift(self._behind_ticks or 0)
        for transport in self._transports:
            transport.close()

    def renegotiated(self, agreed: NegotiatedMedia) -> None:
        """A re-INVITE of either side changed the session."""
        self._codec = Codec[agreed.codec]
        self._apply(agreed)

    def hold(self, holding: bool) -> None:
        """Send nothing while the other side is on hold."""
        self._holding = holding
        self._receiver.hold(holding, time.monotonic())

    @property
    def started_at(self) -> float:
        """The monotonic clock's time of tick 0."""
        return self._started_at

    @property
    def next_ticks(self) -> int:
        """Place of the next frame that leaves, ticks since the answer."""
        return self._sender.media_time

    @property
    def ticks(self) -> int:
        """Time since the answer."""
        return int((time.monotonic() - self._started_at) * SAMPLE_RATE_HZ)

    @property
    def duration_ms(self) -> int:
        return self.ticks * 1000 // SAMPLE_RATE_HZ

    async def play(self, pcm: bytes) -> Span:
        """Send 16-bit PCM at 8 kHz; returns when its last frame has left."""
        start = self._sender.media_time
        payload = g711.encode(pcm, self._codec)
        silence = bytes([self._codec.silence])
        for at in range(0, len(payload), self._frame_ticks):
            self._playing.append(payload[at : at + self._frame_ticks].ljust(self._frame_ticks, silence))
        while self._playing:
            await self.next_turn()
        return Span(start, self._sender.media_time)

    async def press(self, digits: str) -> Span:
        """Send keys; returns when the last one is up.

        Raises:
            ValueError: the other side takes no telephone-events.
        """
        start = self._sender.media_time
        self._sender.send_digits(digits)
        while self._sender.sending_digits:
            await self.next_turn()
        return Span(start, self._sender.media_time)

    async def next_turn(self) -> None:
        """Wait until the next packet has been sent."""
        if self._turn is None:
            self._turn = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._turn)

    def sent(self) -> RtpSent:
        """What has left."""
        return RtpSent(packets=self._sender.packets, octets=self._sender.octets)

    def received(self) -> RtpReceived:
        """What has come."""
        counts = self._receiver.counts
        return RtpReceived(
            frames=counts.frames,
            octets=self._octets_received,
            lost=max(0, self._receiver.lost),
            late=counts.late,
            duplicate=counts.duplicate,
            reordered=counts.reordered,
            rejected=counts.rejected_total,
            ssrc_changes=counts.ssrc_changes,
            telephone_events=counts.events,
            jitter_ms=round(self._receiver.statistics.jitter_ms, 2),
        )

    def _apply(self, agreed: NegotiatedMedia) -> None:
        # Both static types: some peers answer with one codec and send the other.
        types = {agreed.payload_type, Codec.PCMU.value, Codec.PCMA.value}
        self._receiver.accept(types, agreed.telephone_event_payload_type)
        if agreed.remote_address not in ("0.0.0.0", "::"):
            self._receiver.expect((agreed.remote_address, agreed.remote_port), time.monotonic())
        self._sender.configure(agreed.payload_type, agreed.telephone_event_payload_type, self._codec.silence)

    # -- turns -----------------------------------------------------------------------------------------------------

    async def _send_forever(self) -> None:
        frame_s = self._frame_ticks / SAMPLE_RATE_HZ
        due = self._started_at
        while True:
            late = time.monotonic() - due
            if late > SKIP_AFTER_S:
                # Before the packet, the very first one too: its time stamp says when all that follow were heard.
                skipped = int(late / frame_s)
                self._sender.skip(skipped)
                due += skipped * frame_s
            self._send_turn()
            due += frame_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _send_turn(self) -> None:
        now = time.monotonic()
        for event in self._receiver.handle_deadline(now):
            self._take(event)
        ticks = self._sender.media_time
        if self._holding:
            self._sender.skip(1)
        else:
            payload = self._next_payload(ticks)
            if payload is not None:
                self.recording.said.put(ticks, g711.decode(payload, self._codec))
            datagram = self._sender.next_datagram(payload)
            target = self._receiver.target
            if datagram is not None and target is not None:
                self._transports[0].sendto(datagram, target)
        turn, self._turn = self._turn, None
        if turn is not None and not turn.done():
            turn.set_result(None)

    def _next_payload(self, ticks: int) -> bytes | None:
        if self._sender.sending_digits:
            return None
        payload = self._playing.popleft() if self._playing else None
        if self.effects is None:
            return payload
        silence = bytes(self._frame_ticks * SAMPLE_BYTES)
        played = silence if payload is None else g711.decode(payload, self._codec)
        return g711.encode(self.effects.mix(ticks, played), self._codec)

    def _on_datagram(self, data: bytes, source: Address) -> None:
        now = time.monotonic()
        for event in self._receiver.receive(data, source, now):
            if isinstance(event, ReceivedFrame):
                # Media time is laid on whole frames; the packet that was least on its way says where it really lies.
                behind = int((now - self._started_at) * SAMPLE_RATE_HZ) - event.media_time
                self._behind_ticks = behind if self._behind_ticks is None else min(self._behind_ticks, behind)
            self._take(event)

    def _take(self, event: object) -> None:
        match event:
            case ReceivedFrame():
                self._octets_received += len(event.payload)
                codec = Codec(event.payload_type) if event.payload_type in (0, 8) else self._codec
                pcm = g711.decode(event.payload, codec)
                self.recording.heard.put(event.media_time, pcm)
                self.detector.feed(event.media_time, pcm)
                if self.effects is not None:
                    self.effects.hear(event.media_time, pcm)
            case DtmfPressed():
                self.keys += event.digit
