"""Any speech-to-text service of pipecat's catalogue, or of one's own, by the name of its class (``docs/pipecat.md``).

A service hears one stretch of speech at a time, so each has a service for itself; the next one waits connected. They
run in a thread of their own; a run's ``accept`` returns at once, and only ``finish`` waits for the provider.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING

from config.load import ConfigError
from config.settings import AsrSection, Settings
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, Engine, EngineError, Transcript
from services.asr.loading import EngineChoiceError
from services.pipecat.catalogue import load_recipe
from services.pipecat.errors import ServiceError
from services.pipecat.hosting import Host

if TYPE_CHECKING:
    from services.pipecat.listening import ListeningHarness
    from services.pipecat.pool import ServicePool

NAME = "pipecat"
SAMPLE_BYTES = 2
WARM_MS = 500
WARM_S = 30.0
PROVIDER_SHARE, RUN_SHARE = 0.8, 0.9
"""Of the deadline of a transcript: what was understood by then, or an error that is told, is better than one that is
found; the second is for a service that was not even connected in time."""
SILENT_RUNS = 3
"""So many stretches of speech in a row of which a service says nothing at all, without saying that it is done: it is
not the callers who are silent."""


def create(section: AsrSection, settings: Settings | None = None) -> Engine:
    """The engine for the service that ``[pipecat] stt`` names; nothing is connected yet.

    Raises:
        ConfigError: there is no such service, or it can't be used; the text says why.
    """
    return PipecatEngine(section, settings or Settings())


class PipecatEngine:
    """Stretches of speech, each heard by a service of the pool."""

    name = NAME

    def __init__(self, section: AsrSection, settings: Settings) -> None:
        recipe = load_recipe("stt", settings.pipecat)
        # pipecat takes seconds to import: only where it is used, and only now that it is known to be there.
        from pipecat.services.stt_service import SegmentedSTTService

        from services.pipecat.listening import Habits, ListeningHarness
        from services.pipecat.pool import ServicePool

        rate_hz = settings.pipecat.sample_rate_hz
        streaming = not issubclass(recipe.service, SegmentedSTTService)
        self.capabilities = Capabilities(
            streaming=streaming, partials=streaming, languages=(), sample_rates_hz=(rate_hz,), waits=True
        )
        self.deadline_s = RUN_SHARE * section.deadline_ms / 1000
        self._patience_s = PROVIDER_SHARE * section.deadline_ms / 1000
        self.host = Host("asr")
        habits = Habits()
        self.pool: ServicePool[ListeningHarness] = ServicePool(
            lambda: ListeningHarness(recipe, rate_hz, habits),
            spare=settings.pipecat.spare_services,
            most=settings.pipecat.most_services,
        )
        self._silent_runs = 0

    def warm(self) -> None:
        """Connect, and hear half a second of silence."""
        self.host.start(self._warm()).result(WARM_S)

    def open(self, listen_for: ListenFor) -> PipecatRun:
        return PipecatRun(self)

    def close(self) -> None:
        """Let go of the services."""
        self.host.start(self.pool.close()).result(WARM_S)
        self.host.close()

    async def hear(self, run: PipecatRun) -> str:
        """The transcript of a run's audio. In the host's thread.

        Raises:
            EngineError: the service failed, or gave no transcript in time.
        """
        try:
            return await self._hear(run)
        except (ServiceError, ConfigError) as error:
            raise EngineError(str(error)) from None

    async def _hear(self, run: PipecatRun) -> str:
        async with self.pool.lend(interruptible=True, reusable=lambda service: service.complete) as service:
            await service.begin()
            run.service = service
            while pcm := await run.audio.get():
                await service.hear(pcm)
            text = await service.end(self._patience_s)
            # From here on the service may hear somebody else.
            run.service = None
            self._silent_runs = 0 if text or service.complete else self._silent_runs + 1
            if self._silent_runs >= SILENT_RUNS:
                raise ServiceError(f"the service said nothing of {self._silent_runs} stretches of speech in a row")
            return text

    async def _warm(self) -> None:
        run = PipecatRun(self)
        for pcm in (bytes(self.capabilities.sample_rates_hz[0] * WARM_MS // 1000 * SAMPLE_BYTES), b""):
            run.audio.put_nowait(pcm)
        try:
            await self._hear(run)
            await self.pool.fill()
        except ServiceError as error:
            raise (EngineChoiceError if error.lasting else EngineError)(str(error)) from None
        self._silent_runs = 0


class PipecatRun:
    """One stretch of speech. Its service is lent when the first audio comes."""

    def __init__(self, engine: PipecatEngine) -> None:
        self.audio: asyncio.Queue[bytes] = asyncio.Queue()
        """What the service has not heard yet; an empty piece is the end."""
        self.service: ListeningHarness | None = None
        self._engine = engine
        self._hearing: concurrent.futures.Future[str] | None = None
        self._partial = ""

    def accept(self, pcm: bytes) -> str | None:
        if not pcm:
            return None
        if self._hearing is None:
            self._hearing = self._engine.host.start(self._engine.hear(self))
        if self._hearing.done():
            self._hearing.result()
        self._engine.host.call(self.audio.put_nowait, pcm)
        service = self.service
        text = service.text if service is not None else ""
        if not text or text == self._partial:
            return None
        self._partial = text
        return text

    def finish(self) -> Transcript:
        if self._hearing is None:
            return Transcript("", 0.0)
        self._engine.host.call(self.audio.put_nowait, b"")
        try:
            text = self._hearing.result(self._engine.deadline_s)
            return Transcript(text, 1.0 if text else 0.0)
        except TimeoutError:
            self._hearing.cancel()
            raise EngineError(f"no transcript within {self._engine.deadline_s:.1f} s") from None
        except concurrent.futures.CancelledError:
            raise EngineError("the run was cancelled while its transcript was due") from None

    def cancel(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
