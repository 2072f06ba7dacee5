"""One call in the tts stage: its events folded, its sentences said one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable

from bus.clock import wall_us
from bus.consume import CallFeed, follow_call
from bus.control import serve_control
from bus.interface import Connection, Subscription
from bus.logs import get_logger
from bus.ownership import Claim
from bus.publish import Recorder
from config.settings import TtsSection
from schemas import subjects
from schemas.audio import Codec
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded
from schemas.control import ControlMessage, ControlReply, Flush
from schemas.failure import FAILURES, Failure
from schemas.llm import LlmSentence
from schemas.tts import TtsDone, TtsStarted
from services.tts.ahead import PlayoutAhead
from services.tts.engine import Engine
from services.tts.framing import SentenceFramer, end_message
from services.tts.ledger import Finish, Skip, Speak, SpeechLedger, Step, WaitUntil
from services.tts.speaker import Leg, SentenceSpeaker

log = get_logger(__name__)

SERVICE = "tts"
STAGE = "tts"
FOLLOWED = (
    "call.answered", "call.held", "call.ended", "llm.sentence", "llm.done", "tts.*", "playout.*", "turn.interrupted",
)  # fmt: skip
AHEAD_LIMIT_MS = 45_000
"""Audio sent ahead of playout; the edge holds 60 s (``[edge] playout_limit_ms``)."""
STALL_LIMIT_S = 120.0
"""An utterance is given up after so long without room at the edge, time on hold not counted."""
CATCH_UP_S = 10.0
CLOSE_MS = 2000


class SpeechCall:
    """What the tts stage does for one call, from the claim to its end or to the next owner."""

    def __init__(
        self,
        connection: Connection,
        claim: Claim,
        engine: Engine,
        settings: TtsSection,
        *,
        worker: str,
        figures: dict[str, float],
        on_over: Callable[[str], Awaitable[None]],
    ) -> None:
        """``on_over`` is told once, when the call has ended. ``figures`` go out with the worker's heartbeat."""
        self._connection = connection
        self._claim = claim
        self._engine = engine
        self._settings = settings
        self._worker = worker
        self._figures = figures
        self._on_over = on_over
        self._log = log.bind(tenant=claim.tenant, call_id=claim.call_id)
        self._recorder = Recorder(connection, service=SERVICE)
        self._ledger = SpeechLedger()
        self._ahead = PlayoutAhead()
        self._leg: Leg | None = None
        self._changed = asyncio.Event()
        self._over = False
        self._closed = False
        self._speaking: tuple[int, asyncio.Task[None]] | None = None
        self._contexts: dict[tuple[int, int], contextvars.Context] = {}
        self._failures = 0
        self._sentences = 0
        self._slowest_ttfb_ms = 0.0
        self._feed: CallFeed | None = None
        self._control: Subscription | None = None
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Follow the call's events and begin to speak."""
        self._control = await serve_control(
            self._connection, STAGE, self._claim.call_id, self._claim.tenant, self._obey, service=SERVICE
        )
        self._feed = await follow_call(
            self._connection, self._claim.call_id, self._claim.tenant, self._take, names=FOLLOWED, service=SERVICE
        )
        self._work = asyncio.get_running_loop().create_task(self._run(self._feed), name="tts-call")

    async def release(self, why: str) -> None:
        """Let go at once; a successor says again what was not played."""
        self._log.info("call_released", message=f"lets go of a call: {why}", why=why)
        if self._work is not None and self._work is not asyncio.current_task():
            self._work.cancel()
            await asyncio.wait({self._work})
        await self._close(0 if why == "superseded" else CLOSE_MS)

    # -- events and commands ---------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        now = asyncio.get_running_loop().time()
        match event:
            case CallAnswered():
                self._connect(event)
            case CallEnded():
                self._over = True
                self._stop_speaking(None)
            case LlmSentence():
                self._contexts.setdefault((event.utterance_id, event.index), contextvars.copy_context())
        self._ahead.fold(event, now)
        for utterance_id in self._ledger.fold(event, now):
            self._drop(utterance_id)
        self._changed.set()

    def _connect(self, answered: CallAnswered) -> None:
        subject = subjects.live_audio("out", self._claim.call_id, self._claim.tenant)
        try:
            self._leg = Leg(self._connection, subject, Codec[answered.codec], answered.frame_ms)
        except KeyError:
            self._fail("not_supported", 0, f"codec {answered.codec}: this stage speaks PCMU and PCMA")

    def _obey(self, command: ControlMessage) -> ControlReply:
        if not isinstance(command, Flush):
            return ControlReply(ok=False, error="not_supported", message="the tts stage takes control.flush only")
        dropped = self._ledger.void(command.utterance_id)
        if not dropped and command.utterance_id is not None:
            return ControlReply(ok=False, error="unknown_utterance", message=FAILURES["unknown_utterance"].text)
        for utterance_id in dropped:
            self._drop(utterance_id)
            self._close_flushed(utterance_id)
        self._changed.set()
        return ControlReply(ok=True)

    def _drop(self, utterance_id: int) -> None:
        self._ahead.drop(utterance_id)
        self._stop_speaking(utterance_id)

    def _close_flushed(self, utterance_id: int) -> None:
        """Nobody has told the edge to drop it: it plays what it has, and must know that nothing follows."""
        if self._leg is not None:
            reached = self._ledger.utterance(utterance_id).next_index
            self._leg.connection.publish(self._leg.subject, end_message(self._leg.codec, utterance_id, reached))

    def _stop_speaking(self, utterance_id: int | None) -> None:
        """Cancel the sentence in work where it is of this utterance (None: of any)."""
        if self._speaking is not None and utterance_id in (None, self._speaking[0]):
            self._speaking[1].cancel()

    # -- work ------------------------------------------------------------------------------------------------------

    async def _run(self, feed: CallFeed) -> None:
        with contextlib.suppress(TimeoutError):
            # Without the past a successor would say again what is long played; the edge would drop it.
            async with asyncio.timeout(CATCH_UP_S):
                await feed.caught_up.wait()
        try:
            await self._speak_on()
        except Exception:
            self._log.exception(
                "call_failed", message="speaking in a call broke off; it is kept, silent, until it ends"
            )
            while not self._over:
                self._changed.clear()
                await self._changed.wait()
        self._log.info(
            "call_done",
            message="the call is over",
            sentences=self._sentences,
            failures=self._failures,
            slowest_ttfb_ms=round(self._slowest_ttfb_ms, 1),
        )
        await self._close(CLOSE_MS)
        await self._on_over(self._claim.call_id)

    async def _speak_on(self) -> None:
        while not self._over:
            self._changed.clear()
            step = self._ledger.step(asyncio.get_running_loop().time()) if self._leg is not None else None
            if step is None:
                # The one wait without a deadline: the call's next event, and the last of them ends it.
                await self._changed.wait()
            else:
                await self._do(step)

    async def _do(self, step: Step) -> None:
        match step:
            case Speak(sentence=sentence):
                await self._say(step)
                self._ledger.utterance(sentence.utterance_id).advance(sentence.index)
            case Finish() if self._leg is not None:
                self._connection.publish(
                    self._leg.subject, end_message(self._leg.codec, step.utterance_id, step.sentences)
                )
                self._ledger.utterance(step.utterance_id).finish_sent = True
            case Skip():
                self._fail("bad_message", step.turn, f"sentence {step.sentence} did not arrive; going on without it")
                self._ledger.utterance(step.utterance_id).advance(step.sentence)
            case WaitUntil():
                await self._until(step.time)

    async def _until(self, time: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(time):
                await self._changed.wait()

    async def _say(self, step: Speak) -> None:
        """One sentence, as a task of its own: an interruption ends it at its next wait, whatever the engine does."""
        sentence = step.sentence
        context = self._contexts.pop((sentence.utterance_id, sentence.index), None)
        task = asyncio.get_running_loop().create_task(self._synthesise(step), name="tts-sentence", context=context)
        self._speaking = (sentence.utterance_id, task)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            self._speaking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _synthesise(self, step: Speak) -> None:
        assert self._leg is not None
        sentence = step.sentence
        try:
            speaker = SentenceSpeaker(
                self._leg,
                self._engine,
                sentence,
                received=step.received,
                epoch=self._claim.epoch,
                record=self._record,
                room=lambda framer: self._room(sentence, framer),
            )
            await speaker.speak(self._settings.deadline_ms)
        except TimeoutError:
            self._fail("engine_timeout", sentence.turn, f"no audio within {self._settings.deadline_ms} ms")
        except Exception as error:
            # Its text may hold what was to be said, so only its type is told.
            self._fail("engine_failed", sentence.turn, f"{self._engine.capabilities.name}: {type(error).__name__}")
        else:
            self._count(speaker)

    async def _room(self, sentence: LlmSentence, framer: SentenceFramer) -> None:
        """Note what was sent; wait while the edge has more than enough."""
        loop = asyncio.get_running_loop()
        self._ahead.sent(sentence.utterance_id, sentence.index, framer.duration_ms)
        give_up = loop.time() + STALL_LIMIT_S
        while (over_ms := self._ahead.ahead_ms(loop.time()) - AHEAD_LIMIT_MS) > 0:
            if self._ahead.held:
                give_up = loop.time() + STALL_LIMIT_S
            if loop.time() >= give_up:
                self._log.warning("playout_stalled", message="the edge plays nothing; an utterance is given up")
                for utterance_id in self._ledger.void(sentence.utterance_id):
                    self._drop(utterance_id)
            self._changed.clear()
            await self._until(loop.time() + min(1.0, max(0.02, over_ms / 1000)))

    # -- telling ---------------------------------------------------------------------------------------------------

    def _record(self, event: TtsStarted | TtsDone) -> None:
        """A successor repeats audio, never events."""
        kind = "started" if isinstance(event, TtsStarted) else "done"
        recorded = self._ledger.utterance(event.utterance_id).recorded
        if (kind, event.index) not in recorded:
            recorded.add((kind, event.index))
            self._recorder.record(event)

    def _count(self, speaker: SentenceSpeaker) -> None:
        self._sentences += 1
        self._slowest_ttfb_ms = max(self._slowest_ttfb_ms, speaker.ttfb_ms)
        self._figures["sentences"] = self._figures.get("sentences", 0) + 1
        self._figures["ttfb_ms"] = round(speaker.ttfb_ms, 3)

    def _fail(self, code: str, turn: int, detail: str) -> None:
        spec = FAILURES[code]
        self._log.warning("sentence_failed", message=f"{spec.text} ({detail})", code=code)
        self._figures["failures"] = self._figures.get("failures", 0) + 1
        self._recorder.record(
            Failure(
                call_id=self._claim.call_id,
                tenant=self._claim.tenant,
                at_us=wall_us(),
                epoch=self._claim.epoch,
                code=code,
                stage=STAGE,
                worker=self._worker,
                number=self._failures,
                retryable=spec.retryable,
                caller_hears="this sentence is missing",
                detail=detail,
                turn=turn,
            )
        )
        self._failures += 1

    async def _close(self, timeout_ms: int) -> None:
        if self._closed:
            return
        self._over = self._closed = True
        if self._feed is not None:
            await self._feed.close()
        if self._control is not None:
            await self._control.close()
        await self._recorder.close(timeout_ms)
