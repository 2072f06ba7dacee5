"""Turn overhead: what the line itself adds to a turn when every engine answers at once.

Real processes (nats-server, edge, asr, llm, tts), a real SIP call. The caller sends a voiced stretch and then silence;
counted is the time from its last voiced packet sent to the first agent packet received that is not silence, with the
endpointing silence taken off. It holds the wait for the edge's next 20 ms slot, half a frame on average. The same turn
through an in-process pipeline (``pipeline_turn``), which has no network, no pacing and no recording, stands beside it.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
import time
from pathlib import Path
from typing import cast

from config.load import load
from ops.bench.pipeline_turn import measure_pipeline
from ops.bench.placing import CallPlacer
from ops.bench.results import Figure, Limit, distribution
from ops.supervisor import Supervisor, SystemPlan

HOST = "127.0.0.1"
DEFAULT_CALLS = 5
SPEECH_MS = 400
SILENCE_MS = 300
FRAME_S = 0.02
RTP = struct.Struct("!BBHII")
VOICED = bytes([0x10, 0x90] * 80)
SILENT = b"\xff" * 160
ENVIRONMENT = {
    "CALLBUS_EDGE__HOST": HOST,
    "CALLBUS_EDGE__SIP_PORT": "0",
    "CALLBUS_EDGE__RTP_PORT_MIN": "0",
    "CALLBUS_ASR__ENGINE": "instant",
    "CALLBUS_ASR__VAD": "energy",
    "CALLBUS_LLM__ENGINE": "instant",
    "CALLBUS_TTS__ENGINE": "instant",
    "CALLBUS_TURN__ENDPOINTING": "fixed",
    "CALLBUS_TURN__ENDPOINTING_FIXED_MS": str(SILENCE_MS),
    "CALLBUS_LOG__LEVEL": "warning",
}


class MediaCaller(asyncio.DatagramProtocol):
    """RTP of one caller: sends a frame each 20 ms for ever, voiced while ``voiced_frames`` lasts."""

    def __init__(self) -> None:
        self.voiced_frames = 0
        self.last_voiced = 0.0
        self.first_heard = 0.0
        self.last_heard = 0.0
        self._transport: asyncio.DatagramTransport | None = None
        self._sequence = 0

    @property
    def port(self) -> int:
        """Our RTP port."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own selector transport does not derive from DatagramTransport, though it is one.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data[1] & 0x7F == 0 and data[12:] != SILENT[: len(data) - 12]:
            self.last_heard = time.monotonic()
            self.first_heard = self.first_heard or self.last_heard

    async def send_for_ever(self, port: int) -> None:
        """Keep the 20 ms beat."""
        assert self._transport is not None
        start = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, start + self._sequence * FRAME_S - time.monotonic()))
            voiced = self.voiced_frames > 0
            header = RTP.pack(0x80, 0, self._sequence & 0xFFFF, self._sequence * 160 & 0xFFFFFFFF, 1)
            self._transport.sendto(header + (VOICED if voiced else SILENT), (HOST, port))
            self._sequence += 1
            if voiced:
                self.voiced_frames -= 1
                self.last_voiced = time.monotonic()
                self.first_heard = 0.0


async def measure(calls: int, seconds: float) -> list[Figure]:
    """About ``seconds`` × 5 turns, one after another, spread over ``calls`` calls (each lies differently to the edge's
    slots), then as many through the pipeline.

    Raises:
        RuntimeError: the agent did not answer.
    """
    turns = max(20, int(seconds * 5))
    with tempfile.TemporaryDirectory(prefix="callbus-bench-") as folder:
        plan = SystemPlan(settings=load({}), data=Path(folder), environment=ENVIRONMENT)
        supervisor = Supervisor(plan)
        await supervisor.start()
        try:
            ours = [value for _ in range(calls) for value in await _measure_line(supervisor, turns // calls)]
        finally:
            await supervisor.stop()
    theirs = await measure_pipeline(turns, SPEECH_MS, SILENCE_MS)
    limits = (Limit(statistic="p50", value=15.0), Limit(statistic="p95", value=30.0))
    return [
        Figure(
            bench="turn",
            name="callbus: last caller packet to first agent packet, endpointing silence taken off",
            unit="ms",
            statistics=distribution(ours),
            limits=limits,
            note="five processes, RTP both ends, recorded",
        ),
        Figure(
            bench="turn",
            name="Pipecat pipeline in one process, same stub turn",
            unit="ms",
            statistics=distribution(theirs),
            note="no RTP, no pacing, no recording",
        ),
    ]


async def _measure_line(supervisor: Supervisor, turns: int) -> list[float]:
    loop = asyncio.get_running_loop()
    transport, caller = await loop.create_datagram_endpoint(MediaCaller, local_addr=(HOST, 0))
    placer = CallPlacer(HOST)
    await placer.start()
    sending: asyncio.Task[None] | None = None
    try:
        (port,) = await placer.place(f"sip:bench@{HOST}:{supervisor.sip_port}", [caller.port])
        sending = asyncio.create_task(caller.send_for_ever(port))
        await wait_quiet(caller)
        return [await speak_and_wait(caller) for _ in range(turns)]
    finally:
        if sending is not None:
            sending.cancel()
        await placer.hang_up_all()
        placer.close()
        transport.close()


async def speak_and_wait(caller: MediaCaller) -> float:
    """One turn of a caller: what the line added to it, in ms."""
    caller.first_heard = 0.0
    caller.voiced_frames = int(SPEECH_MS / 1000 / FRAME_S)
    async with asyncio.timeout(10):
        while caller.voiced_frames or not caller.first_heard:
            await asyncio.sleep(0.005)
    overhead_ms = (caller.first_heard - caller.last_voiced) * 1000 - SILENCE_MS
    await wait_quiet(caller)
    return overhead_ms


async def wait_quiet(caller: MediaCaller) -> None:
    """Until the agent has been silent for 300 ms."""
    async with asyncio.timeout(20):
        while not caller.last_heard or time.monotonic() - caller.last_heard < 0.3:
            await asyncio.sleep(0.02)
