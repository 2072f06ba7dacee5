"""The process of the asr stage: one engine, one detector's model, many calls."""

from __future__ import annotations

import asyncio

from bus.clock import Clock, SystemClock
from bus.interface import Connection
from bus.logs import get_logger
from bus.ownership import Claim, StageOwner
from bus.service import ServiceContext
from config.load import ConfigError
from config.settings import Settings
from schemas.session import Stage
from services.asr.call import AsrCall, Tools
from services.asr.detector import VoiceModel, load_detector
from services.asr.engine import Engine
from services.asr.failover import FailoverEngine, load_engines
from services.asr.judge import TurnDesk
from services.asr.pool import THREADS, WAITING_THREADS, EnginePool
from services.asr.turn_model import TurnModel, load_turn_model

log = get_logger(__name__)

EXIT_CONFIGURATION = 2


class AsrWorker:
    """Claims calls and hears them."""

    def __init__(
        self,
        connection: Connection,
        worker: str,
        settings: Settings,
        engine: Engine,
        detectors: VoiceModel,
        clock: Clock | None = None,
        turn_model: TurnModel | None = None,
    ) -> None:
        """``engine`` and ``turn_model`` are warm; None: silence alone says when a caller is done."""
        self.owner = StageOwner(
            connection,
            Stage.ASR,
            worker,
            slots=settings.asr.slots,
            settings=settings.ownership,
            accept=self._accept,
            engine=engine.name,
        )
        clock = clock or SystemClock()
        pool = EnginePool(WAITING_THREADS if engine.capabilities.waits else THREADS)
        self._tools = Tools(
            connection=connection,
            settings=settings,
            worker=worker,
            engine=engine,
            detectors=detectors,
            desk=TurnDesk(turn_model, pool, clock) if turn_model is not None else None,
            pool=pool,
            clock=clock,
            figures=self.owner.figures,
            on_over=self.owner.finished,
        )

    async def start(self) -> None:
        """Take calls from now on. Raises ``NotProvisioned``."""
        await self.owner.start()

    async def drain(self, timeout_ms: int) -> None:
        """Take no more calls and hand over those owned."""
        await self.owner.drain(timeout_ms)
        self._tools.pool.close()
        if isinstance(self._tools.engine, FailoverEngine):
            self._tools.engine.close()

    async def _accept(self, claim: Claim) -> AsrCall:
        call = AsrCall(self._tools, claim)
        await call.start()
        return call


async def load_models(settings: Settings) -> tuple[Engine, VoiceModel, TurnModel | None]:
    """The engine (or several as one), the detector and the turn model of the settings, loaded and warm; no turn model
    where none is used.

    Raises:
        ConfigError: one of them can't be used, or a package is missing.
    """
    engine = load_engines(settings)
    detectors = load_detector(settings.asr.vad, settings.asr)
    semantic = settings.turn.endpointing == "semantic"
    turn_model = load_turn_model(settings.asr.turn_model, settings.asr) if semantic else None
    await (engine.load() if isinstance(engine, FailoverEngine) else asyncio.to_thread(engine.warm))
    if turn_model is not None:
        await asyncio.to_thread(turn_model.warm)
    return engine, detectors, turn_model


async def main(context: ServiceContext) -> None:
    """Run until the process is told to stop."""
    try:
        engine, detectors, turn_model = await load_models(context.settings)
    except ConfigError as error:
        log.error("bad_setting", message=f"asr can't start: {error}")
        raise SystemExit(EXIT_CONFIGURATION) from None
    worker = AsrWorker(context.connection, context.worker, context.settings, engine, detectors, turn_model=turn_model)
    await worker.start()
    context.health.checks.append(worker.owner.lacks)
    await context.ready()
    await context.stopping.wait()
    await worker.drain(context.settings.ownership.drain_ms)
    for each in engine.engines if isinstance(engine, FailoverEngine) else (engine,):
        if (close := getattr(each, "close", None)) is not None:
            await asyncio.to_thread(close)
