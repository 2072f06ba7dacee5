"""Memory of each process, idle and per call, and the time from start to ready, on the embedded default."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from config.load import load
from ops.bench.capacity import HOST, compile_load, run_load
from ops.bench.placing import CallPlacer
from ops.bench.results import Figure, Limit
from ops.process import resident_mb
from ops.supervisor import Supervisor, SystemPlan

DEFAULT_CALLS = 20
READY_LIMIT_MS = 5000.0
ENVIRONMENT = {
    "CALLBUS_EDGE__HOST": HOST,
    "CALLBUS_EDGE__SIP_PORT": "0",
    "CALLBUS_EDGE__RTP_PORT_MIN": "0",
    "CALLBUS_LOG__LEVEL": "warning",
}


async def measure(calls: int, seconds: float) -> list[Figure]:
    """Start everything, look at it idle, put ``calls`` calls on it, look again after ``seconds``.

    Raises:
        RuntimeError: no C compiler, or a call was refused.
    """
    with tempfile.TemporaryDirectory(prefix="callbus-bench-") as folder:
        program = await compile_load(Path(folder))
        supervisor = Supervisor(SystemPlan(settings=load({}), data=Path(folder), environment=ENVIRONMENT))
        await supervisor.start()
        try:
            ready_ms = {child.name: child.ready_ms or 0.0 for child in supervisor.children}
            await asyncio.sleep(2)
            idle = _memory(supervisor)
            busy = await _under_load(program, supervisor, calls, seconds)
        finally:
            await supervisor.stop()
    figures = [
        Figure(
            bench="processes",
            name=f"{name}, start to ready (all started at once)",
            unit="ms",
            statistics={"value": value},
            limits=(Limit(statistic="value", value=READY_LIMIT_MS),),
        )
        for name, value in ready_ms.items()
    ]
    for name, value in idle.items():
        figures.append(
            Figure(
                bench="processes",
                name=f"{name}, resident memory",
                unit="MB",
                statistics={"idle": value, "busy": busy[name], "per_call": (busy[name] - value) / calls},
                note=f"busy: {calls} calls",
            )
        )
    return figures


async def _under_load(program: Path, supervisor: Supervisor, calls: int, seconds: float) -> dict[str, float]:
    placer = CallPlacer(HOST)
    await placer.start()
    target = f"sip:bench@{HOST}:{supervisor.sip_port}"
    edge = supervisor.children[0].pid
    try:
        loading = asyncio.create_task(
            run_load(program, 0, calls, seconds, edge, lambda ports: placer.place(target, ports))
        )
        await asyncio.sleep(seconds + calls / 50)
        busy = _memory(supervisor)
        await loading
        return busy
    finally:
        await placer.hang_up_all()
        placer.close()


def _memory(supervisor: Supervisor) -> dict[str, float]:
    processes = {child.name: child.pid for child in supervisor.children} | {"nats-server": supervisor.server_pid}
    return {name: resident_mb(pid) or 0.0 for name, pid in processes.items()}
