"""The edge as a process: start, heartbeat, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import time
from collections.abc import Callable

from bus.consume import follow_all
from bus.edges import LOST_CALLS
from bus.errors import BusError
from bus.heartbeat import Heartbeat, WorkerDirectory
from bus.interface import Subscription
from bus.logs import callers_are_heard, get_logger
from bus.metrics import calls, media
from bus.service import ServiceContext
from config.load import ConfigError
from config.settings import Settings
from edge.admission import Admission, parse_stages
from edge.net.ports import PortPool
from edge.net.udp import PortTakenError
from edge.switchboard import Switchboard
from schemas.session import Stage

log = get_logger(__name__)

HEARD = ("edge.lost",)
"""Events of all calls that an edge follows: what another process says of a call that is its own."""

FIGURES_INTERVAL_S = 1.0
GOODBYE_S = 0.5
"""How long the last BYEs may wait for their answers."""
STORE_S = 1.2
"""How long the record of the last calls may take at the end; with the above it is within what `bus.service` grants."""
FILES_BESIDE_CALLS = 256
FILES_A_CALL = 2
REALTIME_PRIORITY = 10
"""Of 1 to 99: above everything ordinary, below the kernel's own threads (50)."""

STAGES_HEARD_S = 1.0
"""Longest wait at start for a heartbeat of every required stage; without one the edge starts and refuses calls."""


class EdgeProcess:
    """One edge: everything between :meth:`start` and :meth:`stop`."""

    def __init__(self, context: ServiceContext) -> None:
        """Nothing listens before :meth:`start`.

        Raises:
            ConfigError: a setting that the types alone can't refuse.
        """
        self._context = context
        self._settings = context.settings.edge
        self._workers = WorkerDirectory(context.connection)
        try:
            required = parse_stages(self._settings.required_stages)
            ports = PortPool(
                self._settings.host,
                self._settings.rtp_port_min,
                self._settings.rtp_port_max,
                self._settings.port_drain_ms,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self.admission = Admission(
            self._settings.max_calls, required, self._workers, self._settings.max_calls_per_caller
        )
        self.switchboard = Switchboard(
            self._settings, context.connection, edge=context.worker, admission=self.admission, ports=ports
        )
        self._heartbeat = Heartbeat(
            context.connection,
            Stage.EDGE,
            context.worker,
            settings=context.settings.ownership,
            slots=self._settings.max_calls,
        )
        self.switchboard.hears = lambda edge: any(edge == each.worker for each in self._workers.workers("edge"))
        self._figures_task: asyncio.Task[None] | None = None
        self._ends: Subscription

    @property
    def sip_port(self) -> int:
        """The port that SIP really listens on."""
        return self.switchboard.signalling.port

    async def start(self) -> None:
        """Listen.

        Raises:
            PortTakenError: the SIP port is in use.
            NotProvisioned: the bus lacks what `callbus provision` makes.
        """
        raise_file_limit(FILES_BESIDE_CALLS + FILES_A_CALL * self._settings.max_calls)
        raise_priority(self._settings.niceness, self._settings.realtime)
        await self._workers.start()
        calls.expect_lost(int(each) for each in os.environ.get(LOST_CALLS, "").split(",") if each.isdigit())
        self._ends = await follow_all(self._context.connection, HEARD, self.switchboard.on_edge_lost, service="edge")
        callers_are_heard()
        await self.switchboard.signalling.start(self._settings.sip_port, tcp=self._settings.sip_tcp)
        self.switchboard.pacer.start()
        # An edge that has not yet heard the workers would refuse its first calls: ready means ready to answer.
        await wait_until(lambda: self.admission.refusal(calls=0, bus_connected=True) is None, STAGES_HEARD_S)
        self._heartbeat.figures = {"sip_port": float(self.sip_port)}
        await self._heartbeat.start()
        self._figures_task = asyncio.get_running_loop().create_task(self._tell_figures(), name="edge-figures")
        spare_the_collector()
        transports = "UDP and TCP" if self._settings.sip_tcp else "UDP"
        log.info(
            "listening",
            message=f"SIP on {self._settings.host} port {self.sip_port} ({transports})",
            host=self._settings.host,
            sip_port=self.sip_port,
        )

    def lacks(self) -> str:
        """The first required stage of which no worker is heard, and what to do; empty: all are there."""
        for stage in self.admission.required:
            if not self._workers.workers(stage.value):
                return (
                    f"edge refuses calls: no {stage.value} worker is heard; start one, or see why it does not come: "
                    f"callbus health {stage.value}"
                )
        return ""

    async def stop(self) -> None:
        """Refuse new calls, let running ones go on for ``drain_ms``, then hang up and store what is to be stored."""
        self.admission.draining = True
        self._heartbeat.draining = True
        self._heartbeat.beat()
        calls = self.switchboard.calls
        if calls:
            log.info("draining", message=f"{len(calls)} calls go on; new ones are refused", calls=len(calls))
        # A second signal cancels this wait alone: the callers are still told that it is over.
        with contextlib.suppress(asyncio.CancelledError):
            await wait_until(lambda: not calls, drain_ms(self._context.settings) / 1000)
        self.switchboard.hang_up_all("edge_stopping")
        agent = self.switchboard.signalling.agent
        await wait_until(lambda: agent.next_deadline() is None, GOODBYE_S)
        if self._figures_task is not None:
            self._figures_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._figures_task
        self.switchboard.pacer.stop()
        await self.switchboard.close(STORE_S)
        self.switchboard.signalling.close()
        with contextlib.suppress(BusError):
            await self._heartbeat.stop()
            await self._workers.close()
            await self._ends.close()

    async def _tell_figures(self) -> None:
        """Once a second: load and lateness into the heartbeat, idle connections out."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + FIGURES_INTERVAL_S
            await asyncio.sleep(FIGURES_INTERVAL_S)
            lag_ms = max(0.0, (loop.time() - due) * 1000)
            board = self.switchboard
            board.beat()
            board.signalling.sweep(time.monotonic())
            pacer = board.pacer.take_figures()
            media.PACER_LATE.add(pacer.buckets, pacer.total_ms / 1000)
            media.PACER_SKIPPED.inc(pacer.skipped)
            self._heartbeat.calls = len(board.calls)
            self._heartbeat.figures = {
                "sip_port": float(self.sip_port),
                "pacer_late_p50_ms": round(pacer.p50_ms, 3),
                "pacer_late_p99_ms": round(pacer.p99_ms, 3),
                "pacer_late_max_ms": round(pacer.max_ms, 3),
                "pacer_turns": float(pacer.turns),
                "pacer_skipped": float(pacer.skipped),
                "loop_lag_ms": round(lag_ms, 3),
                "cpu_s": round(time.process_time(), 3),
                "calls_refused": float(board.refused),
                "sip_defects": float(board.signalling.defects),
            }


def drain_ms(settings: Settings) -> int:
    """How long running calls may go on at a stop: a call can't be handed over to another edge, so a machine that takes
    part in a rolling restart gives them minutes, where a worker of a stage needs moments."""
    return settings.edge.drain_ms or settings.ownership.drain_ms


async def main(context: ServiceContext) -> None:
    """The edge, for ``bus.service.run_service``.

    Raises:
        SystemExit: 1 where the SIP port is taken, 2 where a setting is not allowed.
    """
    try:
        edge = EdgeProcess(context)
        await edge.start()
    except PortTakenError as error:
        log.error("sip_port_taken", message=str(error))
        raise SystemExit(1) from None
    except ConfigError as error:
        log.error("bad_setting", message=str(error))
        raise SystemExit(2) from None
    context.health.checks.append(edge.lacks)
    await context.ready()
    await context.stopping.wait()
    await edge.stop()


async def wait_until(condition: Callable[[], bool], timeout_s: float, step_s: float = 0.02) -> bool:
    """Whether ``condition`` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(step_s)
    return True


def raise_priority(niceness: int, realtime: bool) -> None:
    """Sound must not wait for others: ask the system for priority. Where it refuses, that is said and all goes on."""
    try:
        if realtime:
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(REALTIME_PRIORITY))
            return
    except OSError:
        log.info("realtime_not_allowed", message="the system does not allow [edge] realtime; niceness is used")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except OSError:
        log.info(
            "priority_not_allowed",
            message=f"the system does not allow [edge] niceness = {niceness}; on a busy machine packets may leave late",
        )


def spare_the_collector() -> None:
    """What exists at the start never becomes garbage; what calls leave behind is looked for less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def raise_file_limit(wanted: int) -> None:
    """Two sockets a call: raise the soft limit of open files as far as the hard one allows, and say where it ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "few_open_files",
            message=f"the system allows {allowed} open files, [edge] max_calls needs {wanted}: raise `ulimit -n`, or "
            "lower max_calls",
        )
