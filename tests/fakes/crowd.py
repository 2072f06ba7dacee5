"""Many callers at once whose every frame can be told apart, and who note every frame of the agent that they hear."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from collections.abc import Sequence
from typing import cast

from ops.bench.placing import CALLS_A_SECOND, CallPlacer
from schemas.audio import Codec
from services.audio.g711 import decode
from services.tts.engines.instant import FrameLabel, read_frame_label

HOST = "127.0.0.1"
FRAME_S = 0.02
FRAME_BYTES = 160
SILENT = b"\xff" * FRAME_BYTES
RTP = struct.Struct("!BBHII")


def voiced_frame(number: int) -> bytes:
    """A loud frame that holds its number: mu-law codes of two loud levels, one per bit."""
    bits = [0x90 if number >> place & 1 else 0x10 for place in range(32)]
    return bytes([0x10, 0x90] * ((FRAME_BYTES - 32) // 2) + bits)


def text_of(frames: Sequence[bytes]) -> str:
    """What the asr engine ``instant`` says when it has heard exactly these mu-law frames in this order."""
    crc = 0
    for frame in frames:
        crc = zlib.crc32(decode(frame, Codec.PCMU), crc)
    return f"frames:{len(frames)}:{crc:08x}"


class CrowdCaller(asyncio.DatagramProtocol):
    """One caller's RTP.

    Attributes:
        sent: every payload sent, in order; the edge numbers them the same way.
        voiced: indexes in ``sent`` of the frames of the current utterance.
        heard: the labels of the agent's frames as they came.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.voiced: list[int] = []
        self.heard: list[FrameLabel] = []
        self.remaining = 0
        self.remote: tuple[str, int] | None = None
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own selector transport does not derive from DatagramTransport, though it is one.
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = int(transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        payload = data[12:]
        if data[1] & 0x7F == 0 and payload != SILENT:
            label = read_frame_label(decode(payload, Codec.PCMU))
            if label is not None:
                self.heard.append(label)

    def speak(self, frames: int) -> None:
        """Begin an utterance of ``frames`` frames."""
        self.voiced = []
        self.remaining = frames

    def tick(self) -> None:
        """Send the next frame."""
        if self._transport is None or self.remote is None:
            return
        number = len(self.sent)
        payload = SILENT
        if self.remaining:
            self.remaining -= 1
            payload = voiced_frame(number)
            self.voiced.append(number)
        header = RTP.pack(0x80, 0, number & 0xFFFF, number * FRAME_BYTES & 0xFFFFFFFF, 7)
        self._transport.sendto(header + payload, self.remote)
        self.sent.append(payload)

    def close(self) -> None:
        """Give the port back."""
        if self._transport is not None:
            self._transport.close()


class Crowd:
    """All callers, placed and kept on a 20 ms beat."""

    def __init__(self) -> None:
        self.callers: list[CrowdCaller] = []
        self._placer = CallPlacer(HOST)
        self._beat: asyncio.Task[None] | None = None

    async def start(self, count: int, sip_port: int, calls_a_second: float = CALLS_A_SECOND) -> None:
        """Call in, ``count`` times."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, caller = await loop.create_datagram_endpoint(CrowdCaller, local_addr=(HOST, 0))
            self.callers.append(caller)
        await self._placer.start()
        target = f"sip:bank@{HOST}:{sip_port}"
        ports = await self._placer.place(target, [caller.port for caller in self.callers], calls_a_second)
        for caller, port in zip(self.callers, ports, strict=True):
            caller.remote = (HOST, port)
        self._beat = asyncio.create_task(self._keep_beat())

    async def stop(self) -> None:
        """Hang up and let go."""
        if self._beat is not None:
            self._beat.cancel()
        await self._placer.hang_up_all()
        self._placer.close()
        for caller in self.callers:
            caller.close()

    async def _keep_beat(self) -> None:
        start = time.monotonic()
        number = 0
        while True:
            await asyncio.sleep(max(0.0, start + number * FRAME_S - time.monotonic()))
            for caller in self.callers:
                caller.tick()
            number += 1
