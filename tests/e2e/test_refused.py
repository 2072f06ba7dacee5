"""Calls that can't be taken: the caller gets 503 and is told when to try again (RFC 3261 21.5.4)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ops.caller import CallScript, Outcome, Pause
from ops.caller.call import place_call
from tests.e2e.peers import sipp
from tests.e2e.system import HOST, INSTANT, running_system

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

REFUSED = Path(__file__).parents[1] / "data" / "sipp" / "refused.xml"


async def check_refused(sip_port: int, folder: Path) -> None:
    """sipp and our own caller are refused."""
    done = await sipp(f"{HOST}:{sip_port}", "-sf", str(REFUSED), "-m", "1", folder=folder, limit_s=10)
    assert done.exit_code == 0, done.said[-3000:]
    report = await place_call(f"sip:bank@{HOST}:{sip_port}", CallScript((Pause(0.1),)))
    assert (report.outcome, report.sip_status) == (Outcome.REJECTED, 503)


async def test_a_call_over_the_limit(tmp_path: Path) -> None:
    environment = {**INSTANT, "CALLBUS_EDGE__MAX_CALLS": "1"}
    async with running_system(tmp_path, environment=environment) as supervisor:
        target = f"sip:bank@{HOST}:{supervisor.sip_port}"
        answered = asyncio.Event()

        def told(text: str) -> None:
            if text.startswith("answered"):
                answered.set()

        first = asyncio.create_task(place_call(target, CallScript((Pause(2.0),)), progress=told))
        async with asyncio.timeout(5):
            await answered.wait()
        await check_refused(supervisor.sip_port, tmp_path)
        assert (await first).succeeded, "the call that was there goes on"
        again = await place_call(target, CallScript((Pause(0.3),)))
        assert again.succeeded, "and makes room for another"


async def test_a_call_without_an_asr_worker(tmp_path: Path) -> None:
    async with running_system(tmp_path, workers={"asr": 0}, environment=INSTANT) as supervisor:
        await check_refused(supervisor.sip_port, tmp_path)
