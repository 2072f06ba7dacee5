"""How many two-way calls one edge process carries: real SIP, RTP and NATS, one process of load beside it.

    python -m ops.bench.edge_load --calls 25,100,200,300 --seconds 10

Each call sends 50 RTP packets a second, and an agent sends 50 frames a second over NATS for it. Every frame is
published on ``audio.in`` and recorded. Send jitter is |inter-arrival - 20 ms| of the kernel's receive timestamps at the
callers; CPU is that of the edge process. Prints one JSON object per number of calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bus.client import NatsConnection, connect
from bus.provision import apply
from bus.server import DEFAULT_CONFIG, NatsServerProcess
from config.settings import NatsSection, StreamsSection
from edge.media.rtp import RTP_HEADER
from edge.net.ports import PortPool
from edge.signalling import Signalling
from edge.sip import events as sip
from edge.sip.negotiation import LocalMedia, OfferAnswer
from schemas import subjects
from schemas.audio import AudioFlag, Codec, pack_audio, segment_sequence
from schemas.session import WorkerRecord

HOST = "127.0.0.1"
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("qq")
SAMPLED_CALLS = 40
"""Calls whose packets are looked at; those of the others are counted by the edge."""
FRAME_S = 0.02
SLOTS = 4


class LoadCall:
    """One caller: a socket, its counters, its agent's subject."""

    def __init__(self, number: int, sampled: bool) -> None:
        self.number = number
        pair = PortPool(HOST, 0, 0, 0).acquire(0.0)
        pair.rtcp.close()
        self.socket = pair.rtp
        if sampled:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.negotiation = OfferAnswer(LocalMedia(address=HOST, port=pair.port, session_id=number + 1))
        self.target: tuple[str, int] = (HOST, 0)
        self.call_id = ""
        self.subject = b""
        self.sequence = self.timestamp = self.frame = 0
        self.arrivals: list[int] = []
        self.sequences: list[int] = []

    def packet(self) -> bytes:
        """The next RTP packet."""
        header = RTP_HEADER.pack(0x80, 0, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, 7_000_000 + self.number)
        self.sequence += 1
        self.timestamp += 160
        return header + PAYLOAD

    def agent_message(self, frames: int) -> bytes:
        """PUB of the agent's next frames."""
        data = pack_audio(
            PAYLOAD * frames, sequence=segment_sequence(0, self.frame), codec=Codec.PCMU, flags=AudioFlag.NONE,
            frame_count=frames,
        )  # fmt: skip
        self.frame += frames
        return b"PUB %b %d\r\n%b\r\n" % (self.subject, len(data), data)

    def read(self) -> None:
        """Take what arrived, with the kernel's time of arrival."""
        while True:
            try:
                data, extra, _, _ = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            seconds, nanoseconds = TIMESPEC.unpack(extra[0][2])
            self.arrivals.append(seconds * 1_000_000_000 + nanoseconds)
            self.sequences.append(struct.unpack_from("!H", data, 2)[0])


PAYLOAD = bytes(range(40, 200))


class Load:
    """Calls of one step and what was measured."""

    def __init__(self, edge_port: int, edge_pid: int, nats: NatsServerProcess, frames_a_message: int) -> None:
        self._edge_port = edge_port
        self._edge_pid = edge_pid
        self._nats = nats
        self._frames_a_message = frames_a_message
        self._signalling = Signalling(self._on_event, host=HOST, advertised_host="")
        self._calls: dict[sip.CallHandle, LoadCall] = {}
        self._answered: asyncio.Queue[sip.CallHandle] = asyncio.Queue()
        self._failed = 0
        self.published = 0

    async def start(self) -> None:
        await self._signalling.start(0, tcp=False)

    async def close(self) -> None:
        now = time.monotonic()
        for handle in self._calls:
            self._signalling.agent.hang_up(handle, now)
            self._signalling.pump()
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.5)
        self._signalling.close()
        for call in self._calls.values():
            call.socket.close()

    def _on_event(self, event: sip.CallEvent) -> None:
        if isinstance(event, sip.CallAnswered) and event.answer is not None:
            call = self._calls[event.call]
            media = call.negotiation.accept(event.answer)
            call.target = (media.remote_address, media.remote_port)
            self._answered.put_nowait(event.call)
        elif isinstance(event, sip.EndOfCall):
            self._failed += 1

    async def dial(self, connection: NatsConnection, count: int) -> None:
        """Set up calls one after the other and learn their ids from ``call.offered``."""
        offered: asyncio.Queue[str] = asyncio.Queue()
        subscription = await connection.subscribe(
            "call.*.*.call.offered", lambda message: offered.put_nowait(subjects.parse_subject(message.subject).call_id)
        )
        await connection.flush()
        for number in range(count):
            call = LoadCall(number, sampled=number % max(1, count // SAMPLED_CALLS) == 0)
            now = time.monotonic()
            handle = self._signalling.agent.invite(
                f"sip:bank@{HOST}:{self._edge_port}", now, sdp=call.negotiation.offer(),
                destination=(HOST, self._edge_port),
            )  # fmt: skip
            self._calls[handle] = call
            self._signalling.pump()
            await asyncio.wait_for(self._answered.get(), 10)
            call.call_id = await asyncio.wait_for(offered.get(), 10)
            call.subject = subjects.live_audio("out", call.call_id).encode()
        await subscription.close()

    def run(self, seconds: float, warm_s: float) -> dict[str, Any]:
        """Media of all calls; blocks. CPU and jitter count after ``warm_s``."""
        bus = socket.create_connection((HOST, self._nats.port))
        bus.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB rt.*.*.audio.in 1\r\n')
        bus.setblocking(False)
        calls = list(self._calls.values())
        slots = [calls[index::SLOTS] for index in range(SLOTS)]
        begin = time.monotonic()
        cpu = wall = 0.0
        self.published = tick = 0
        measuring = False
        while True:
            due = begin + tick * FRAME_S / SLOTS
            delay = due - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            elapsed = due - begin
            if not measuring and elapsed >= warm_s:
                measuring = True
                self.published = 0
                for call in calls:
                    call.arrivals.clear()
                    call.sequences.clear()
                cpu, wall = cpu_seconds(self._edge_pid), time.monotonic()
            if elapsed >= warm_s + seconds:
                break
            self._tick(bus, slots[tick % SLOTS], tick // SLOTS)
            tick += 1
        used = cpu_seconds(self._edge_pid) - cpu
        took = time.monotonic() - wall
        bus.close()
        return self._figures(used, took)

    def _tick(self, bus: socket.socket, calls: Sequence[LoadCall], revolution: int) -> None:
        batch = []
        for call in calls:
            call.socket.sendto(call.packet(), call.target)
            if (revolution + call.number // SLOTS) % self._frames_a_message == 0:
                batch.append(call.agent_message(self._frames_a_message))
        if batch:
            bus.setblocking(True)
            bus.sendall(b"".join(batch))
            bus.setblocking(False)
        for call in calls:
            if call.number % max(1, len(self._calls) // SAMPLED_CALLS) == 0:
                call.read()
        while True:
            try:
                data = bus.recv(1 << 20)
            except BlockingIOError:
                return
            self.published += data.count(b"MSG rt.")
            if data.count(b"PING\r\n"):
                bus.sendall(b"PONG\r\n")

    def _figures(self, used: float, took: float) -> dict[str, Any]:
        deviations: list[float] = []
        lost = 0
        for call in self._calls.values():
            call.read() if call.arrivals else None
            times = call.arrivals
            deviations += [abs((b - a) / 1e6 - 20.0) for a, b in zip(times, times[1:], strict=False)]
            lost += sum((b - a - 1) & 0xFFFF for a, b in zip(call.sequences, call.sequences[1:], strict=False))
        deviations.sort()
        count = len(self._calls)
        return {
            "calls": count,
            "edge_cpu_percent": round(100 * used / took, 1),
            "cpu_ms_per_call_second": round(1000 * used / took / count, 3),
            "published_per_call_second": round(self.published / took / count, 2),
            "jitter_ms": {name: round(quantile(deviations, share), 3) for name, share in SHARES.items()},
            "jitter_n": len(deviations),
            "lost_to_caller": lost,
            "failed": self._failed,
        }


SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def edge_ready(connection: NatsConnection) -> WorkerRecord:
    """The edge's first heartbeat that names its port."""
    from bus import codec

    heard: asyncio.Queue[WorkerRecord] = asyncio.Queue()
    await connection.subscribe(
        subjects.heartbeat("edge", "*"), lambda message: heard.put_nowait(codec.decode(message.data, WorkerRecord))
    )
    async with asyncio.timeout(20):
        while True:
            record = await heard.get()
            if record.figures.get("sip_port"):
                return record


async def measure(steps: Sequence[int], seconds: float, frames_a_message: int, cores: tuple[int, int] | None) -> None:
    """All steps against one edge process."""
    with NatsServerProcess(config=DEFAULT_CONFIG) as nats:
        connection = await connect("bench", NatsSection(url=nats.url))
        await apply(connection, StreamsSection())
        environment = {
            **os.environ, "NATS_URL": nats.url, "CALLBUS_EDGE__HOST": HOST, "CALLBUS_EDGE__SIP_PORT": "0",
            "CALLBUS_EDGE__RTP_PORT_MIN": "0", "CALLBUS_EDGE__REQUIRED_STAGES": "", "CALLBUS_EDGE__MAX_CALLS": "2000",
            "CALLBUS_LOG__LEVEL": "warning",
        }  # fmt: skip
        command = [sys.executable, *os.environ.get("EDGE_PYTHON_OPTIONS", "").split(), "-m", "edge"]
        edge = subprocess.Popen(command, env=environment)
        try:
            if os.environ.get("EDGE_FIFO"):
                os.sched_setscheduler(edge.pid, os.SCHED_FIFO, os.sched_param(20))
            if cores:
                os.sched_setaffinity(edge.pid, {cores[0]})
                os.sched_setaffinity(0, {cores[1]})
            record = await edge_ready(connection)
            for count in steps:
                load = Load(int(record.figures["sip_port"]), edge.pid, nats, frames_a_message)
                await load.start()
                await load.dial(connection, count)
                figures = await asyncio.to_thread(load.run, seconds, 3.0)
                print(json.dumps(figures), flush=True)
                record = await edge_ready(connection)
                print({k: v for k, v in record.figures.items() if "late" in k or "lag" in k or "skip" in k}, flush=True)
                await load.close()
                await asyncio.sleep(1.0)
        finally:
            edge.send_signal(signal.SIGTERM)
            edge.wait(20)
            await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="25,100,200,300")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--frames-a-message", type=int, default=1, help="agent frames in one NATS message")
    parser.add_argument("--pin", action="store_true", help="edge on core 0, load on core 1")
    options = parser.parse_args()
    steps = [int(text) for text in options.calls.split(",")]
    asyncio.run(measure(steps, options.seconds, options.frames_a_message, (0, 1) if options.pin else None))


if __name__ == "__main__":
    main()
