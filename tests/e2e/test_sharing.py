"""Three workers of each stage share 30 calls, however fast these come: nobody has more than a fifth above his part."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from pathlib import Path

import pytest

from bus.kv import TypedBucket
from ops.session import offered_calls
from ops.supervisor import Supervisor
from schemas.call import CallOffered
from schemas.session import Owner
from tests.e2e.system import INSTANT, running_system
from tests.fakes.crowd import Crowd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240), pytest.mark.xdist_group("timed")]

CALLS = 30
WORKERS = 3
STAGES = ("asr", "llm", "tts")
FAIR = range(8, 13)
"""30 calls among three, within a fifth."""
RATES = {"5 a second": 5.0, "50 a second": 50.0, "at once": 5000.0}


async def calls_of(system: Supervisor, known: set[str]) -> list[CallOffered]:
    async with asyncio.timeout(10):
        while True:
            found = [call async for call in offered_calls(system.connection) if call.call_id not in known]
            if len(found) == CALLS:
                return found
            await asyncio.sleep(0.05)


async def owners_of(system: Supervisor, stage: str, calls: list[CallOffered]) -> list[Owner]:
    """The first owner of each call."""
    bucket = await TypedBucket.open(system.connection, "owners", Owner)
    found = []
    async with asyncio.timeout(10):
        for call in calls:
            while (entry := await bucket.get(f"{stage}.{call.call_id}")) is None:
                await asyncio.sleep(0.02)
            found.append(entry.value)
    return found


async def test_thirty_calls_among_three_workers(tmp_path: Path) -> None:
    known: set[str] = set()
    shares: dict[str, list[int]] = {}
    async with running_system(tmp_path, workers=dict.fromkeys(STAGES, WORKERS), environment=INSTANT) as system:
        for rate, calls_a_second in RATES.items():
            crowd = Crowd()
            try:
                await crowd.start(CALLS, system.sip_port, calls_a_second)
                calls = await calls_of(system, known)
                for stage in STAGES:
                    owners = await owners_of(system, stage, calls)
                    waits = [(owner.since_us - call.at_us) / 1000 for owner, call in zip(owners, calls, strict=True)]
                    parts = sorted(Counter(owner.worker for owner in owners).values())
                    shares[f"{stage}, {rate}"] = parts
                    p50, longest = statistics.median(waits), max(waits)
                    print(f"{stage}, {rate}: {parts}, claimed after {p50:.1f} ms (p50), {longest:.1f} ms (longest)")
            finally:
                await crowd.stop()
            known |= {call.call_id for call in calls}
            await asyncio.sleep(1.0)
    for what, parts in shares.items():
        assert len(parts) == WORKERS, f"{what}: {parts}"
        assert all(part in FAIR for part in parts), f"{what}: {parts}"
