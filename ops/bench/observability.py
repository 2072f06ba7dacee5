"""What it costs to be seen: traces with hops to a receiver, and metrics that are scraped, on against off.

Three systems of real processes stand side by side, one with everything on, one with everything off and one more of
those as the control, and take turns at the same calls, so that whatever else runs on the machine meets all. Two systems
that are alike differ by some percent for as long as they run, so every round has new ones; what the control shows of
difference is noise, and stands beside the result. Engines answer at once: all that is left to measure is the line
itself, of which observability is the largest share it can ever be.
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
WARM_S = 2.0
PROCESSES = 4
CPU_LIMIT_PERCENT = 5.0
TURN_LIMIT_MS = 1.0


class Figures:
    """What was measured with one kind of system, over all rounds."""

    def __init__(self) -> None:
        self.cpu_ms: list[float] = []
        """Per call of each round, of all processes and the server."""
        self.turns_ms: list[float] = []
        self.late_ms: list[float] = []
        self.events: list[Event] = []
        """Of one call."""


class Side:
    """One of a round's systems. ``ports``: where its metrics are, if any."""

    def __init__(self, supervisor: Supervisor, ports: range, figures: Figures) -> None:
        self.supervisor = supervisor
        self.ports = ports
        self.figures = figures
        self.last: CallEnded | None = None
        self.measuring = False

    def cpu_s(self) -> float:
        """Processor time of all its processes so far."""
        pids = [child.pid for child in self.supervisor.children] + [self.supervisor.server_pid]
        return sum(cpu_seconds(pid) for pid in pids if pid)

    async def warm(self) -> None:
        """One short call that counts for nothing: what is loaded with the first call is loaded."""
        await _converse(self.supervisor.sip_port, 1, WARM_S)
        await asyncio.sleep(WARM_S)
        self.measuring = True

    async def run(self, calls: int, seconds: float) -> None:
        """So many calls at once for so long."""
        before = self.cpu_s()
        found = await _converse(self.supervisor.sip_port, calls, seconds)
        await asyncio.sleep(SETTLE_S)
        self.figures.cpu_ms.append((self.cpu_s() - before) * 1000 / calls)
        self.figures.turns_ms += found
        if self.last is None:
            raise RuntimeError("no call has ended")
        self.figures.events = await read_call(self.supervisor.connection, self.last.call_id, self.last.tenant)

    def on_ended(self, event: Event) -> None:
        """A call of it has ended."""
        if isinstance(event, CallEnded) and self.measuring:
            self.figures.late_ms.append(event.media.pacer_late_max_ms)
            self.last = event

    async def scrape(self) -> None:
        """Read its pages for ever, as Prometheus does, whether or not it is its turn."""
        while True:
            for port in self.ports:
                await asyncio.to_thread(_read, f"http://{HOST}:{port}/metrics")
            await asyncio.sleep(SCRAPE_S)


async def measure(calls: int, seconds: float) -> list[Figure]:
    """:data:`ROUNDS` rounds of ``calls`` calls of ``seconds`` each, on three new systems every time.

    Raises:
        RuntimeError: a call was refused, or nothing came to the receiver of spans.
    """
    off, on, control = Figures(), Figures(), Figures()
    async with _sink() as (url, counted):
        for number in range(ROUNDS):
            async with _side("", off) as first, _side(url, on) as second, _side("", control) as third:
                sides = (first, second, third)
                for side in sides:
                    await side.warm()
                for place in range(len(sides)):
                    await sides[(number + place) % len(sides)].run(calls, seconds)
            print(
                f"observability: round {number + 1} of {ROUNDS}: {on.cpu_ms[-1]:.0f} ms of processor time a call, "
                f"{off.cpu_ms[-1]:.0f} and {control.cpu_ms[-1]:.0f} ms without",
                file=sys.stderr,
            )
        requests, size = await counted()
    if not requests:
        raise RuntimeError("no spans came to the receiver")
    per_call = 1 / (calls + 1) / ROUNDS
    sent = f"{requests * per_call:.1f} exports and {size * per_call / 1024:.1f} KiB a call"
    return [*_figures(on, off, control, sent), _accounted(off.events, statistics.median(off.cpu_ms))]


def _figures(on: Figures, off: Figures, control: Figures, sent: str) -> list[Figure]:
    # Of the parts of one round, minutes apart from the others', what else runs has touched all.
    plain = [(first + second) / 2 for first, second in zip(off.cpu_ms, control.cpu_ms, strict=True)]
    over = [(dear / cheap - 1) * 100 for dear, cheap in zip(on.cpu_ms, plain, strict=True)]
    apart = [abs(first / second - 1) * 100 for first, second in zip(off.cpu_ms, control.cpu_ms, strict=True)]
    cpu_on, cpu_off = statistics.median(on.cpu_ms), statistics.median(plain)
    without_ms = off.turns_ms + control.turns_ms
    turn_on, turn_off = distribution(on.turns_ms), distribution(without_ms)
    noise_ms = abs(distribution(off.turns_ms)["p50"] - distribution(control.turns_ms)["p50"])
    return [
        Figure(
            bench="observability",
            name="processor time of a call, all processes and nats-server, on over off",
            unit="%",
            statistics={"value": statistics.median(over), "least": min(over), "most": max(over)},
            limits=(Limit(statistic="value", value=CPU_LIMIT_PERCENT),),
            note=f"{cpu_on:.0f} ms against {cpu_off:.0f} ms a call, of {ROUNDS} rounds the median; two systems without "
            f"differ by {statistics.median(apart):.1f} % in a round; {sent}",
        ),
        Figure(
            bench="observability",
            name="turn overhead, on less off, median",
            unit="ms",
            statistics={"value": turn_on["p50"] - turn_off["p50"]},
            limits=(Limit(statistic="value", value=TURN_LIMIT_MS),),
            note=f"p50 {turn_on['p50']:.1f} ms against {turn_off['p50']:.1f} ms, p95 {turn_on['p95']:.1f} against "
            f"{turn_off['p95']:.1f}, n {len(on.turns_ms)} and {len(without_ms)}; two systems without differ by "
            f"{noise_ms:.2f} ms in all",
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
async def _side(endpoint: str, figures: Figures) -> AsyncIterator[Side]:
    environment = dict(ENVIRONMENT)
    ports = range(0)
    if endpoint:
        first = _free_ports(PROCESSES)
        ports = range(first, first + PROCESSES)
        environment |= {"CALLBUS_TRACING__ENDPOINT": endpoint, "CALLBUS_METRICS__PORT": str(first)}
    with tempfile.TemporaryDirectory(prefix="callbus-bench-") as folder:
        supervisor = Supervisor(SystemPlan(settings=load(environment), data=Path(folder), environment=environment))
        await supervisor.start()
        side = Side(supervisor, ports, figures)
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
