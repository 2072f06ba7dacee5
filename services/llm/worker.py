"""The llm stage as a process: one engine, one toolbox, the calls that it owns."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from bus.clock import Clock, SystemClock
from bus.interface import Connection
from bus.kv import TypedBucket
from bus.ownership import Claim, StageOwner
from bus.service import ServiceContext, refuse, run_service
from config.load import ConfigError, load
from config.settings import Settings
from schemas.session import CallSession, ConversationContext, Stage
from services.llm.call import LlmCall
from services.llm.degraded import degraded_of
from services.llm.engine import Engine, EngineError
from services.llm.failover import load_engines
from services.llm.manners import manners_of
from services.llm.tools import Toolbox
from services.llm.workplace import Workplace

TOOL_THREADS = 8
MINUTE_US = 60_000_000


class Worker:
    """Claims calls and answers them until it is stopped.

    Args:
        engine: loaded; ``start`` warms it.
        executor: where tools run; None: threads of its own.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        engine: Engine,
        settings: Settings,
        clock: Clock | None = None,
        *,
        executor: Executor | None = None,
    ) -> None:
        self._connection = connection
        self._name = name
        self._engine = engine
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self._threads = executor or ThreadPoolExecutor(TOOL_THREADS, thread_name_prefix="llm-tool")
        self._place: Workplace
        self.owner = StageOwner(
            connection,
            Stage.LLM,
            name,
            slots=settings.llm.slots,
            settings=settings.ownership,
            accept=self.accept,
            engine=engine.name,
        )

    async def start(self) -> None:
        """Warm the engine, bind the buckets, and begin to claim calls. Raises ``BusError``, ``EngineError``."""
        await self._engine.warm()
        await self.bind()
        await self.owner.start()

    async def bind(self) -> None:
        """Make ready what calls share. Raises ``BusError``."""
        settings, connection = self._settings, self._connection
        manners = manners_of(self._engine, settings.llm)
        self._place = Workplace(
            connection=connection,
            worker=self._name,
            engine=self._engine,
            toolbox=Toolbox(self._engine.tools, executor=self._threads, clock=self._clock),
            clock=self._clock,
            contexts=await TypedBucket.open(connection, "context", ConversationContext),
            sessions=await TypedBucket.open(connection, "calls", CallSession),
            settings=settings.llm,
            manners=manners,
            degraded=degraded_of(self._engine, manners.language, settings.failover.transfer_target),
            figures=self.owner.figures,
            context_ttl_us=settings.streams.context_ttl_min * MINUTE_US,
            providers={"asr": settings.asr.engine, "llm": settings.llm.engine, "tts": settings.tts.engine},
            over=self.owner.finished,
        )

    async def accept(self, claim: Claim) -> LlmCall:
        """Take a call that this worker owns now."""
        call = LlmCall(claim, self._place)
        await call.open()
        return call

    async def stop(self, timeout_ms: int) -> None:
        """Hand the calls over and end."""
        await self.owner.drain(timeout_ms)
        self._threads.shutdown(wait=False, cancel_futures=True)


async def serve(engine: Engine, context: ServiceContext) -> None:
    """Work until the process is told to stop."""
    worker = Worker(context.connection, context.worker, engine, context.settings)
    await worker.start()
    context.health.checks.append(worker.owner.lacks)
    await context.ready()
    await context.stopping.wait()
    await worker.stop(context.settings.ownership.drain_ms)
    if (close := getattr(engine, "close", None)) is not None:
        await close()


def main() -> None:
    """Run the process. A setting or an agent file that is not allowed ends it with exit code 2 and the text."""
    try:
        settings = load()
        engine = load_engines(settings)
    except (ConfigError, EngineError) as error:
        refuse("llm", error)
    run_service("llm", partial(serve, engine))
