"""Traces of a process, from its first call to its exit: the observer, the exporter, and what processes tell each other.

Nothing of the SDK is loaded where no ``[tracing] endpoint`` is set.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bus import tracing
from bus.errors import BusError
from bus.guard import guard_of
from bus.interface import Connection, Message, Subscription
from bus.logs import get_logger
from bus.spans import Owner, Span, StageSpans, trace_id_of
from bus.spans_asr import TURN, AsrSpans
from bus.spans_edge import EdgeSpans
from bus.spans_llm import LlmSpans, Model
from bus.spans_tts import TtsSpans
from bus.tracing_calls import CallTraces, Rules
from bus.tracing_later import LaterObserver
from config.load import ConfigError
from config.settings import Settings

if TYPE_CHECKING:
    from bus.tracing_export import SpanQueue

log = get_logger(__name__)

TRACE_KEEP_SUBJECT = "trace.keep"
"""Body: the id of a call whose trace every process keeps, though it was not sampled."""
STAGES = ("edge", "asr", "llm", "tts")
"""Processes that have something to trace."""
SWEEP_S = 2.0


class ProcessTraces:
    """The traces of one process, between :func:`start` and :meth:`close`."""

    def __init__(self, calls: CallTraces, queue: SpanQueue) -> None:
        self.calls = calls
        self._later = LaterObserver(calls)
        self._queue = queue
        self._subscription: Subscription | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def open(self, connection: Connection, everything: bool) -> None:
        """Begin to observe. ``everything``: all calls are sampled, so that nobody need be asked to keep one."""
        tracing.observe(self._later)
        guard_of(connection).on_open(self.calls.release_held)
        self._sweep()
        if not everything:
            try:
                self._subscription = await connection.subscribe(TRACE_KEEP_SUBJECT, self._asked)
            except BusError as error:
                log.warning(
                    "traces_not_kept",
                    message=f"what other processes want to keep is not heard here: {error}",
                )

    async def close(self, wait: bool = True) -> None:
        """Observe no more, and send what waits, within the exporter's deadline. ``wait`` False: drop it."""
        tracing.observe(None)
        self._later.catch_up()
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._subscription is not None:
            await self._subscription.close()
        if wait:
            await asyncio.to_thread(self._queue.shutdown)

    def _asked(self, message: Message) -> None:
        call_id = message.data.decode("ascii", "replace")
        if trace_id_of(call_id):
            self.calls.keep(call_id)

    def _sweep(self) -> None:
        self.calls.sweep()
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


async def start(settings: Settings, service: str, worker: str, version: str, connection: Connection) -> ProcessTraces:
    """Trace the calls of this process from now on; to be called where an endpoint is set.

    Raises:
        ConfigError: the file of headers is not usable.
    """
    from bus.tracing_export import open_queue

    section = settings.tracing
    queue, make = open_queue(section, read_headers(section.headers_file), service, worker, version)

    def emit(trace_id: int, span: Span) -> None:
        queue.on_end(make(trace_id, span))
        if span.name == TURN:
            queue.hurry()

    rules = Rules(section.sample_ratio, section.slow_turn_ms, section.hops, section.content)
    calls = CallTraces(
        service,
        worker,
        rules,
        fold=fold_of(service, settings),
        emit=emit,
        passes=guard_of(connection).passes,
        ask=lambda call_id: connection.publish(TRACE_KEEP_SUBJECT, call_id.encode()),
        now=time.monotonic,
    )
    traces = ProcessTraces(calls, queue)
    await traces.open(connection, everything=section.sample_ratio >= 1.0)
    if section.content:
        log.warning("traces_hold_content", message="[tracing] content is on: what is said in calls stands in traces")
    log.info("traces", message=f"spans go to {section.endpoint} over {section.protocol}")
    return traces


def fold_of(service: str, settings: Settings) -> Callable[[Owner], StageSpans]:
    """The fold of a stage. Raises ``KeyError`` for a process that is none."""
    folds: dict[str, Callable[[Owner], StageSpans]] = {
        "edge": EdgeSpans,
        "asr": AsrSpans,
        "llm": partial(LlmSpans, models=models_of(settings)),
        "tts": TtsSpans,
    }
    return folds[service]


def models_of(settings: Settings) -> Mapping[str, Model]:
    """What stands behind the engines of ``[llm]``: the file of a model goes by its name."""
    found = {}
    names = (settings.llm.engine, *(name.strip() for name in settings.llm.fallbacks.split(",")))
    for name in filter(None, names):
        section = getattr(settings, name, None)
        model = getattr(section, "model", "")
        found[name] = Model(name.replace(":", "."), str(model).rsplit("/", 1)[-1])
    return found


def read_headers(path: str) -> dict[str, str]:
    """The headers of a file, a line ``name: value`` each; empty lines and lines that begin with # count for nothing.

    Raises:
        ConfigError: it can't be read, or a line is no header. The text holds no value of it.
    """
    if not path:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"[tracing] headers_file {path!r} can't be read: {error}") from error
    headers = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or " " in name.strip():
            raise ConfigError(f"[tracing] headers_file {path!r}: line {number} is not `name: value`")
        headers[name.strip()] = value.strip()
    return headers
