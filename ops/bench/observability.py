"""What it costs to be seen: traces with hops to a receiver, and metrics that are scraped, on against off.

Two systems of real processes stand side by side, one with everything on and one with everything off, and take turns at
the same calls, so that whatever else runs on the machine meets both. Engines answer at once: all that is left to
measure is the line itself, of which observability is the largest share it can ever be.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bus.consume import follow_all, read_call
from config.load import load
from ops.bench.capacity import cpu_seconds
from ops.bench.placing import CallPlacer
from ops.bench.results import Figure, Limit, distribution
from ops.bench.span_account import account
from ops.bench.turn import ENVIRONMENT, HOST, MediaCaller, speak_and_wait, wait_quiet
from ops.supervisor import Supervisor, SystemPlan
from schemas.base import Event
from schemas.call import CallEnded

DEFAULT_CALLS = 16
ROUNDS = 6
SCRAPE_S = 15.0
"""As ops/prometheus says."""
SETTLE_S = 5.0
"""After the calls: their last spans are sent, and their last words stored."""
PROCESSES = 4
CPU_LIMIT_PERCENT = 5.0
TURN_LIMIT_MS = 1.0


class Side:
    """One of the two systems, and what was measured with it."""

    def __init__(self, supervisor: Supervisor, ports: range) -> None:
        self.supervisor = supervisor
        self.ports = ports
        self.cpu_ms: list[float] = []
        """Per call of each round, of all processes and the server."""
        self.turns_ms: list[float] = []
        self.turns = 0
        self.late_ms: list[float] = []
        self.last: CallEnded | None = None

    def cpu_s(self) -> float:
        """Processor time of all its processes so far."""
        pids = [child.pid for child in self.supervisor.children] + [self.supervisor.server_pid]
        return sum(cpu_seconds(pid) for pid in pids if pid)

    async def run(self, calls: int, seconds: float) -> None:
        """One round: so many calls at once for so long."""
        before = self.cpu_s()
        found = await _converse(self.supervisor.sip_port, calls, seconds)
        await asyncio.sleep(SETTLE_S)
        self.cpu_ms.append((self.cpu_s() - before) * 1000 / calls)
        self.turns_ms += found
        self.turns += len(found)

    def on_ended(self, event: Event) -> None:
        """A call of it has ended."""
        if isinstance(event, CallEnded):
            self.late_ms.append(event.media.pacer_late_max_ms)
            self.last = event

    async def scrape(self) -> None:
        """Read its pages for ever, as Prometheus does, whether or not it is its turn."""
        while True:
            for port in self.ports:
                await asyncio.to_thread(_read, f"http://{HOST}:{port}/metrics")
            await asyncio.sleep(SCRAPE_S)


async def measure(calls: int, seconds: float) -> list[Figure]:
    """:data:`ROUNDS` rounds of ``calls`` calls of ``seconds`` each, on both sides.

    Raises:
        RuntimeError: a call was refused, or nothing came to the receiver of spans.
    """
    async with _sink() as (url, counted), _side(url) as on, _side("") as off:
        await off.run(1, 2.0)
        await on.run(1, 2.0)
        for side in (off, on):
            side.cpu_ms.clear()
            side.turns_ms.clear()
            side.turns = 0
        before = await counted()
        for number in range(ROUNDS):
            for side in (off, on) if number % 2 == 0 else (on, off):
                await side.run(calls, seconds)
        if on.last is None:
            raise RuntimeError("no call has ended")
        events = await read_call(on.supervisor.connection, on.last.call_id, on.last.tenant)
        requests, size = (after - first for after, first in zip(await counted(), before, strict=True))
    if not requests:
        raise RuntimeError("no spans came to the receiver")
    return [*_figures(on, off, calls, requests, size), _accounted(events, statistics.median(off.cpu_ms))]


def _figures(on: Side, off: Side, calls: int, requests: int, size: int) -> list[Figure]:
    cpu_on, cpu_off = statistics.median(on.cpu_ms), statistics.median(off.cpu_ms)
    # Of the two halves of a round, minutes apart from the others', what else runs has touched both.
    over = [(dear / cheap - 1) * 100 for dear, cheap in zip(on.cpu_ms, off.cpu_ms, strict=True)]
    turn_on, turn_off = distribution(on.turns_ms), distribution(off.turns_ms)
    sent = f"{requests / calls / ROUNDS:.1f} exports and {size / calls / ROUNDS / 1024:.1f} KiB a call"
    return [
        Figure(
            bench="observability",
            name="processor time of a call, all processes and nats-server, on over off",
            unit="%",
            statistics={"value": statistics.median(over), "least": min(over), "most": max(over)},
            limits=(Limit(statistic="value", value=CPU_LIMIT_PERCENT),),
            note=f"{cpu_on:.0f} ms against {cpu_off:.0f} ms a call, of {ROUNDS} rounds the median; {sent}",
        ),
        Figure(
            bench="observability",
            name="turn overhead, on less off, median",
            unit="ms",
            statistics={"value": turn_on["p50"] - turn_off["p50"]},
            limits=(Limit(statistic="value", value=TURN_LIMIT_MS),),
            note=f"p95 {turn_on['p95']:.1f} ms against {turn_off['p95']:.1f} ms, n {on.turns} and {off.turns}",
        ),
        Figure(
            bench="observability",
            name="latest packet of a call, on",
            unit="ms",
            statistics=distribution(on.late_ms),
            note=f"off: p50 {distribution(off.late_ms)['p50']:.1f} ms, p95 {distribution(off.late_ms)['p95']:.1f} ms",
        ),
    ]


def _accounted(events: list[Event], call_ms: float) -> Figure:
    spans_ms, spans = account(events)
    return Figure(
        bench="observability",
        name="spans of a call, folded, made and encoded in all four processes, by account, of its processor time off",
        unit="%",
        statistics={"value": spans_ms / call_ms * 100},
        note=f"{spans_ms:.2f} ms for {spans} spans, whatever else runs on the machine; sending them is not in it",
    )


@asynccontextmanager
async def _side(endpoint: str) -> AsyncIterator[Side]:
    environment = dict(ENVIRONMENT)
    ports = range(0)
    if endpoint:
        first = _free_ports(PROCESSES)
        ports = range(first, first + PROCESSES)
        environment |= {"CALLBUS_TRACING__ENDPOINT": endpoint, "CALLBUS_METRICS__PORT": str(first)}
    with tempfile.TemporaryDirectory(prefix="callbus-bench-") as folder:
        supervisor = Supervisor(SystemPlan(settings=load(environment), data=Path(folder), environment=environment))
        await supervisor.start()
        side = Side(supervisor, ports)
        ends = await follow_all(supervisor.connection, ("call.ended",), side.on_ended, service="bench")
        scraping = asyncio.create_task(side.scrape())
        try:
            yield side
        finally:
            scraping.cancel()
            await ends.close()
            await supervisor.stop()


@asynccontextmanager
async def _sink() -> AsyncIterator[tuple[str, Callable[[], Awaitable[tuple[int, ...]]]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.bench.span_sink", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def counted() -> tuple[int, ...]:
        stdin.write(b"\n")
        async with asyncio.timeout(20):
            return tuple(int(word) for word in (await stdout.readline()).split())

    try:
        async with asyncio.timeout(20):
            url = (await stdout.readline()).decode().strip()
        yield url, counted
    finally:
        stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await process.wait()
        if process.returncode is None:
            process.kill()


async def _converse(sip_port: int, calls: int, seconds: float) -> list[float]:
    """So many calls at once, each turn after turn for so long; the overhead of every turn in ms."""
    loop = asyncio.get_running_loop()
    placer = CallPlacer(HOST)
    await placer.start()
    made = [await loop.create_datagram_endpoint(MediaCaller, local_addr=(HOST, 0)) for _ in range(calls)]
    callers = [caller for _, caller in made]
    sending: list[asyncio.Task[None]] = []
    try:
        ports = await placer.place(f"sip:bench@{HOST}:{sip_port}", [caller.port for caller in callers])
        sending = [asyncio.create_task(caller.send_for_ever(port)) for caller, port in zip(callers, ports, strict=True)]
        end = loop.time() + seconds
        found = await asyncio.gather(*(_turns(caller, end) for caller in callers))
        return [value for values in found for value in values]
    finally:
        for task in sending:
            task.cancel()
        await placer.hang_up_all()
        placer.close()
        for transport, _ in made:
            transport.close()


async def _turns(caller: MediaCaller, end: float) -> list[float]:
    await wait_quiet(caller)
    found = []
    while asyncio.get_running_loop().time() < end:
        found.append(await speak_and_wait(caller))
    return found


def _read(url: str) -> None:
    with urllib.request.urlopen(url, timeout=5) as answer:
        answer.read()


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that are free now."""
    for _ in range(50):
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind((HOST, 0))
            number = int(first.getsockname()[1])
            try:
                for offset in range(1, count):
                    held.enter_context(socket.socket()).bind((HOST, number + offset))
            except OSError:
                continue
            return number
    raise RuntimeError("no ports in a row are free")
