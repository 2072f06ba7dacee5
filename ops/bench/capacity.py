"""Edge capacity: how many two-way G.711 calls one edge process on one core holds.

Every frame of a caller is published, and an agent on the bus sends every frame back, so that each call carries 50
packets and 50 bus messages a second each way. The edge has one core for itself, everything else the other cores. The
load (``load.c``) measures arrival at the callers with kernel time stamps. Beside it, in the same run and with the same
callers, the echo of aiortp: RTP alone, without a bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from config.load import load
from ops.bench.placing import CallPlacer
from ops.bench.results import Figure, Limit
from ops.supervisor import Supervisor, SystemPlan

HOST = "127.0.0.1"
DEFAULT_CALLS = 300
STEPS = (25, 100, 200)
ECHO_STEPS = (25, 100, 200)
CPU_START_S = 2.0
"""Seconds of load before the processor time of the edge is counted."""


class Jitter(msgspec.Struct, frozen=True):
    """|time between two packets - 20 ms| at the callers, ms."""

    p50: float
    p95: float
    p99: float
    max: float
    n: int


class LoadResult(msgspec.Struct, frozen=True):
    """What ``load`` printed."""

    calls: int
    sent: int
    received: int
    lost: int
    out_of_order: int
    bus_in: int
    bus_out: int
    jitter_ms: Jitter


class Step(NamedTuple):
    """One number of calls: the load's result and the share of a core that the server used."""

    result: LoadResult
    core_percent: float


async def measure(calls: int, seconds: float) -> list[Figure]:
    """The edge at 25, 100, 200 and ``calls`` calls, then aiortp's echo.

    Raises:
        RuntimeError: no C compiler, or a call was refused.
    """
    with tempfile.TemporaryDirectory(prefix="callbus-bench-") as folder:
        program = await compile_load(Path(folder))
        edge = await _measure_edge(program, Path(folder), sorted({*(n for n in STEPS if n < calls), calls}), seconds)
        echo = await _measure_echo(program, [n for n in ECHO_STEPS if n <= calls], seconds)
    return [*_edge_figures(edge), *_echo_figures(echo)]


async def compile_load(folder: Path) -> Path:
    """Compile ``load.c``.

    Raises:
        RuntimeError: no C compiler, or it failed.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("this bench needs a C compiler (cc); install one, for example: apt-get install gcc")
    program = folder / "load"
    source = Path(__file__).with_name("load.c")
    process = await asyncio.create_subprocess_exec(compiler, "-O2", "-o", str(program), str(source))
    if await process.wait() != 0:
        raise RuntimeError("load.c did not compile")
    return program


async def _measure_edge(program: Path, folder: Path, steps: list[int], seconds: float) -> list[Step]:
    settings = load({})
    environment = {
        "CALLBUS_EDGE__HOST": HOST,
        "CALLBUS_EDGE__SIP_PORT": "0",
        "CALLBUS_EDGE__RTP_PORT_MIN": "0",
        "CALLBUS_EDGE__REQUIRED_STAGES": "",
        "CALLBUS_EDGE__MAX_CALLS": "2000",
        # As an edge of its own on a machine runs: real-time scheduling where the system allows it.
        "CALLBUS_EDGE__REALTIME": "true",
        "CALLBUS_LOG__LEVEL": "warning",
    }
    plan = SystemPlan(
        settings=settings,
        data=folder,
        workers={"edge": 1, "asr": 0, "llm": 0, "tts": 0},
        environment=environment,
    )
    supervisor = Supervisor(plan)
    await supervisor.start()
    try:
        with own_core(supervisor.children[0].pid, [supervisor.server_pid]):
            return [await _step(program, supervisor, calls, seconds) for calls in steps]
    finally:
        await supervisor.stop()


async def _step(program: Path, supervisor: Supervisor, calls: int, seconds: float) -> Step:
    placer = CallPlacer(HOST)
    await placer.start()
    target = f"sip:bench@{HOST}:{supervisor.sip_port}"
    nats_port = int(supervisor.nats_url.rsplit(":", 1)[1])
    try:
        return await run_load(
            program, nats_port, calls, seconds, supervisor.children[0].pid, lambda ports: placer.place(target, ports)
        )
    finally:
        await placer.hang_up_all()
        placer.close()


async def run_load(
    program: Path,
    nats_port: int,
    calls: int,
    seconds: float,
    server_pid: int,
    connect_calls: Callable[[list[int]], Awaitable[list[int]]],
) -> Step:
    """Run ``load`` against a server: its callers' ports are handed to ``connect_calls``, which gives the server's."""
    whole_s = seconds + CPU_START_S + 1
    process = await asyncio.create_subprocess_exec(
        str(program),
        HOST,
        str(nats_port),
        str(calls),
        str(int(whole_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(whole_s + calls / 25 + 20):
            ports = [int(port) for port in (await process.stdout.readline()).split()]
            theirs = await connect_calls(ports)
            process.stdin.write((" ".join(str(port) for port in theirs) + "\n").encode())
            await process.stdin.drain()
            await asyncio.sleep(CPU_START_S)
            core_percent = await core_percent_of(server_pid, seconds)
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Step(msgspec.json.decode(out, type=LoadResult), core_percent)


async def core_percent_of(pid: int, seconds: float) -> float:
    """Share of one core that a process uses over the next seconds, in percent."""
    before, start = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - start) * 100


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, user and system (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def own_core(pid: int, others: list[int]) -> Iterator[None]:
    """Give a process the last core, everything else the rest, while there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield
        return
    os.sched_setaffinity(pid, cores[-1:])
    for other in [0, *filter(None, others)]:
        os.sched_setaffinity(other, cores[:-1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _edge_figures(steps: list[Step]) -> list[Figure]:
    figures = [_jitter_figure("edge", step, limited=step is steps[-1]) for step in steps]
    per_call = [step.core_percent / step.result.calls for step in steps]
    for step, share in zip(steps, per_call, strict=True):
        growth = share / per_call[0] - 1
        figures.append(
            Figure(
                bench="capacity",
                name=f"edge, {step.result.calls} calls, core per call",
                unit="% of a core",
                statistics={"value": share, "whole": step.core_percent, "growth_percent": growth * 100},
                limits=(Limit(statistic="growth_percent", value=10.0),),
            )
        )
    return figures


def _jitter_figure(who: str, step: Step, *, limited: bool) -> Figure:
    result = step.result
    limits = (
        Limit(statistic="p99", value=5.0),
        Limit(statistic="lost", value=0.0),
        Limit(statistic="core_percent", value=100.0),
    )
    return Figure(
        bench="capacity",
        name=f"{who}, {result.calls} calls, send jitter at the caller",
        unit="ms",
        statistics=msgspec.to_builtins(result.jitter_ms)
        | {"lost": float(result.lost), "core_percent": step.core_percent},
        limits=limits if limited else (),
        note=f"{result.sent} packets sent, {result.received} received, {result.bus_in} frames on the bus",
    )


async def _measure_echo(program: Path, steps: list[int], seconds: float) -> list[Step]:
    found = []
    for calls in steps:
        async with _echo_server() as (pid, connect_calls):
            with own_core(pid, []):
                found.append(await run_load(program, 0, calls, seconds, pid, connect_calls))
    return found


@asynccontextmanager
async def _echo_server() -> AsyncIterator[tuple[int, Callable[[list[int]], Awaitable[list[int]]]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.bench.aiortp_echo", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )

    async def connect_calls(ports: list[int]) -> list[int]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write((" ".join(str(port) for port in ports) + "\n").encode())
        await process.stdin.drain()
        theirs = [int(port) for port in (await process.stdout.readline()).split()]
        if len(theirs) != len(ports):
            raise RuntimeError("the aiortp echo ended before it answered; its error is above")
        return theirs

    try:
        yield process.pid, connect_calls
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _echo_figures(steps: list[Step]) -> list[Figure]:
    return [_jitter_figure("aiortp echo, no bus", step, limited=False) for step in steps]
