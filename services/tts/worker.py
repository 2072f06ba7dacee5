"""The process of the tts stage: one engine, many calls."""

from __future__ import annotations

import asyncio

from bus.interface import Connection
from bus.logs import get_logger
from bus.ownership import Claim, StageOwner
from bus.service import EXIT_CONFIG, ServiceContext
from config.load import ConfigError
from config.settings import Settings
from schemas.audio import Codec
from schemas.session import Stage
from services.text import speakable
from services.tts.apology import Apology
from services.tts.call import SpeechCall
from services.tts.engine import Engine, load_engine
from services.tts.failover import load_engines
from services.tts.framing import SentenceFramer
from services.tts.phrasebook import PhraseBook
from services.tts.recordings import open_book

log = get_logger(__name__)


class TtsWorker:
    """Claims calls and speaks in them."""

    def __init__(
        self,
        connection: Connection,
        worker: str,
        settings: Settings,
        engine: Engine,
        apology: Apology | None = None,
        book: PhraseBook | None = None,
    ) -> None:
        """``engine`` is warm. ``apology``, ``book``: see :class:`SpeechCall`."""
        self._connection = connection
        self._worker = worker
        self._settings = settings.tts
        self._engine = engine
        self._apology = apology
        self._book = book or PhraseBook(engine.capabilities.sample_rate_hz)
        self.owner = StageOwner(
            connection,
            Stage.TTS,
            worker,
            slots=settings.tts.slots,
            settings=settings.ownership,
            accept=self._accept,
            engine=engine.capabilities.name,
        )

    async def start(self) -> None:
        """Take calls from now on. Raises ``NotProvisioned``."""
        await self.owner.start()

    async def drain(self, timeout_ms: int) -> None:
        """Take no more calls and hand over those owned."""
        await self.owner.drain(timeout_ms)

    async def _accept(self, claim: Claim) -> SpeechCall:
        call = SpeechCall(
            self._connection,
            claim,
            self._engine,
            self._settings,
            worker=self._worker,
            figures=self.owner.figures,
            on_over=self.owner.finished,
            apology=self._apology,
            book=self._book,
        )
        await call.start()
        return call


async def warm_engine(settings: Settings) -> Engine:
    """The engine of the settings, or several as one, loaded, and with it what shapes its text and frames its audio.

    Raises:
        ConfigError: engine or voice can't be used, or a package is missing.
    """
    engine = load_engines(settings, load_engine)
    await engine.warm()
    if settings.tts.shape_text:
        await asyncio.to_thread(speakable.warm)
    try:
        SentenceFramer(Codec.PCMU, engine.capabilities.sample_rate_hz, 0, 0).finish()
    except ImportError as error:
        raise ConfigError(str(error)) from error
    return engine


async def main(context: ServiceContext) -> None:
    """Run until the process is told to stop."""
    try:
        engine = await warm_engine(context.settings)
        book, apology = await open_book(engine, context.settings)
    except ConfigError as error:
        log.error("bad_setting", message=f"tts can't start: {error}")
        raise SystemExit(EXIT_CONFIG) from None
    worker = TtsWorker(context.connection, context.worker, context.settings, engine, apology, book)
    await worker.start()
    context.health.checks.append(worker.owner.lacks)
    await context.ready()
    await context.stopping.wait()
    await worker.drain(context.settings.ownership.drain_ms)
    await engine.close()
