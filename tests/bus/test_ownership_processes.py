"""Real workers, a real server: killed, stopped, drained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bus import codec
from bus.client import NatsConnection, connect
from bus.clock import uuid7_hex, wall_us
from bus.consume import read_call
from bus.fencing import MESSAGE_ID
from bus.interface import BucketEntry
from bus.provision import apply
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from schemas import subjects
from schemas.asr import AsrFinal
from schemas.session import Owner
from tests.bus.samples import ended, offered, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timed")]  # timed against limits: never two of these at once

ROOT = Path(__file__).resolve().parents[2]
CALLS = 20
KILL_LIMIT_MS = 500
STOP_LIMIT_MS = 1000


class Workers:
    """Processes of the asr stage, and what the owners bucket says."""

    def __init__(self, server: NatsServerProcess, connection: NatsConnection) -> None:
        self.connection = connection
        self.owners: dict[str, Owner] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._server = server
        self._logs = tempfile.TemporaryDirectory(prefix="callbus-workers-")

    async def open(self, count: int) -> None:
        bucket = await self.connection.bucket("owners")
        await bucket.watch(self._on_owner)
        for _ in range(count):
            self.start()
        await until(lambda: len(self.ready()) == count, 30)

    def start(self) -> subprocess.Popen[bytes]:
        number = len(os.listdir(self._logs.name))
        with open(Path(self._logs.name) / f"worker-{number}.log", "wb") as output:
            return self._register(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.bus.worker_process"],
                    cwd=ROOT,
                    env={**os.environ, "NATS_URL": self._server.url, "CALLBUS_LOG__FORMAT": "json"},
                    stderr=output,
                    stdout=output,
                ),
                number,
            )

    def _register(self, process: subprocess.Popen[bytes], number: int) -> subprocess.Popen[bytes]:
        self.processes[f"worker-{number}"] = process
        return process

    def log(self, name: str) -> list[dict[str, str]]:
        lines = (Path(self._logs.name) / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def ready(self) -> dict[str, str]:
        """Worker's own name -> name of its process here."""
        return {
            line["instance"]: name for name in self.processes for line in self.log(name) if line["event"] == "ready"
        }

    def process_of(self, worker: str) -> subprocess.Popen[bytes]:
        return self.processes[self.ready()[worker]]

    async def offer(self, count: int) -> list[str]:
        calls = [uuid7_hex() for _ in range(count)]
        for call_id in calls:
            await self.say(call_id, "offered")
        await until(lambda: set(calls) <= set(self.owners), 10)
        await asyncio.sleep(0.5)
        return calls

    async def say(self, call_id: str, what: str) -> None:
        event = offered(call_id) if what == "offered" else ended(call_id)
        await self.connection.store(subjects.subject_of(event), codec.encode(event), {MESSAGE_ID: event.dedupe_id})

    def by_worker(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for call_id, owner in self.owners.items():
            found[owner.worker].append(call_id)
        return found

    def busiest(self) -> str:
        return max(self.by_worker().items(), key=lambda item: len(item[1]))[0]

    async def counted(self, call_id: str) -> list[AsrFinal]:
        return [e for e in await read_call(self.connection, call_id, "default") if isinstance(e, AsrFinal)]

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self._logs.cleanup()

    def _on_owner(self, entry: BucketEntry) -> None:
        call_id = entry.key.split(".", 1)[1]
        if entry.value is None:
            self.owners.pop(call_id, None)
        else:
            self.owners[call_id] = codec.decode(entry.value, Owner)


@pytest.fixture
async def workers(
    request: pytest.FixtureRequest, fresh_nats: Callable[..., NatsServerProcess]
) -> AsyncIterator[Workers]:
    """With ops/nats/local.conf; with ``plain`` on a server that tells nobody of lost connections."""
    server = fresh_nats(config=None) if getattr(request, "param", "") == "plain" else fresh_nats()
    connection = await connect("test", NatsSection(url=server.url), wait=False)
    await apply(connection, StreamsSection())
    workers = Workers(server, connection)
    try:
        yield workers
    finally:
        workers.close()
        await connection.close()


async def check_counting(workers: Workers, calls: list[str]) -> None:
    """Nothing is missing, nothing is said twice, no epoch speaks after a later one."""
    for call_id in calls:
        events = await workers.counted(call_id)
        assert [event.turn for event in events] == list(range(1, len(events) + 1))
        epochs = [event.epoch for event in events]
        assert epochs == sorted(epochs)


async def taken_within_ms(workers: Workers, lost: list[str], victim: str, begun_us: int) -> float:
    """Until the last of ``lost`` has another owner."""
    await until(lambda: all(workers.owners[call].worker != victim for call in lost), 10)
    return max(workers.owners[call].since_us - begun_us for call in lost) / 1000


@pytest.mark.parametrize("workers", ["local.conf", "plain"], indirect=True)
async def test_killed_worker_is_replaced_within_half_a_second(workers: Workers) -> None:
    await workers.open(3)
    calls = await workers.offer(CALLS)
    victim = workers.busiest()
    lost = workers.by_worker()[victim]
    begun_us = wall_us()
    workers.process_of(victim).kill()
    took_ms = await taken_within_ms(workers, lost, victim, begun_us)
    print(f"takeover after kill: {took_ms:.0f} ms")
    await asyncio.sleep(1.0)
    await check_counting(workers, calls)
    for call in lost:
        after = [event for event in await workers.counted(call) if event.epoch == 2]
        assert after, "the successor goes on counting"
    assert took_ms < KILL_LIMIT_MS


async def test_stopped_worker_is_replaced_within_a_second_and_says_nothing_when_it_wakes(workers: Workers) -> None:
    await workers.open(3)
    calls = await workers.offer(CALLS)
    victim = workers.busiest()
    lost = workers.by_worker()[victim]
    process = workers.process_of(victim)
    begun_us = wall_us()
    process.send_signal(signal.SIGSTOP)
    took_ms = await taken_within_ms(workers, lost, victim, begun_us)
    print(f"takeover after stop: {took_ms:.0f} ms")
    await asyncio.sleep(1.0)
    live: list[AsrFinal] = []
    await workers.connection.subscribe("call.*.*.asr.final", lambda m: live.append(codec.decode(m.data, AsrFinal)))
    process.send_signal(signal.SIGCONT)
    log = workers.ready()[victim]
    await until(lambda: sum(line["event"] == "released" for line in workers.log(log)) == len(lost), 5)
    await asyncio.sleep(0.5)
    zombie = [event for event in live if event.engine == victim and event.call_id in lost]
    assert not zombie, "it looks before it speaks"
    await check_counting(workers, calls)
    assert took_ms < STOP_LIMIT_MS


async def test_drained_worker_hands_over_and_exits_cleanly(workers: Workers) -> None:
    await workers.open(2)
    calls = await workers.offer(CALLS)
    victim = workers.busiest()
    lost = workers.by_worker()[victim]
    process = workers.process_of(victim)
    begun_us = wall_us()
    process.send_signal(signal.SIGTERM)
    took_ms = await taken_within_ms(workers, lost, victim, begun_us)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert took_ms < KILL_LIMIT_MS
    await asyncio.sleep(0.5)
    await check_counting(workers, calls)


async def test_server_restart_moves_no_call(workers: Workers) -> None:
    await workers.open(2)
    calls = await workers.offer(6)
    before = {call: workers.owners[call].worker for call in calls}
    await asyncio.to_thread(workers._server.stop)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(workers._server.start)
    await until(lambda: workers.connection.connected, 10)
    await asyncio.sleep(3.0)
    assert {call: workers.owners[call].worker for call in calls} == before
    await check_counting(workers, calls)


async def test_last_worker_dies_and_the_next_one_adopts_its_calls(workers: Workers) -> None:
    await workers.open(1)
    calls = await workers.offer(4)
    await workers.say(calls[0], "ended")
    await until(lambda: calls[0] not in workers.owners)
    victim = workers.busiest()
    workers.process_of(victim).kill()
    time_us = wall_us()
    workers.start()
    await until(lambda: all(workers.owners[call].worker != victim for call in calls[1:]), 20)
    assert all(workers.owners[call].since_us > time_us for call in calls[1:])
    await asyncio.sleep(0.5)
    await check_counting(workers, calls)
