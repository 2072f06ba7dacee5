"""Bus hop: publish to delivery of live frames, with the recording of every call going into the stream beside them.

Three processes: nats-server, this one as the edge (publishes frames from a 5 ms tick, stores 200 ms chunks), and a
child as the owner of every call (one subscription per call). The send time is the first 8 bytes of each payload, on
the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time

import msgspec

from bus.client import connect
from bus.clock import uuid7_hex
from bus.interface import Connection
from bus.provision import apply
from bus.publish import Recorder
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from ops.bench.results import Figure, Limit, distribution
from schemas.audio import AudioFrame, pack_audio, unpack_audio
from schemas.subjects import live_audio, recording

STAMP = struct.Struct("!Q")
TICK_S = 0.005
SLOTS = 4
FRAME_BYTES = 160
CHUNK_FRAMES = 10
DEFAULT_CALLS = 100


async def measure(calls: int, seconds: float) -> list[Figure]:
    """The hop at ``calls`` calls of 50 frames a second.

    Raises:
        RuntimeError: frames were lost, or the recording is incomplete.
    """
    with NatsServerProcess() as server:
        return await _measure(server.url, calls, seconds)


async def _measure(url: str, calls: int, seconds: float) -> list[Figure]:
    connection = await connect("bench-edge", NatsSection(url=url), wait=False)
    await apply(connection, StreamsSection())
    names = [uuid7_hex() for _ in range(calls)]
    frames = int(seconds * 50)
    owner = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ops.bench.hop",
        url,
        str(frames),
        *names,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert owner.stdout is not None
    try:
        async with asyncio.timeout(seconds + 30):
            await owner.stdout.readline()
            stored = await _publish(connection, names, frames)
            out, _ = await owner.communicate()
    finally:
        if owner.returncode is None:
            owner.kill()
            await owner.wait()
        await connection.close()
    delays_ms = msgspec.json.decode(out, type=list[float])
    if len(delays_ms) != calls * frames:
        raise RuntimeError(f"{calls * frames - len(delays_ms)} of {calls * frames} frames were lost")
    # The first second warms caches and processes up.
    measured = delays_ms[calls * 50 :]
    limits = (Limit(statistic="p50", value=0.5), Limit(statistic="p99", value=5.0))
    return [
        Figure(
            bench="bus_hop",
            name=f"live frame, publish to delivery, {calls} calls, recording on",
            unit="ms",
            statistics=distribution(measured),
            limits=limits,
            note=f"{stored} chunks stored beside it",
        )
    ]


async def _publish(connection: Connection, names: list[str], frames: int) -> int:
    recorders = [Recorder(connection, service="bench") for _ in names]
    slots = [range(slot, len(names), SLOTS) for slot in range(SLOTS)]
    start = time.monotonic()
    stored = 0
    for tick in range(frames * SLOTS):
        await asyncio.sleep(max(0.0, start + tick * TICK_S - time.monotonic()))
        number = tick // SLOTS
        batch = []
        for call in slots[tick % SLOTS]:
            payload = STAMP.pack(time.monotonic_ns()).ljust(FRAME_BYTES, b"\x55")
            batch.append((live_audio("in", names[call]), pack_audio(payload, sequence=number, media_time=number * 160)))
            if number % CHUNK_FRAMES == CHUNK_FRAMES - 1:
                chunk = pack_audio(payload * CHUNK_FRAMES, sequence=number + 1 - CHUNK_FRAMES, frame_count=CHUNK_FRAMES)
                dedupe_id = f"{names[call]}:rec.in:{number}"
                recorders[call].record_audio(recording("in", names[call]), chunk, dedupe_id)
                stored += 1
        connection.publish_many(batch)
    for recorder in recorders:
        if not await recorder.flush(5000):
            raise RuntimeError("the recording was not stored in 5 s")
        await recorder.close(1000)
    return stored


async def _own(url: str, frames: int, names: list[str]) -> None:
    """The child: receive every frame of every call, then print the delays in ms as JSON."""
    connection = await connect("bench-owner", NatsSection(url=url), wait=False)
    delays_ms: list[float] = []
    done = asyncio.Event()
    total = frames * len(names)

    def receive(frame: AudioFrame) -> None:
        delays_ms.append((time.monotonic_ns() - STAMP.unpack_from(frame.payload)[0]) / 1e6)
        if len(delays_ms) == total:
            done.set()

    for name in names:
        await connection.subscribe(live_audio("in", name), lambda message: receive(unpack_audio(message.data)))
    await connection.flush()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        async with asyncio.timeout(frames / 50 + 20):
            await done.wait()
    except TimeoutError:
        pass
    sys.stdout.write(msgspec.json.encode(delays_ms).decode())
    await connection.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_own(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
