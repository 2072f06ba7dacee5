"""Real asr processes on a real server: killed and frozen in mid-utterance, 20 calls up; each word is heard once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bus import codec
from bus.client import NatsConnection, connect
from bus.clock import uuid7_hex, wall_us
from bus.fencing import MESSAGE_ID
from bus.interface import BucketEntry, Message
from bus.provision import apply
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from schemas import subjects
from schemas.asr import AsrFinal
from schemas.audio import Codec, pack_audio
from schemas.base import Event
from schemas.call import CallAnswered, CallOffered
from schemas.control import ReplayReply, ReplayRequest
from schemas.session import Owner
from schemas.turn import TurnEnded, TurnStarted
from services.audio import g711
from tests.services.asr.harness import SILENCE, voice

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timed")]  # timed against limits: never two of these at once

ROOT = Path(__file__).resolve().parents[3]
CALLS = 20
FRAME_S = 0.02
UTTERANCE = [SILENCE] * 15 + [voice(n) for n in range(60)] + [SILENCE] * 60
FAULT_AT = 45
WHOLE = zlib.crc32(b"".join(g711.decode(payload, Codec.PCMU) for payload in UTTERANCE[:100]))
"""300 ms before the first voiced sample up to 500 ms after the last one."""
ENVIRONMENT = {
    "CALLBUS_ASR__ENGINE": "instant",
    "CALLBUS_ASR__VAD": "energy",
    "CALLBUS_LOG__FORMAT": "json",
    # Frames are counted, so a turn must end at the same frame always; a turn model takes the time it takes.
    "CALLBUS_TURN__ENDPOINTING": "fixed",
}


def start_process(url: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "services.asr"],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, **environment, "NATS_URL": url},
            stdout=output,
            stderr=output,
        )


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


class System:
    """Two asr processes, and this test as the edge of many calls."""

    def __init__(self, connection: NatsConnection, url: str, folder: Path) -> None:
        self.connection = connection
        self.owners: dict[str, str] = {}
        self.moved_at: dict[str, float] = {}
        self.sent = 0
        self.calls: list[str] = []
        self.logs = [folder / "first.log", folder / "second.log"]
        self.processes = [start_process(url, log) for log in self.logs]

    async def open(self) -> None:
        bucket = await self.connection.bucket("owners")
        await bucket.watch(self._on_owner)
        await self.connection.subscribe("rt.*.*.replay", self._replay)
        await until(lambda: all('"ready"' in log.read_text() for log in self.logs), 20)

    async def begin(self) -> None:
        """Calls that are owned and answered."""
        self.calls = [uuid7_hex() for _ in range(CALLS)]
        for call_id in self.calls:
            await self.tell(CallOffered(call_id=call_id, at_us=wall_us(), edge="e1"))
        await until(lambda: set(self.calls) <= set(self.owners))
        for call_id in self.calls:
            at_us = wall_us()
            await self.tell(CallAnswered(call_id=call_id, at_us=at_us, edge="e1", codec="PCMU", media_epoch_us=at_us))

    async def say(self, first: int, count: int) -> None:
        """Frames of all calls, in real time."""
        due = time.monotonic()
        for number in range(first, first + count):
            self.sent = number + 1
            data = pack_audio(UTTERANCE[number], sequence=number, media_time=number * 160)
            self.connection.publish_many([(subjects.live_audio("in", call_id), data) for call_id in self.calls])
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def process_of(self, worker: str) -> subprocess.Popen[bytes]:
        return next(each for each, log in zip(self.processes, self.logs, strict=True) if worker in log.read_text())

    async def tell(self, event: Event) -> None:
        await self.connection.store(subjects.subject_of(event), codec.encode(event), {MESSAGE_ID: event.dedupe_id})

    async def stored(self, kind: type[Event]) -> list[Event]:
        pattern = subjects.event_subject(kind, "*", "*")
        return [codec.decode_event(each.subject, each.data) async for each in self.connection.read(pattern)]

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def _on_owner(self, entry: BucketEntry) -> None:
        if entry.value is not None and entry.key.startswith("asr."):
            owner = codec.decode(entry.value, Owner)
            self.owners[owner.call_id] = owner.worker
            self.moved_at[owner.call_id] = time.monotonic()

    def _replay(self, message: Message) -> None:
        request = codec.decode(message.data, ReplayRequest)
        reply = ReplayReply(first_sequence=request.from_sequence, next_sequence=self.sent)
        self.connection.publish(message.reply, codec.encode(reply))
        for start in range(request.from_sequence, self.sent, 10):
            part = UTTERANCE[start : min(start + 10, self.sent)]
            data = pack_audio(b"".join(part), sequence=start, frame_count=len(part), media_time=start * 160)
            self.connection.publish(request.reply_to, data)


@pytest.fixture
async def system(fresh_nats: Callable[..., NatsServerProcess], tmp_path: Path) -> AsyncIterator[System]:
    server = fresh_nats()
    connection = await connect("test", NatsSection(url=server.url), wait=False)
    await apply(connection, StreamsSection())
    made = System(connection, server.url, tmp_path)
    try:
        await made.open()
        yield made
    finally:
        made.close()
        await connection.close()


@pytest.mark.parametrize(("how", "limit_s"), [(signal.SIGKILL, 0.5), (signal.SIGSTOP, 1.0)])
async def test_another_worker_goes_on_and_every_frame_is_heard_once(
    system: System, how: signal.Signals, limit_s: float, record_property: Callable[[str, object], None]
) -> None:
    await system.begin()
    await system.say(0, FAULT_AT)
    victim = Counter(system.owners.values()).most_common(1)[0][0]
    lost = [call_id for call_id in system.calls if system.owners[call_id] == victim]
    process = system.process_of(victim)
    process.send_signal(how)
    begun = time.monotonic()
    await system.say(FAULT_AT, len(UTTERANCE) - FAULT_AT)
    await until(lambda: all(system.owners[call_id] != victim for call_id in lost))
    took_s = max(system.moved_at[call_id] for call_id in lost) - begun
    record_property("takeover_s", round(took_s, 3))
    print(f"\n{how.name}: {len(lost)} of {CALLS} calls taken over after {1000 * took_s:.0f} ms")
    async with asyncio.timeout(10):
        while len(await system.stored(TurnEnded)) < CALLS:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.5)

    ended = await system.stored(TurnEnded)
    assert {event.text for event in ended if isinstance(event, TurnEnded)} == {f"frames:100:{WHOLE:08x}"}
    for kind in (TurnStarted, AsrFinal, TurnEnded):
        assert sorted(event.call_id for event in await system.stored(kind)) == sorted(system.calls)
    # Twice the limit: this machine may be busy.
    assert took_s < 2 * limit_s


async def test_an_engine_that_is_unknown_ends_the_process_with_code_2_and_a_stop_with_0(
    fresh_nats: Callable[..., NatsServerProcess], tmp_path: Path
) -> None:
    server = fresh_nats()
    connection = await connect("test", NatsSection(url=server.url), wait=False)
    await apply(connection, StreamsSection())
    await connection.close()
    log = tmp_path / "asr.log"
    process = start_process(server.url, log, CALLBUS_ASR__ENGINE="magic")
    assert await asyncio.to_thread(process.wait, 20) == 2
    assert "[asr] engine = 'magic'" in log.read_text()
    process = start_process(server.url, log)
    try:
        await until(lambda: '"ready"' in log.read_text(), 20)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
