"""The life of a process: settings, logs, connection, topology, readiness, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any, NoReturn

import uvloop

from bus import client, logs, pages, topology, tracing_setup
from bus.errors import BusError, NotProvisioned
from bus.health import Health
from bus.heartbeat import Heartbeat
from bus.interface import Connection
from bus.log_levels import LevelControl
from bus.micro import MicroService
from bus.vitals import Vitals
from config.load import ConfigError, load
from config.settings import LogSection, Settings
from schemas import subjects
from schemas.session import Stage

Main = Callable[["ServiceContext"], Awaitable[None]]

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 2
TOPOLOGY_RETRY_S = 1.0
SAY_AGAIN_S = 5.0
GRACE_AFTER_DRAIN_MS = 2000
"""Beyond the time that a process has to drain, for closing what the drain left open."""


def ownership_drain_ms(settings: Settings) -> int:
    """How long a process may drain that has no setting of its own for it."""
    return settings.ownership.drain_ms


class ServiceContext:
    """What a process has.

    Attributes:
        settings: all of them, read once.
        connection: the process's only connection.
        worker: its own name, one token: ``asr-1f3a90c2``.
        stopping: set at SIGTERM or SIGINT: drain and return from ``main``.
        log: the process's logger.
        health: what the pages and the endpoint ``health`` answer; add to its ``checks`` what the process needs to work.
    """

    def __init__(
        self, name: str, settings: Settings, connection: Connection, worker: str, health: Health | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self.connection = connection
        self.worker = worker
        self.stopping = asyncio.Event()
        self.log: Any = logs.get_logger(name)
        self.health = health or Health(name, worker)
        self.health.checks.insert(0, self._bus_lacks)
        self.micro = MicroService(
            connection,
            name=name,
            version=version(),
            instance=worker,
            description=f"callbus {name}",
            metadata={"worker": worker, "pid": str(os.getpid()), "ready": "false"},
            health=self._health,
        )

    async def ready(self) -> None:
        """Say that the process takes work from now on: a log line, and ``ready`` in the micro service's metadata."""
        self.health.is_ready = True
        logs.callers_are_heard()
        self.micro.metadata["ready"] = "true"
        self.log.info("ready", message=f"{self.name} is ready", pid=os.getpid())

    def heartbeat(self, stage: Stage, slots: int, engine: str = "") -> Heartbeat:
        """A heartbeat for a process without :class:`bus.ownership.StageOwner`; to be started and stopped by it."""
        return Heartbeat(
            self.connection, stage, self.worker, settings=self.settings.ownership, slots=slots, engine=engine
        )

    def _health(self) -> dict[str, Any]:
        self.health.beat()
        return {
            **self.health.ready(),
            "connected": self.connection.connected,
            "stopping": self.stopping.is_set(),
            "log_level": logs.level(),
        }

    def _bus_lacks(self) -> str:
        if self.connection.connected:
            return ""
        where = servers(self.settings)
        return f"{self.name} has lost NATS at {where} and connects anew; is nats-server running there?"


def version() -> str:
    """Of the installed package; ``0.0.0`` where the program runs from its source alone."""
    try:
        return metadata.version("callbus")
    except metadata.PackageNotFoundError:
        return "0.0.0"


def servers(settings: Settings) -> str:
    """The NATS servers of the settings, for people: without what stands before an ``@``."""
    return ", ".join(
        f"{scheme}//{rest.rpartition('@')[2]}" if rest else scheme
        for scheme, _, rest in (url.strip().partition("//") for url in settings.nats.url.split(","))
    )


def refuse(name: str, error: Exception) -> NoReturn:
    """Leave with exit code 2, for a setting that is not allowed: a log line in the format that the environment names,
    for the settings themselves can't be read."""
    wanted = os.environ.get("CALLBUS_LOG__FORMAT", "")
    section = LogSection(format=wanted) if wanted in ("json", "human", "google") else LogSection()  # type: ignore[arg-type]
    logs.configure(section, name, name)
    logs.get_logger(name).error("bad_setting", message=f"{name} can't start: {error}")
    raise SystemExit(EXIT_CONFIG)


def run_service(name: str, main: Main, drain_ms: Callable[[Settings], int] = ownership_drain_ms) -> None:
    """Run a process until it is told to stop, then end the interpreter.

    Exit codes: 0 stopped as told, 1 ``main`` failed, 2 a setting is not allowed (the text names it). The first SIGTERM
    or SIGINT sets ``context.stopping``; ``main`` then has ``drain_ms`` to hand its work over. The second ends the
    process at once.
    """
    try:
        settings = load()
        tracing_setup.read_headers(settings.tracing.headers_file)
    except ConfigError as error:
        refuse(name, error)
    worker = f"{name.replace('.', '-')}-{os.urandom(4).hex()}"
    logs.configure(settings.log, name, worker)
    logs.take_over_standard_error()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_Process(name, settings, worker, main, drain_ms(settings)).run())
    raise SystemExit(code)


class _Process:
    """One run of a process, from connecting to its exit code."""

    def __init__(self, name: str, settings: Settings, worker: str, main: Main, drain_ms: int) -> None:
        self._name = name
        self._settings = settings
        self._worker = worker
        self._main = main
        self._drain_ms = drain_ms
        self._log = logs.get_logger(name)
        self._told_to_stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self._health = Health(name, worker)
        self._vitals: Vitals

    async def run(self) -> int:
        """From the first page served to the exit code."""
        end_pages = pages.serve(self._settings.metrics, self._health)
        beats = asyncio.create_task(self._health.beat_forever(), name="health")
        self._vitals = Vitals(self._name, version(), self._health)
        try:
            return await self._connect_and_run()
        except BusError as error:
            self._log.error("bus_refused", message=f"{self._name} can't use the bus: {error}")
            return EXIT_FAILED
        finally:
            beats.cancel()
            self._vitals.end()
            end_pages()

    async def _connect_and_run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        where = servers(self._settings)
        self._health.waits_for = f"{self._name} waits for NATS at {where}: start nats-server there, or mend NATS_URL"
        try:
            connection = await self._unless_stopped(client.connect(self._worker, self._settings.nats))
        except BusError as error:  # a server that is away, or refuses, is waited for; a wrong file is a wrong setting
            self._log.error("bus_settings", message=f"{self._name} can't start: {error}")
            return EXIT_CONFIG
        if connection is None:
            return EXIT_OK
        self._vitals.connected(connection)
        traces = None
        if self._settings.tracing.endpoint and self._name in tracing_setup.STAGES:
            traces = await tracing_setup.start(self._settings, self._name, self._worker, version(), connection)
        context = ServiceContext(self._name, self._settings, connection, self._worker, self._health)
        levels = LevelControl(connection, self._name, self._worker, self._settings.log.level)
        try:
            await context.micro.start()
            await levels.start()
            if await self._unless_stopped(self._wait_for_topology(connection)) is None:
                return EXIT_OK
            return await self._run_main(context)
        finally:
            with contextlib.suppress(BusError):
                await levels.stop()
                await context.micro.stop()
            if traces is not None:
                await traces.close(wait=not self._at_once.is_set())
            await connection.close(0 if self._at_once.is_set() else 2000)

    async def _run_main(self, context: ServiceContext) -> int:
        self._health.waits_for = f"{self._name} is starting: it loads its engines or opens its ports"
        main = asyncio.create_task(self._until_done(context))
        stop = asyncio.create_task(self._told_to_stop.wait())
        try:
            await asyncio.wait({main, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not main.done():
                self._health.draining = True
                context.stopping.set()
                await self._drain(main)
            return self._exit_code(main)
        finally:
            stop.cancel()

    async def _until_done(self, context: ServiceContext) -> int:
        """Run ``main``. It may leave with ``SystemExit``, which must not end the event loop before the drain."""
        try:
            await self._main(context)
        except SystemExit as leaving:
            return leaving.code if isinstance(leaving.code, int) else EXIT_FAILED if leaving.code else EXIT_OK
        return EXIT_OK

    async def _drain(self, main: asyncio.Task[int]) -> None:
        """Let ``main`` end within its deadline; cancel it after that, or at the second signal."""
        timeout_ms = self._drain_ms + GRACE_AFTER_DRAIN_MS
        at_once = asyncio.create_task(self._at_once.wait())
        waiting: set[asyncio.Future[Any]] = {main, at_once}
        await asyncio.wait(waiting, timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not main.done():
            why = "a second signal came" if self._at_once.is_set() else f"it did not end within {timeout_ms} ms"
            self._log.warning("stopped_hard", message=f"{self._name} is stopped at once: {why}")
            main.cancel()
            await asyncio.wait({main}, timeout=1.0)

    def _exit_code(self, main: asyncio.Task[int]) -> int:
        if not main.done() or main.cancelled():
            return EXIT_OK if self._told_to_stop.is_set() else EXIT_FAILED
        error = main.exception()
        if error is None:
            if main.result() == EXIT_OK:
                self._log.info("stopped", message=f"{self._name} has stopped")
            return main.result()
        self._log.error("crashed", message=f"{self._name} failed: {logs.describe(error)}", exc_info=error)
        return EXIT_FAILED

    async def _wait_for_topology(self, connection: Connection) -> bool:
        """Wait until everything that ``bus.topology`` declares can be bound."""
        loop = asyncio.get_running_loop()
        said_at = -SAY_AGAIN_S
        while True:
            try:
                await bind_all(connection, self._settings, self._name)
                return True
            except BusError as error:
                self._health.waits_for = f"{self._name} waits: {error}"
                if loop.time() - said_at >= SAY_AGAIN_S:
                    said_at = loop.time()
                    event = "not_provisioned" if isinstance(error, NotProvisioned) else "bus_not_ready"
                    self._log.warning(event, message=f"{self._name} waits: {error}")
            await asyncio.sleep(TOPOLOGY_RETRY_S)

    async def _unless_stopped(self, work: Awaitable[Any]) -> Any:
        """The result of ``work``, or None where the process is told to stop first."""
        task = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._told_to_stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            return task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._told_to_stop.is_set():
            self._at_once.set()
        else:
            self._log.info("stopping", message=f"{self._name} received {name} and hands its work over")
        self._told_to_stop.set()

    def _on_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What no task and no handler caught: logged, never silent, and no reason to stop."""
        # Arguments of a callback stand behind its name, and may be what somebody said.
        what = re.split(r"[(<]", str(context.get("message", "")))[0].strip()
        self._log.error(
            "unhandled",
            message=f"unhandled in the event loop: {what}",
            exc_info=context.get("exception"),
        )


async def bind_all(connection: Connection, settings: Settings, service: str = "") -> None:
    """Bind every consumer, bucket and copy that ``service`` uses once; of an unknown service, all but copies.

    Raises:
        NotProvisioned: one of them is missing; the text says what to do.
        BusError: the server does not answer.
    """
    wanted = topology.topology(settings.streams)
    everything = ([each.name for each in wanted.consumers], [each.name for each in wanted.buckets])
    consumers, buckets = topology.BINDS.get(service, everything)
    for consumer in wanted.consumers:
        if consumer.name in consumers:
            await connection.work_queue(consumer.name, consumer.stream)
    for bucket in buckets:
        await connection.bucket(bucket)
    if (copy := topology.READS_COPY.get(service)) is not None:
        async for _ in connection.read(subjects.event_subject("call.offered", "nobody"), stream=copy):
            break
