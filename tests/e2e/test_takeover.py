"""A worker dies or freezes in mid-utterance with 20 calls up: another goes on, nothing is lost, nothing is said twice.

One run each in the ordinary test run; CALLBUS_TAKEOVER_RUNS=20 for as many as one likes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bus.clock import wall_us
from bus.consume import read_call
from bus.kv import TypedBucket
from ops.supervisor import Supervisor
from schemas.call import CallOffered
from schemas.session import Owner, WorkerRecord
from tests.e2e.nothing_lost import calls_in_order, check_heard, check_said_once, until_answered
from tests.e2e.system import INSTANT, running_system
from tests.fakes.crowd import Crowd

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("timed"),
]

CALLS = int(os.environ.get("CALLBUS_TAKEOVER_CALLS", "20"))
RUNS = int(os.environ.get("CALLBUS_TAKEOVER_RUNS", "1"))
SPEECH_FRAMES = 50
LIMIT_MS = {signal.SIGKILL: 500, signal.SIGSTOP: 1000}
ANSWER_DEADLINE_S = 12.0
#: When the worker is hit, in seconds from the beginning of the callers' speech (1 s long, endpointing 0.5 s after it).
HITS_S = {"asr": (0.5, 0.8, 1.2), "llm": (0.6, 1.45, 1.52), "tts": (0.6, 1.5, 1.55, 1.8)}


class Attack:
    """A system with its callers, and turn after turn in which a worker is hit."""

    def __init__(self, supervisor: Supervisor, crowd: Crowd, calls: list[CallOffered]) -> None:
        self.supervisor = supervisor
        self.crowd = crowd
        self.calls = calls
        self.turn = 0

    async def run(self, stage: str, how: signal.Signals, hit_s: float) -> float:
        """One turn of every caller with a worker of ``stage`` hit; ms until all its calls had another owner."""
        self.turn += 1
        owners = await TypedBucket.open(self.supervisor.connection, "owners", Owner)
        start = time.monotonic()
        for caller in self.crowd.callers:
            caller.speak(SPEECH_FRAMES)
        await asyncio.sleep(hit_s)
        victim, pid = await self._victim(owners, stage)
        before_us = wall_us()
        os.kill(pid, how)
        try:
            taken_ms = await self._taken_over(owners, stage, victim, before_us)
            await until_answered(self.supervisor, self.calls, self.turn, start + hit_s + ANSWER_DEADLINE_S)
        finally:
            if how is signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
        return taken_ms

    async def verify(self) -> None:
        """Every transcript holds the whole utterance, every answer was said once, heard whole and in order."""
        for caller, call in zip(self.crowd.callers, self.calls, strict=True):
            events = await read_call(self.supervisor.connection, call.call_id, call.tenant)
            check_heard(caller, events, self.turn)
            check_said_once(caller, events, self.turn)

    async def settle(self) -> None:
        """Until every worker is there again."""
        async with asyncio.timeout(20):
            while not all(child.state == "ready" for child in self.supervisor.children):
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.7)

    async def _victim(self, owners: TypedBucket[Owner], stage: str) -> tuple[str, int]:
        workers = await TypedBucket.open(self.supervisor.connection, "workers", WorkerRecord)
        counts: dict[str, int] = {}
        for call in self.calls:
            entry = await owners.get(f"{stage}.{call.call_id}")
            assert entry is not None, f"nobody owns a call in {stage}"
            counts[entry.value.worker] = counts.get(entry.value.worker, 0) + 1
        name = max(counts, key=counts.__getitem__)
        for key in await workers.keys():
            entry = await workers.get(key)
            if entry is not None and entry.value.worker == name:
                return name, entry.value.process_id
        raise AssertionError(f"{name} owns calls and is no worker")

    async def _taken_over(self, owners: TypedBucket[Owner], stage: str, victim: str, before_us: int) -> float:
        """Milliseconds from the hit to the last of the victim's calls having another owner, by the owners' own word."""
        async with asyncio.timeout(5):
            while True:
                entries = [await owners.get(f"{stage}.{call.call_id}") for call in self.calls]
                found = [entry.value for entry in entries if entry is not None]
                if all(owner.worker != victim for owner in found):
                    return max(max(0, owner.since_us - before_us) for owner in found) / 1000
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attack]:
    """Calls that stay up through all attacks, and two workers of each stage."""
    folder, workers = tmp_path_factory.mktemp("takeover"), dict.fromkeys(HITS_S, 2)
    async with running_system(folder, workers=workers, environment=INSTANT) as supervisor:
        crowd = Crowd()
        try:
            await crowd.start(CALLS, supervisor.sip_port)
            calls = await calls_in_order(supervisor, crowd)
            await until_answered(supervisor, calls, 0, time.monotonic() + ANSWER_DEADLINE_S)
            yield Attack(supervisor, crowd, calls)
        finally:
            await crowd.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
@pytest.mark.parametrize("stage", HITS_S)
async def test_another_worker_goes_on(stage: str, how: signal.Signals, attack: Attack) -> None:
    taken_ms: list[float] = []
    try:
        for number in range(RUNS):
            hit_s = HITS_S[stage][number % len(HITS_S[stage])]
            taken_ms.append(await attack.run(stage, how, hit_s))
            await attack.settle()
            await attack.verify()
    finally:
        print(f"{stage} {how.name}: taken over after {[round(value) for value in taken_ms]} ms")
    assert max(taken_ms) <= LIMIT_MS[how]
