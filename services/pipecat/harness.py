"""One service in a pipeline of its own: frames go in on one side and are heard on the other.

The service is used as it is, with the clock, the task manager and the worker that pipecat gives it in any bot. Nothing
else stands in the pipeline but two taps, which process each frame at once, so that what a service pushed first is heard
first; in a queue, frames of pipecat's "system" kind would overtake text.

All of this runs in a host's thread. Imports pipecat: import it only where a service is made.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pipecat.clocks.base_clock import BaseClock
from pipecat.frames.frames import CancelFrame, ErrorFrame, Frame, InterruptionFrame, ServiceMetadataFrame, StartFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.utils.errors import ErrorCategory
from pipecat.workers.runner import WorkerRunner

from bus.logs import get_logger
from services.pipecat.catalogue import SESSION, Recipe
from services.pipecat.errors import ServiceError

log = get_logger(__name__)

START_S = 10.0
"""Time for a service to connect, or to load its model."""
INTERRUPT_S = 3.0
"""Time to stop; some services connect anew when they are interrupted."""
CLOSE_S = 5.0

Take = Callable[[Frame], None]


class SteppedClock(BaseClock):
    """A pipeline's clock that stands still until it is put on by an hour.

    Services add the time of their pipeline to the word times that a provider gives, and never less than the time of the
    last word before; with a step before each text, what they added is known to the nanosecond.
    """

    STEP_NS = 3600 * 10**9

    def __init__(self) -> None:
        self._now_ns = self.STEP_NS

    def start(self) -> None:
        """It does not run."""

    def get_time(self) -> int:
        return self._now_ns

    def step(self) -> int:
        """Put it on; the new time."""
        self._now_ns += self.STEP_NS
        return self._now_ns


@dataclass
class ConnectionLostFrame(ErrorFrame):
    """A service lost its connection while it worked."""


class _Tap(FrameProcessor):
    def __init__(self, direction: FrameDirection, take: Take) -> None:
        super().__init__(enable_direct_mode=True)
        self._direction = direction
        self._take = take

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is self._direction:
            self._take(frame)
        await self.push_frame(frame, direction)


class Harness:
    """A service at work. ``take``, where set, gets each frame that comes out, and errors; it must not block."""

    def __init__(self, recipe: Recipe, rate_hz: int, *, clock: BaseClock | None = None, metrics: bool = False) -> None:
        """``rate_hz``: of the audio that goes in and comes out. ``metrics``: have it report the tokens that it used."""
        self.recipe = recipe
        self.take: Take | None = None
        self.metadata: Any = None
        self.failed = False
        """It failed while nobody used it, or can't be used any more."""
        self.rate_hz = rate_hz
        self._clock = clock
        self._metrics = metrics
        self._session: Any = None
        self._started = False
        self._connections = 0
        self._over = asyncio.Event()
        self._interrupted = asyncio.Event()

    async def start(self) -> None:
        """Make the service and have it connect.

        Raises:
            ServiceChoiceError: it refuses its arguments.
            ServiceError: it can't connect; nothing was said to it yet, so the text is the provider's.
        """
        self.service = await self.make_service()
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(frame: Frame) -> None:
            if not begun.done() and isinstance(frame, ErrorFrame):
                begun.set_exception(self.error(frame, whole=True))
            elif not begun.done() and isinstance(frame, StartFrame):
                begun.set_result(None)

        self.take = take
        self._watch_start(begun)
        self._watch_connection()
        before, behind = _Tap(FrameDirection.UPSTREAM, self._hear_error), _Tap(FrameDirection.DOWNSTREAM, self._hear)
        self._worker = PipelineWorker(
            Pipeline([before, self.service, behind]),
            params=PipelineParams(
                audio_in_sample_rate=self.rate_hz,
                audio_out_sample_rate=self.rate_hz,
                enable_metrics=self._metrics,
                enable_usage_metrics=self._metrics,
                send_initial_empty_metrics=False,
            ),
            clock=self._clock,
            cancel_timeout_secs=CLOSE_S,
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )
        runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
        await runner.add_workers(self._worker)
        self._running = asyncio.create_task(runner.run())
        self._running.add_done_callback(lambda _: self._over.set())
        try:
            await asyncio.wait_for(begun, START_S)
        except TimeoutError:
            await self.close()
            raise ServiceError(f"{self.recipe.name} was not ready within {START_S:.0f} s") from None
        except BaseException:
            await self.close()
            raise
        finally:
            self.take = None
        self._started = True

    @property
    def alive(self) -> bool:
        """It can be given work."""
        return not self.failed and not self._over.is_set() and bool(self.service.is_usable)

    async def send(self, *frames: Frame) -> None:
        """Into the service, in this order; an interruption overtakes what waits."""
        for frame in frames:
            await self._worker.queue_frame(frame)

    async def send_back(self, frame: Frame) -> None:
        """Into the service from behind, as what plays its audio would."""
        await self._worker.queue_frame(frame, FrameDirection.UPSTREAM)

    async def interrupt(self) -> bool:
        """Stop what it does. Whether it has, so that it can be given other work."""
        self._interrupted.clear()
        await self.send(InterruptionFrame())
        try:
            await asyncio.wait_for(self._interrupted.wait(), INTERRUPT_S)
        except TimeoutError:
            return False
        return self.alive

    async def close(self) -> None:
        """End it; waits for it to let go of its connection, within bounds."""
        self.take, self.failed = None, True
        if not self._over.is_set():
            if self._started:
                # Not the worker's own method: just after the start it would leave out to tell the service.
                await self.send(CancelFrame())
            else:
                await self._worker.cancel()
            await asyncio.wait({self._running}, timeout=2 * CLOSE_S)
        if not self._over.is_set():
            self._running.cancel()
            await asyncio.wait({self._running}, timeout=CLOSE_S)
        if self._session is not None:
            await self._session.close()
        await self._close_client()

    def error(self, frame: Any, *, whole: bool = False) -> ServiceError:
        """What an error frame means; ``whole``: with its words, where nobody has said anything yet."""
        words = [f"{self.recipe.name} failed"]
        if frame.category is not None:
            words.append(frame.category.value)
        if frame.exception is not None:
            words.append(type(frame.exception).__name__)
            if isinstance(status := getattr(frame.exception, "status_code", None), int):
                words.append(f"status {status}")
        if whole:
            words.append(self.recipe.without_secrets(frame.error))
        lasting = frame.category is not None and frame.category.is_permanent
        return ServiceError(", ".join(words), lasting=lasting)

    async def _close_client(self) -> None:
        """Services leave their client of HTTP to the garbage collector, which never finds it while the event loop
        watches a connection that it keeps open."""
        close = getattr(getattr(self.service, "_client", None), "close", None)
        if inspect.iscoroutinefunction(close):
            try:
                await asyncio.wait_for(close(), CLOSE_S)
            except Exception as error:
                log.info("pipecat_client_not_closed", message=f"{self.recipe.name}: {type(error).__name__}")

    async def make_service(self) -> Any:
        """A new instance of the service."""
        if not self.recipe.wants_session:
            return self.recipe.make()
        import aiohttp

        self._session = aiohttp.ClientSession()
        try:
            return self.recipe.make(**{SESSION: self._session})
        except BaseException:
            await self._session.close()
            raise

    def _watch_start(self, begun: asyncio.Future[None]) -> None:
        """pipecat logs what a service raises at its start, and goes on as if it had started."""
        start: Callable[[Frame], Awaitable[None]] = self.service.start

        async def watched(frame: Frame) -> None:
            try:
                await start(frame)
            except Exception as error:
                if not begun.done():
                    text = self.recipe.without_secrets(f"{type(error).__name__}: {error}")
                    begun.set_exception(ServiceError(f"{self.recipe.name} did not start: {text}", lasting=True))
                raise

        self.service.start = watched

    def _watch_connection(self) -> None:
        """A service that loses its connection makes another without a word, and what was on its way is lost."""

        def connected(*_: Any) -> None:
            self._connections += 1
            if self._connections > 1:
                lost()

        def lost(*_: Any) -> None:
            if self._started and self.take is not None:
                self.take(ConnectionLostFrame("", processor=self.service, category=ErrorCategory.CONNECTIVITY))

        if isinstance(self.service, STTService | TTSService):
            self.service.add_event_handler("on_connected", connected)
            self.service.add_event_handler("on_disconnected", lost)

    def _hear(self, frame: Frame) -> None:
        if isinstance(frame, ServiceMetadataFrame):
            self.metadata = frame
        elif isinstance(frame, InterruptionFrame):
            self._interrupted.set()
        if self.take is not None:
            self.take(frame)

    def _hear_error(self, frame: Frame) -> None:
        """Much that a service tells downstream it tells upstream, too; errors go upstream only."""
        if not isinstance(frame, ErrorFrame):
            return
        if self.take is None:
            self.failed = True
        else:
            self.take(frame)
