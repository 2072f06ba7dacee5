"""Everything on one machine: nats-server, topology, every service a process of its own, watched and restarted.

``callbus up``, ``callbus demo`` and the benches stand on it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bus.client import connect
from bus.edges import LOST_CALLS
from bus.errors import BusError, BusUnavailable
from bus.interface import Connection, Message
from bus.provision import apply
from bus.server import ANY_PORT
from config.load import load
from config.settings import EdgeSection, MetricsSection, Settings
from edge.net.udp import PortTakenError, bind_sip
from ops.broker import FolderLock, OwnServer
from ops.dead_calls import end_dead_calls
from ops.process import ChildProcess, StartError, State
from ops.secured import SecuredFolder
from schemas.call import CallEnded
from schemas.session import Stage, WorkerRecord
from schemas.subjects import heartbeat

MODULES = {"edge": "edge", "asr": "services.asr", "llm": "services.llm", "tts": "services.tts"}
STOP_ORDER = (("edge",), ("asr", "llm", "tts"))
"""First the edges, which end the calls; then, together, the stages that work for them."""
KEYS_ONLY = "keys"
MAX_QUICK_DEATHS = 3
"""A child that dies this often before it is ever ready can't start: the whole system stops with its last words."""
RESTART_PAUSE_S = 0.2
MAX_RESTART_PAUSE_S = 5.0
SILENT_S = 2.0
"""A process that runs without a heartbeat for this long is shown as silent."""
HURRIED_S = 0.5

__all__ = ["MODULES", "ProcessStatus", "StartError", "Supervisor", "SystemPlan"]


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One row of the status table."""

    name: str
    state: str
    pid: int
    calls: int
    slots: int
    restarts: int
    ready_ms: float | None
    resident_mb: float | None


@dataclass(slots=True)
class SystemPlan:
    """What to run.

    Attributes:
        data: folder of the store and the logs; no other supervisor may use it at the same time.
        nats_url: empty: start a server of our own with its store in ``data``.
        nats_port: of a server of our own: this one where it is free, else any.
        secure: a server of our own with one user per service, as nats.conf has it: ``keys`` without TLS, ``tls``,
            ``mutual``; empty: without keys, for this machine alone.
        workers: processes per service, one where it does not say; 0: none.
        environment: variables of the children, over those of this process.
        drain_s: how long each process may drain at the end.
        edge_drain_s: the same for the calls of an edge, where that is another time.
    """

    settings: Settings
    data: Path
    nats_url: str = ""
    nats_port: int = ANY_PORT
    secure: str = ""
    workers: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    drain_s: float = 10.0
    edge_drain_s: float = 0.0
    ready_timeout_s: float = 40.0
    say: Callable[[str], None] = lambda text: None

    @property
    def call_drain_s(self) -> float:
        """How long running calls have to end."""
        return self.edge_drain_s or self.drain_s


def secured_folder(plan: SystemPlan) -> SecuredFolder:
    """Where a secured plan has its keys."""
    return SecuredFolder(plan.data, "" if plan.secure == KEYS_ONLY else plan.secure)


class Supervisor:
    """Starts, watches, stops. Use ``start``, then ``watch`` until something is enough, then ``stop``."""

    def __init__(self, plan: SystemPlan) -> None:
        self._plan = plan
        drain = {
            "CALLBUS_OWNERSHIP__DRAIN_MS": str(int(plan.drain_s * 1000)),
            "CALLBUS_EDGE__DRAIN_MS": str(int(plan.edge_drain_s * 1000)),
        }
        self._environment = {**os.environ, **drain, **plan.environment}
        self._lock = FolderLock(plan.data)
        self._server: OwnServer | None = None
        self._secured: SecuredFolder | None = None
        self._connection: Connection | None = None
        self._records: dict[int, WorkerRecord] = {}
        self._heard: dict[int, float] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[str] | None = None
        self._stopping = False
        self._hurried = False
        self._last_words: dict[str, str] = {}
        self._uncounted: list[CallEnded] = []
        self.children: list[ChildProcess] = []
        self.nats_url = plan.nats_url

    @property
    def connection(self) -> Connection:
        """The supervisor's own connection. Raises ``StartError`` before ``start``."""
        if self._connection is None:
            raise StartError("the system is not started")
        return self._connection

    @property
    def server_pid(self) -> int:
        """Process id of the nats-server that was started here; 0 where one was given."""
        return self._server.pid if self._server is not None else 0

    @property
    def sip_ports(self) -> tuple[int, ...]:
        """The SIP port of every edge that is ready, the first edge's first."""
        return tuple(int(edge.figures["sip_port"]) for edge in self._edges() if edge.figures.get("sip_port"))

    @property
    def edge_names(self) -> tuple[str, ...]:
        """What the edges that are ready call themselves in ``call.offered``."""
        return tuple(edge.worker for edge in self._edges())

    @property
    def sip_port(self) -> int:
        """The SIP port of the first edge; 0 before it is ready."""
        return next(iter(self.sip_ports), 0)

    async def start(self) -> None:
        """Start everything and wait until each process heartbeats.

        Raises:
            StartError: something can't start, or is not ready in time.
            ConfigError: a setting that the children would get is not allowed.
        """
        self._failed = asyncio.get_running_loop().create_future()
        self._lock.take()
        try:
            settings = load(self._environment)
            edges = edge_environments(settings.edge, self._plan.workers.get("edge", 1))
            (self._plan.data / "logs").mkdir(exist_ok=True)
            await self._start_bus()
            for stage, module in MODULES.items():
                for number in range(1, self._plan.workers.get(stage, 1) + 1):
                    own = edges[number - 1] if stage == "edge" else {}
                    own = own | metrics_environment(settings.metrics, len(self.children))
                    await self._start_child(f"{stage}-{number}", module, own)
            await self._wait_ready()
        except BaseException:
            await self.stop()
            raise

    async def watch(self, until: asyncio.Event) -> None:
        """Wait until ``until`` is set; restart what dies meanwhile.

        Raises:
            StartError: a process can't be started again.
        """
        assert self._failed is not None, "start() comes first"
        waiter = asyncio.create_task(until.wait())
        watched: set[asyncio.Future[object]] = {waiter, self._failed}  # type: ignore[arg-type]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self._failed.done():
            raise StartError(self._failed.result())

    async def stop(self) -> None:
        """Drain the edges, then the stages behind them, then end the bus. Safe to call twice."""
        self._stopping = True
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for stages in STOP_ORDER:
            group = [child for child in self.children if child.name.split("-")[0] in stages]
            drain_s = self._plan.call_drain_s if "edge" in stages else self._plan.drain_s
            timeout_s = HURRIED_S if self._hurried else drain_s + 2
            await asyncio.gather(*(child.stop(timeout_s) for child in group))
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        if self._server is not None:
            await self._server.close()
        self._lock.release()

    def hurry(self) -> None:
        """End the drain that ``stop`` waits for: running calls are hung up now."""
        self._hurried = True
        for child in self.children:
            child.tell_to_stop()

    def status(self) -> list[ProcessStatus]:
        """A row per process; calls and slots 0 where it has none, or is not heard."""
        rows = []
        if self._server is not None:
            server = self._server
            shown = (server.state.value, server.pid, 0, 0, server.restarts, server.ready_ms, server.resident_mb())
            rows.append(ProcessStatus("nats-server", *shown))
        for child in self.children:
            record = self._records.get(child.pid)
            rows.append(
                ProcessStatus(
                    name=child.name,
                    state=self._state_of(child).value,
                    pid=child.pid,
                    calls=record.calls if record else 0,
                    slots=record.slots if record else 0,
                    restarts=child.restarts,
                    ready_ms=child.ready_ms,
                    resident_mb=child.resident_mb(),
                )
            )
        return rows

    def _edges(self) -> list[WorkerRecord]:
        records = (self._records.get(child.pid) for child in self.children if child.name.startswith("edge-"))
        return [record for record in records if record is not None]

    def _state_of(self, child: ChildProcess) -> State:
        heard = self._heard.get(child.pid, 0.0)
        return State.SILENT if child.state is State.READY and time.monotonic() - heard > SILENT_S else child.state

    async def _start_bus(self) -> None:
        plan = self._plan
        section = plan.settings.nats
        if not self.nats_url:
            config = None
            if plan.secure:
                self._secured = secured_folder(plan)
                config = self._secured.prepare()
                section = self._secured.section("ops", section)
            self._server = OwnServer(plan.data, plan.nats_port, config=config)
            self._server.start()
            self.nats_url = self._server.url
            self._watchers.append(asyncio.create_task(self._keep_server(self._server), name="keep nats-server running"))
            plan.say(f"nats-server at {self.nats_url}")
        section = msgspec.structs.replace(section, url=self.nats_url)
        try:
            self._connection = await connect("callbus-up", section, wait=False)
            await apply(self._connection, plan.settings.streams)
        except BusUnavailable as error:
            raise StartError(f"{error}; start nats-server, or leave NATS_URL unset to have one started here") from error
        except BusError as error:
            raise StartError(f"the streams can't be provisioned: {error}") from error
        if self._server is not None:
            # A server of our own: no edge of before can still live.
            await self._end_dead_calls(None)
        await self._connection.subscribe(heartbeat("*", "*"), self._on_heartbeat)

    async def _end_dead_calls(self, edges: Collection[str] | None) -> None:
        try:
            ended = await end_dead_calls(self.connection, edges)
        except BusError as error:
            self._plan.say(f"calls of a dead edge could not be ended: {error}")
            return
        self._uncounted += ended
        if ended:
            self._plan.say(f"{len(ended)} call(s) had lost their edge; recorded as ended")

    async def _start_process(self, child: ChildProcess) -> None:
        """Start it, for the first time or again. An edge counts the calls that died with another."""
        if child.module != MODULES["edge"]:
            await child.start()
            return
        lost, self._uncounted = self._uncounted, []
        await child.start({LOST_CALLS: ",".join(str(end.duration_ms) for end in lost)})

    async def _keep_server(self, server: OwnServer) -> None:
        try:
            await server.keep_running(self._plan.say)
        except StartError as error:
            self._fail(str(error))

    async def _start_child(self, name: str, module: str, own: Mapping[str, str]) -> None:
        identity = self._secured.environment(name.rsplit("-", 1)[0]) if self._secured is not None else {}
        environment = {**self._environment, **own, **identity, "NATS_URL": self.nats_url}
        environment.pop("CALLBUS_NATS__URL", None)
        child = ChildProcess(name, module, environment, self._plan.data / "logs" / f"{name}.log")
        self.children.append(child)
        await self._start_process(child)
        self._watchers.append(asyncio.create_task(self._keep_running(child), name=f"keep {name} running"))

    async def _keep_running(self, child: ChildProcess) -> None:
        deaths_in_a_row = 0
        while True:
            pid = child.pid
            code = await child.wait()
            record = self._records.pop(pid, None)
            self._heard.pop(pid, None)
            if self._stopping:
                return
            was_ready = child.state is State.READY
            deaths_in_a_row = 0 if was_ready else deaths_in_a_row + 1
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            # Exit status 2 is a wrong setting: it will be as wrong the next time.
            if code == 2 or deaths_in_a_row >= MAX_QUICK_DEATHS:
                child.state = State.FAILED
                self._fail(f"{child.name} can't start ({how}):\n{child.log_tail()}")
                return
            child.state = State.RESTARTING
            self._last_words[child.name] = f"  {how}; its last words:\n{child.log_tail()}"
            self._plan.say(f"{child.name} ended ({how}); starting it again")
            if record is not None and record.stage is Stage.EDGE:
                await self._end_dead_calls({record.worker})
            await asyncio.sleep(min(RESTART_PAUSE_S * 2**deaths_in_a_row, MAX_RESTART_PAUSE_S))
            child.restarts += 1
            await self._start_process(child)

    def _fail(self, text: str) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(text)

    async def _wait_ready(self) -> None:
        assert self._failed is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._plan.ready_timeout_s
        while any(child.state is not State.READY for child in self.children):
            if self._failed.done():
                raise StartError(self._failed.result())
            if loop.time() > deadline:
                late = [child for child in self.children if child.state is not State.READY]
                words = "\n".join(f"{child.name}:\n{self._words_of(child)}" for child in late)
                raise StartError(f"not ready after {self._plan.ready_timeout_s:.0f} s: {words}")
            await asyncio.sleep(0.02)

    def _words_of(self, child: ChildProcess) -> str:
        """What it says; where this run has said nothing yet, how the run before it ended."""
        return child.log_tail() or self._last_words.get(child.name, "  it has said nothing yet")

    def _on_heartbeat(self, message: Message) -> None:
        try:
            record = msgspec.json.decode(message.data, type=WorkerRecord)
        except msgspec.MsgspecError:
            return
        for child in self.children:
            if child.pid and child.pid == record.process_id:
                self._records[child.pid] = record
                self._heard[child.pid] = time.monotonic()
                child.mark_ready()


def edge_environments(section: EdgeSection, count: int) -> list[dict[str, str]]:
    """What each of ``count`` edges gets of its own: the SIP ports that follow the first one, its part of the RTP range.

    Raises:
        StartError: one of the SIP ports is taken; the text names the setting.
    """
    found = []
    width = (section.rtp_port_max + 1 - section.rtp_port_min) // max(count, 1) // 2 * 2
    for number in range(count):
        own: dict[str, str] = {}
        port = section.sip_port + number if section.sip_port else 0
        if port:
            _check_sip_port(section, port)
        if number and port:
            own["CALLBUS_EDGE__SIP_PORT"] = str(port)
        if count > 1 and section.rtp_port_min:
            first = section.rtp_port_min + number * width
            own |= {"CALLBUS_EDGE__RTP_PORT_MIN": str(first), "CALLBUS_EDGE__RTP_PORT_MAX": str(first + width - 1)}
        found.append(own)
    return found


def metrics_environment(section: MetricsSection, place: int) -> dict[str, str]:
    """The metrics port of the process that is started as number ``place`` (from 0); nothing where none is wanted."""
    return {"CALLBUS_METRICS__PORT": str(section.port + place)} if section.port and place else {}


def _check_sip_port(section: EdgeSection, port: int) -> None:
    try:
        udp, stream = bind_sip(section.host, port, tcp=section.sip_tcp)
    except PortTakenError as error:
        raise StartError(str(error)) from error
    udp.close()
    if stream is not None:
        stream.close()
