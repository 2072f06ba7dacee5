"""Everything on one machine: nats-server, topology, every service a process of its own, watched and restarted.

``callbus up``, ``callbus demo`` and the benches stand on it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bus.client import connect
from bus.errors import BusError, BusUnavailable
from bus.interface import Connection, Message
from bus.provision import apply
from bus.server import DEFAULT_CONFIG, NatsServerProcess
from config.settings import Settings
from ops.process import ChildProcess, State
from schemas.session import WorkerRecord
from schemas.subjects import heartbeat

MODULES = {"edge": "edge", "asr": "services.asr", "llm": "services.llm", "tts": "services.tts"}
STOP_ORDER = ("edge", "asr", "llm", "tts")
MAX_QUICK_DEATHS = 3
"""A child that dies this often before it is ever ready can't start: the whole system stops with its last words."""
RESTART_PAUSE_S = 0.2
MAX_RESTART_PAUSE_S = 5.0


class StartError(RuntimeError):
    """A process can't start; the text says which one and holds its last log lines."""


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
    """What to run. ``nats_url`` empty: start a server of our own with its store in ``data``. ``workers``: processes per
    service, one where it does not say; 0: none."""

    settings: Settings
    data: Path
    nats_url: str = ""
    workers: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    drain_s: float = 10.0
    ready_timeout_s: float = 40.0
    say: Callable[[str], None] = lambda text: None


class Supervisor:
    """Starts, watches, stops. Use ``start``, then ``watch`` until something is enough, then ``stop``."""

    def __init__(self, plan: SystemPlan) -> None:
        self._plan = plan
        self._server: NatsServerProcess | None = None
        self._connection: Connection | None = None
        self._records: dict[int, WorkerRecord] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[str] | None = None
        self._stopping = False
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
    def sip_port(self) -> int:
        """The SIP port of the first edge; 0 before it is ready."""
        for record in self._records.values():
            if record.stage == "edge" and record.figures.get("sip_port"):
                return int(record.figures["sip_port"])
        return 0

    async def start(self) -> None:
        """Start everything and wait until each process heartbeats.

        Raises:
            StartError: something can't start, or is not ready in time.
        """
        self._failed = asyncio.get_running_loop().create_future()
        try:
            await self._start_bus()
            for stage, module in MODULES.items():
                for number in range(1, self._plan.workers.get(stage, 1) + 1):
                    await self._start_child(f"{stage}-{number}", module)
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
        """Drain in the order of a caller's voice, then the bus. Safe to call twice."""
        self._stopping = True
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for stage in STOP_ORDER:
            group = [child for child in self.children if child.name.startswith(f"{stage}-")]
            await asyncio.gather(*(child.stop(self._plan.drain_s + 2) for child in group))
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        if self._server is not None:
            await asyncio.to_thread(self._server.close)
            self._server = None

    def status(self) -> list[ProcessStatus]:
        """A row per process."""
        rows = []
        for child in self.children:
            record = self._records.get(child.pid)
            rows.append(
                ProcessStatus(
                    name=child.name,
                    state=child.state.value,
                    pid=child.pid,
                    calls=record.calls if record else 0,
                    slots=record.slots if record else 0,
                    restarts=child.restarts,
                    ready_ms=child.ready_ms,
                    resident_mb=child.resident_mb(),
                )
            )
        return rows

    async def _start_bus(self) -> None:
        plan = self._plan
        if not self.nats_url:
            plan.data.mkdir(parents=True, exist_ok=True)
            self._server = NatsServerProcess(
                plan.data / "jetstream",
                config=DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None,
                log_file=plan.data / "nats-server.log",
            )
            try:
                self._server.start()
            except BusUnavailable as error:
                raise StartError(str(error)) from error
            self.nats_url = self._server.url
            plan.say(f"nats-server at {self.nats_url}")
        section = msgspec.structs.replace(plan.settings.nats, url=self.nats_url)
        try:
            self._connection = await connect("callbus-up", section, wait=False)
            await apply(self._connection, plan.settings.streams)
        except BusUnavailable as error:
            raise StartError(f"{error}; start nats-server, or leave NATS_URL unset to have one started here") from error
        except BusError as error:
            raise StartError(f"the streams can't be provisioned: {error}") from error
        await self._connection.subscribe(heartbeat("*", "*"), self._on_heartbeat)

    async def _start_child(self, name: str, module: str) -> None:
        logs = self._plan.data / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        drain_ms = str(int(self._plan.drain_s * 1000))
        environment = {
            **os.environ,
            "CALLBUS_OWNERSHIP__DRAIN_MS": drain_ms,
            **self._plan.environment,
            "NATS_URL": self.nats_url,
        }
        environment.pop("CALLBUS_NATS__URL", None)
        child = ChildProcess(name, module, environment, logs / f"{name}.log")
        self.children.append(child)
        await child.start()
        self._watchers.append(asyncio.create_task(self._keep_running(child), name=f"keep {name} running"))

    async def _keep_running(self, child: ChildProcess) -> None:
        deaths_in_a_row = 0
        while True:
            code = await child.wait()
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
            self._plan.say(f"{child.name} ended ({how}); starting it again")
            await asyncio.sleep(min(RESTART_PAUSE_S * 2**deaths_in_a_row, MAX_RESTART_PAUSE_S))
            child.restarts += 1
            await child.start()

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
                words = "\n".join(f"{child.name}:\n{child.log_tail()}" for child in late)
                raise StartError(f"not ready after {self._plan.ready_timeout_s:.0f} s: {words}")
            await asyncio.sleep(0.02)

    def _on_heartbeat(self, message: Message) -> None:
        try:
            record = msgspec.json.decode(message.data, type=WorkerRecord)
        except msgspec.MsgspecError:
            return
        self._records[record.process_id] = record
        for child in self.children:
            if child.pid == record.process_id:
                child.mark_ready()
