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
from schemas.control import ControlMessage, ControlReply, Flush, Say
from schemas.llm import LlmSentence
from services.audio.g711 import PCM_SAMPLE_BYTES
from services.text.courtesies import courtesies
from services.tts.ahead import PlayoutAhead
from services.tts.apology import SILENT, Apology
from services.tts.commands import DONE, answer_say, refused, sentences_of
from services.tts.delivery import HEARS_SILENCE, Outcome, SentenceDelivery
from services.tts.engine import Engine
from services.tts.framing import SentenceFramer, end_message
from services.tts.ledger import Finish, Skip, Speak, SpeechLedger, Step, WaitUntil
from services.tts.phrasebook import PhraseBook
from services.tts.speaker import Leg, SentenceSpeaker
from services.tts.telling import SpeechTelling

log = get_logger(__name__)

SERVICE = "tts"
STAGE = "tts"
FOLLOWED = (
    "call.answered", "call.held", "call.ended", "llm.sentence", "llm.done", "tts.*", "playout.*", "turn.interrupted",
)  # fmt: skip
AHEAD_LIMIT_MS = 45_000
"""Audio sent ahead of playout; the edge holds 60 s (``[edge] playout_limit_ms``)."""
STALL_LIMIT_S = 120.0
"""An utterance is given up after so long without room at the edge; time on hold or paused is not counted."""
CATCH_UP_S = 10.0
GAP_LOOK_S = 0.1
"""A sentence that is seen to be missing is looked for in the record so often until it is given up."""
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
        apology: Apology | None = None,
        book: PhraseBook | None = None,
    ) -> None:
        """``on_over`` is told once, when the call has ended. ``figures`` go out with the worker's heartbeat.

        ``apology``: said in place of an answer that the engine fails on. ``book``: sentences that are kept as audio.
        """
        self._connection = connection
        self._claim = claim
        self._engine = engine
        self._settings = settings
        self._apology = apology
        self._book = book or PhraseBook(engine.capabilities.sample_rate_hz)
        self._on_over = on_over
        self._log = log.bind(tenant=claim.tenant, call_id=claim.call_id)
        self._recorder = Recorder(connection, service=SERVICE)
        self._ledger = SpeechLedger()
        self._telling = SpeechTelling(self._recorder.record, claim, self._ledger, worker=worker, figures=figures)
        self._ahead = PlayoutAhead()
        self._leg: Leg | None = None
        self._changed = asyncio.Event()
        self._over = False
        self._closed = False
        self._speaking: tuple[int, asyncio.Task[Outcome]] | None = None
        self._contexts: dict[tuple[int, int], contextvars.Context] = {}
        self._language = "en"
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
                self._language = event.language
                self._contexts.setdefault((event.utterance_id, event.index), contextvars.copy_context())
        self._ahead.fold(event, now)
        for utterance_id in self._ledger.fold(event, now, max(0.0, (wall_us() - event.at_us) / 1000)):
            self._drop(utterance_id)
        if isinstance(event, LlmSentence):
            self._leave_out(event)
        self._changed.set()

    def _leave_out(self, sentence: LlmSentence) -> None:
        """A sentence behind the apology that ended its utterance is not said."""
        utterance = self._ledger.utterance(sentence.utterance_id)
        if utterance.cut_short and utterance.total is not None and sentence.index >= utterance.total:
            self._telling.unsaid(sentence.utterance_id, sentence.index, sentence.turn)

    def _connect(self, answered: CallAnswered) -> None:
        subject = subjects.live_audio("out", self._claim.call_id, self._claim.tenant)
        try:
            self._leg = Leg(self._connection, subject, Codec[answered.codec], answered.frame_ms)
        except KeyError:
            self._telling.fail(
                "not_supported", 0, f"codec {answered.codec}: this stage speaks PCMU and PCMA", HEARS_SILENCE
            )

    def _obey(self, command: ControlMessage) -> ControlReply:
        match command:
            case Flush():
                reply = self._flush(command.utterance_id)
            case Say():
                reply = self._order(command)
            case _:
                reply = refused("not_supported", "the tts stage takes control.flush and control.say only")
        self._changed.set()
        return reply

    def _flush(self, utterance_id: int | None) -> ControlReply:
        dropped = self._ledger.void(utterance_id)
        if not dropped and utterance_id is not None:
            return refused("unknown_utterance")
        for each in dropped:
            self._drop(each)
            self._close_flushed(each)
        return DONE

    def _order(self, command: Say) -> ControlReply:
        """Say a text without the llm stage. Older utterances of the turn are void: the edge would drop them later."""
        reply = answer_say(command, self._ledger)
        if reply is not None or command.utterance_id is None:
            return reply or DONE
        sentences = sentences_of(
            command, command.utterance_id, language=self._language, at_us=wall_us(), epoch=self._claim.epoch
        )
        now = asyncio.get_running_loop().time()
        for sentence in sentences:
            self._contexts[(sentence.utterance_id, sentence.index)] = contextvars.copy_context()
        for each in self._ledger.order(command.utterance_id, command.text, sentences, now):
            self._drop(each)
            if self._ledger.utterance(each).sent:
                self._close_flushed(each)
        return DONE

    def _drop(self, utterance_id: int) -> None:
        self._ahead.drop(utterance_id, asyncio.get_running_loop().time())
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
            sentences=self._telling.sentences,
            failures=self._telling.failures,
            slowest_ttfb_ms=round(self._telling.slowest_ttfb_ms, 1),
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
            case Speak():
                self._went(step, await self._say(step))
            case Finish() if self._leg is not None:
                self._connection.publish(
                    self._leg.subject, end_message(self._leg.codec, step.utterance_id, step.sentences)
                )
                self._ledger.utterance(step.utterance_id).finish_sent = True
            case Skip():
                why = "was lost with the worker it was ordered of" if step.lost else "did not arrive"
                self._telling.fail("bad_message", step.turn, f"sentence {step.sentence} {why}; going on without it")
                self._telling.unsaid(step.utterance_id, step.sentence, step.turn)
                self._ledger.utterance(step.utterance_id).advance(step.sentence)
            case WaitUntil():
                next_look = asyncio.get_running_loop().time() + GAP_LOOK_S
                if self._feed is not None and next_look < step.time:
                    self._feed.look()
                await self._until(min(step.time, next_look))

    async def _until(self, time: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(time):
                await self._changed.wait()

    def _went(self, step: Speak, outcome: Outcome | None) -> None:
        """A sentence is through. None: its utterance was given up meanwhile."""
        sentence = step.sentence
        utterance = self._ledger.utterance(sentence.utterance_id)
        if outcome is Outcome.APOLOGY:
            for index in utterance.cut_after(sentence.index):
                self._telling.unsaid(sentence.utterance_id, index, sentence.turn)
        if outcome is not None and not sentence.filler:
            utterance.failed = outcome is Outcome.MISSING
        utterance.advance(sentence.index)

    async def _say(self, step: Speak) -> Outcome | None:
        """One sentence, as a task of its own: an interruption ends it at its next wait, whatever the engine does."""
        sentence = step.sentence
        context = self._contexts.pop((sentence.utterance_id, sentence.index), None)
        task = asyncio.get_running_loop().create_task(self._deliver(step), name="tts-sentence", context=context)
        self._speaking = (sentence.utterance_id, task)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            self._speaking = None
        return None if task.cancelled() else task.result()

    async def _deliver(self, step: Speak) -> Outcome:
        assert self._leg is not None
        leg, sentence, engine, book = self._leg, step.sentence, self._engine, self._book
        text, language = sentence.text, sentence.language
        deadline_ms = self._settings.deadline_ms
        wanted = book.wants(text, language, sentence.call_id)
        delivery = SentenceDelivery(
            lambda: SentenceSpeaker(
                leg,
                engine,
                step,
                epoch=self._claim.epoch,
                record=self._telling.synthesis,
                room=lambda framer: self._room(sentence, framer),
                taken_over=lambda takeover: self._telling.taken_over(takeover, sentence.turn),
                shape_text=self._settings.shape_text,
                keep=(lambda pcm: book.keep(text, language, pcm)) if wanted else None,
            ),
            self._ledger.utterance(sentence.utterance_id),
            sentence.index,
            deadline_ms=deadline_ms,
            apology=self._apology_for(sentence),
            recording=lambda: book.recording(text, language),
            frame_bytes=book.rate_hz * leg.frame_ms // 1000 * PCM_SAMPLE_BYTES,
            fail=lambda error, hears: self._telling.engine_failed(
                error, hears, sentence, engine.capabilities.name, deadline_ms
            ),
        )
        outcome = await delivery.deliver()
        if outcome is Outcome.SAID:
            self._telling.said(delivery.tries[-1].ttfb_ms)
        return outcome

    def _apology_for(self, sentence: LlmSentence) -> Apology | None:
        """A filler that is missing is missed by nobody, and the answer may yet come. After two answers in a row of
        which nothing could be said llm says goodbye: where that can be heard, nobody is asked to say it again."""
        if sentence.filler:
            return None
        utterance = self._ledger.utterance(sentence.utterance_id)
        if self._ledger.last_was_mute(sentence.utterance_id) and not utterance.answered:
            later = courtesies(sentence.language).later
            if all(self._book.recording(text, sentence.language) is not None for text in later):
                return SILENT
        return self._apology

    async def _room(self, sentence: LlmSentence, framer: SentenceFramer) -> None:
        """Note what was sent; wait while the edge has more than enough."""
        loop = asyncio.get_running_loop()
        self._ahead.sent(sentence.utterance_id, sentence.index, framer.duration_ms)
        utterance = self._ledger.utterance(sentence.utterance_id)
        utterance.sent = utterance.sent or framer.frames > 0
        give_up = loop.time() + STALL_LIMIT_S
        while (over_ms := self._ahead.ahead_ms(loop.time()) - AHEAD_LIMIT_MS) > 0:
            if self._ahead.standing(loop.time()):
                give_up = loop.time() + STALL_LIMIT_S
            if loop.time() >= give_up:
                self._telling.fail(
                    "turn_stuck", sentence.turn, f"edge: nothing played for {STALL_LIMIT_S:.0f} s", HEARS_SILENCE
                )
                for utterance_id in self._ledger.void(sentence.utterance_id):
                    self._drop(utterance_id)
            self._changed.clear()
            await self._until(loop.time() + min(1.0, max(0.02, over_ms / 1000)))

    async def _close(self, timeout_ms: int) -> None:
        if self._closed:
            return
        self._over = self._closed = True
        if self._feed is not None:
            await self._feed.close()
        if self._control is not None:
            await self._control.close()
        await self._recorder.close(timeout_ms)
