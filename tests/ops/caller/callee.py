"""The other side of a test call: a user agent on loopback that does what a test tells it."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import Callable
from pathlib import Path

from edge.net.ports import PortPool
from edge.signalling import Signalling
from edge.sip.events import (
    CallAcknowledged,
    CallEvent,
    CallHandle,
    EndOfCall,
    IncomingCall,
    ReinviteReceived,
)
from edge.sip.negotiation import LocalMedia, OfferAnswer
from ops.caller.media import CallMedia
from services.audio.wav import write_wav

HOST = "127.0.0.1"


def tone(milliseconds: int, hz: float = 500.0, amplitude: int = 8000) -> bytes:
    """16-bit PCM at 8 kHz; the first and the last sample can be heard."""
    count = 8 * milliseconds
    return struct.pack(f"<{count}h", *(round(amplitude * math.cos(2 * math.pi * hz * i / 8000)) for i in range(count)))


def tone_file(folder: Path, milliseconds: int) -> Path:
    """A WAV file of a tone."""
    path = folder / f"tone-{milliseconds}.wav"
    write_wav(path, tone(milliseconds), 8000)
    return path


class Callee:
    """Answers by default; ``on_call`` and ``on_reinvite`` may do otherwise."""

    def __init__(self, codecs: tuple[str, ...] = ("PCMU", "PCMA"), telephone_event: bool = True) -> None:
        self.events: list[CallEvent] = []
        self.signalling = Signalling(self._on_event, host=HOST, advertised_host="")
        self.agent = self.signalling.agent
        self.handle: CallHandle | None = None
        self.media: CallMedia | None = None
        self.offered: list[str] = []
        self.up = asyncio.Event()
        self.over = asyncio.Event()
        self.on_call: Callable[[IncomingCall], None] = self.answer
        self.on_reinvite: Callable[[ReinviteReceived], None] = self.accept_reinvite
        self._pair = PortPool(HOST, 0, 0, 0).acquire(time.monotonic())
        self.session = OfferAnswer(
            LocalMedia(address=HOST, port=self._pair.port, session_id=1, codecs=codecs, telephone_event=telephone_event)
        )
        self._starting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Callee:
        await self.signalling.start(0, tcp=True)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._starting is not None:
            await self._starting
        if self.media is not None:
            await self.media.stop()
        self.signalling.close()
        self._pair.close()

    @property
    def uri(self) -> str:
        return f"sip:callee@{HOST}:{self.signalling.port}"

    def answer(self, event: IncomingCall) -> None:
        assert event.offer is not None
        now = time.monotonic()
        self.agent.ring(event.call, now)
        self.agent.answer(event.call, self.session.answer(event.offer), now)
        assert self.session.media is not None
        self.media = CallMedia(self._pair, self.session.media)
        self._starting = asyncio.get_running_loop().create_task(self.media.start())

    def accept_reinvite(self, event: ReinviteReceived) -> None:
        assert event.offer is not None
        self.agent.answer_reinvite(event.call, self.session.answer(event.offer), time.monotonic())

    def hang_up(self) -> None:
        assert self.handle is not None
        self.agent.hang_up(self.handle, time.monotonic())
        self.signalling.pump()

    async def play(self, pcm: bytes) -> None:
        await self.up.wait()
        assert self.media is not None
        await self.media.play(pcm)

    async def until_heard(self, silence_ms: int = 200) -> None:
        """Wait until the caller has spoken and is silent."""
        await self.up.wait()
        assert self.media is not None
        detector = self.media.detector
        while not (detector.has_spoken and detector.silent_ms(self.media.ticks) >= silence_ms):
            await self.media.next_turn()
        detector.forget()

    def _on_event(self, event: CallEvent) -> None:
        self.events.append(event)
        match event:
            case IncomingCall():
                self.handle = event.call
                self.on_call(event)
            case CallAcknowledged():
                self.up.set()
            case ReinviteReceived():
                audio = event.offer.audio if event.offer else None
                self.offered.append(audio.direction.value if audio else "none")
                self.on_reinvite(event)
            case EndOfCall():
                self.over.set()
