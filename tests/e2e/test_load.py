"""sipp's own callers against the whole system with engines that answer at once, every stage in the way of each call.

200 calls at 20 a second of each kind: as many at once as with more of them; CALLBUS_LOAD_CALLS=500 goes on for longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ops.supervisor import ProcessStatus, Supervisor
from tests.e2e.peers import program, run, sipp, sipp_errors
from tests.e2e.system import HOST, INSTANT, running_system

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(180), pytest.mark.xdist_group("timed")]

CALLS = int(os.environ.get("CALLBUS_LOAD_CALLS", "200"))
CALLS_PER_SECOND = 20
SLOTS = {f"CALLBUS_{stage}__SLOTS": "300" for stage in ("ASR", "LLM", "TTS")}
RECORDINGS = Path("/usr/share/sip-tester")
RECORDING_S = 9
"""How long the calls of sipp's scenario uac_pcap are: some 180 at once."""
GROWTH_LIMIT_MB = {"nats-server": 400.0, "edge-1": 150.0, "asr-1": 60.0, "llm-1": 60.0, "tts-1": 60.0}
"""Memory after all calls over memory before the first: transactions of the last 32 s (RFC 3261 17), what the streams
keep in memory, and room that the allocator has not given back. A call of 9 s has 75 KB of audio each way: kept audio
would come to more."""


def recordings(folder: Path) -> None:
    """Where sipp's scenario uac_pcap looks for them."""
    if os.geteuid() != 0:
        pytest.skip("sipp plays a pcap through a raw socket: root only")
    if not RECORDINGS.is_dir():
        pytest.skip(f"sipp's recordings are not at {RECORDINGS}: not tested with RTP out of a pcap")
    (folder / "pcap").mkdir()
    for name in ("g711a.pcap", "dtmf_2833_1.pcap"):
        shutil.copy(RECORDINGS / name, folder / "pcap" / name)


def bad_lines(logs: Path) -> list[str]:
    """Every line of the services' logs that is no plain information, and all that is no log line."""
    found = []
    for path in sorted(logs.glob("*.log")):
        for line in path.read_text().splitlines():
            if path.name.startswith("nats-server"):
                bad = "[ERR]" in line or "[FTL]" in line
            else:
                bad = not line.startswith("{") or json.loads(line)["level"] in ("error", "critical")
            if bad:
                found.append(f"{path.name}: {line[:300]}")
    return found


def sockets(process: ProcessStatus) -> int:
    """Open sockets of a process."""
    found = 0
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found += path.readlink().name.startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return found


def row(system: Supervisor, name: str) -> ProcessStatus:
    return next(each for each in system.status() if each.name == name)


async def states(system: Supervisor, folder: Path) -> list[str]:
    """``callbus calls`` as another process sees it: the state of every call."""
    command = [sys.executable, "-m", "ops.main", "calls", "--json", "--limit", "100000", "--nats", system.nats_url]
    done = await run(*command, folder=Path(__file__).parents[2], limit_s=20)
    assert done.exit_code == 0, done.said
    return [each["state"] for each in json.loads(done.said)]


async def is_as_before(system: Supervisor, before: Sequence[ProcessStatus], edge_sockets: int, folder: Path) -> None:
    """No call, port or memory is left; no process died; nothing was complained of."""
    async with asyncio.timeout(10):
        while any(each.calls for each in system.status()) or sockets(row(system, "edge-1")) > edge_sockets:
            await asyncio.sleep(0.1)
    for was in before:
        now = row(system, was.name)
        assert (now.pid, now.state, now.restarts) == (was.pid, "ready", 0)
        assert was.resident_mb is not None
        assert now.resident_mb is not None
        growth = now.resident_mb - was.resident_mb
        print(f"{was.name}: {was.resident_mb:.0f} MB before, {now.resident_mb:.0f} MB after")
        assert growth < GROWTH_LIMIT_MB[was.name], f"{was.name} grew by {growth:.0f} MB"
    assert await states(system, folder) == ["completed"] * (2 * CALLS)
    assert bad_lines(folder / "logs") == []


async def test_calls_at_20_a_second_without_and_with_rtp(tmp_path: Path) -> None:
    program("sipp")
    recordings(tmp_path)
    async with running_system(tmp_path, environment={**INSTANT, **SLOTS}) as system:
        await asyncio.sleep(1.2)  # heartbeats with the first figures
        before, edge_sockets = system.status(), sockets(row(system, "edge-1"))
        rate = ("-r", str(CALLS_PER_SECOND), "-m", str(CALLS))
        limit_s = CALLS / CALLS_PER_SECOND + RECORDING_S + 20
        target = f"{HOST}:{system.sip_port}"
        for scenario in (("-sn", "uac", "-d", "500"), ("-sn", "uac_pcap")):
            done = await sipp(target, *scenario, *rate, folder=tmp_path, limit_s=limit_s)
            assert done.exit_code == 0, f"{done.said[-3000:]}\n{sipp_errors(tmp_path)}"
        await is_as_before(system, before, edge_sockets, tmp_path)
