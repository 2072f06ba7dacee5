"""One call as the llm stage owns it: events in, answers out, the context kept.

The handler of events only takes them in; one task answers turns one after the other, so what the agent says has one
order. A successor makes the same object with ``claim.takeover``, folds the same events, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from typing import NamedTuple

from bus.consume import CallFeed, follow_call
from bus.control import serve_control
from bus.interface import Subscription
from bus.logs import get_logger
from bus.metrics import count_degraded
from bus.ownership import Claim
from bus.publish import Recorder
from schemas.asr import AsrPreflight
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallTransferred
from schemas.control import ControlMessage, ControlReply, Flush, Inject, Say
from schemas.llm import NextStep, utterance_of
from schemas.playout import PlayoutFlushed
from schemas.session import Exchange, Speaker
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted
from services.llm.answering import Answering, Cause
from services.llm.conversation import EVENTS, Conversation
from services.llm.deadline import Deadline
from services.llm.engine import ToolResult
from services.llm.farewell import CALLER_AWAY, Farewell
from services.llm.guessing import Guessing, request_for
from services.llm.keeping import Keeping
from services.llm.record import AgentRecord
from services.llm.sentences import split_sentences
from services.llm.workplace import Workplace

log = get_logger(__name__)

SERVICE = "llm"
TEXT_LIMIT = 1000
"""Longest text of a Say or Inject command, characters."""

DRAIN_MS = 500
"""Deadline of the last writes of a call that is handed over."""

STORE_MS = 5000
"""Deadline of the last writes of a call that is over."""

SETTLE_MS = 100
"""So long after an interruption the edge may take to tell where it was; what is asked meanwhile is answered then."""

SAYINGS_LIMIT = 20
"""Texts of Say commands that may wait for their turn to be spoken."""


class Received(NamedTuple):
    """The end of a turn as it arrived: when, how long it was on its way, and in which context (of its trace)."""

    at_us: int
    bus_hop_ms: float
    context: contextvars.Context


class LlmCall:
    """A call that this worker owns."""

    def __init__(self, claim: Claim, place: Workplace) -> None:
        self.conversation = Conversation(claim.call_id, claim.tenant, place.toolbox.identifying)
        self._claim = claim
        self._place = place
        recorder = Recorder(place.connection, service=SERVICE)
        recorder.on_fenced = self._fenced
        self._record = AgentRecord(
            recorder,
            self.conversation,
            place.clock,
            epoch=claim.epoch,
            worker=place.worker,
            engine=place.engine.name,
        )
        self._keeping = Keeping(claim, place, self.conversation)
        self._guessing = Guessing(
            place.engine,
            self.conversation,
            place.clock,
            place.figures,
            enabled=place.settings.preemptive,
            deadline_ms=place.settings.deadline_ms,
        )
        self._farewell = Farewell(place.connection, self.conversation, place.clock, self._not_transferred)
        self._sayings: deque[tuple[str, ...]] = deque()
        self._passed_away = -1
        self._received: dict[int, Received] = {}
        self._interrupted_us = 0
        self._wake = asyncio.Event()
        self._answering: tuple[Answering, asyncio.Task[None]] | None = None
        self._tools: set[asyncio.Task[ToolResult]] = set()
        self._feed: CallFeed | None = None
        self._control: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = False
        self._released = False

    async def open(self) -> None:
        """Begin to follow the call. Returns once its events are received; everything else happens in tasks."""
        place, claim = self._place, self._claim
        self._keeping.session.touch()
        self._control = await serve_control(
            place.connection, "llm", claim.call_id, claim.tenant, self._command, service=SERVICE
        )
        self._feed = await follow_call(
            place.connection, claim.call_id, claim.tenant, self._take_in, names=EVENTS, service=SERVICE
        )
        self._task = asyncio.get_running_loop().create_task(self._work(self._feed), name=f"llm-{claim.call_id}")

    async def release(self, why: str) -> None:
        """Another owns the call, or nobody in this process: say nothing more."""
        self._released = True
        self._farewell.cancel()
        self._guessing.drop()
        for task in (self._answering[1] if self._answering else None, self._task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if why == "draining":
            await self._keeping.context.flush(DRAIN_MS)
        await self._close(DRAIN_MS if why == "draining" else 0)

    # --- events ------------------------------------------------------------------------------------------------------

    def _take_in(self, event: Event) -> None:
        if isinstance(event, TurnEnded):
            now_us = self._place.clock.now_us()
            received = Received(now_us, max(0, now_us - event.at_us) / 1000, contextvars.copy_context())
            self._received.setdefault(event.turn, received)
        self.conversation.apply(event)
        match event:
            case AsrPreflight() if self._ready and not self._released:
                if not self._place.degraded.listens_itself(self.conversation):
                    self._guessing.think(event)
            case TurnInterrupted():
                self._interrupted_us = self._place.clock.now_us()
                self._guessing.look()
            case PlayoutFlushed():
                self._guessing.look()
            case CallAnswered():
                self._keeping.session.touch()
            case CallTransferred(accepted=False) if self._ready:
                self._not_transferred(event.result.value)
            case CallEnded():
                self._farewell.cancel()
                self._guessing.drop()
                self._stop_answer(None)
        if self._answering is not None:
            answering = self._answering[0]
            answering.look()
            if self.conversation.is_void(answering.utterance_id):
                self._stop_answer(None)
        if self._ready:
            self._keeping.context.touch()
        self._wake.set()

    def _stop_answer(self, utterance_id: int | None) -> bool:
        """Stop the answer in the making if it is this utterance (None: whichever); whether there was one."""
        if self._answering is None or utterance_id not in (None, self._answering[0].utterance_id):
            return False
        self._answering[1].cancel()
        return True

    # --- the work ----------------------------------------------------------------------------------------------------

    async def _work(self, feed: CallFeed) -> None:
        try:
            await self._converse(feed)
        except Exception:
            log.exception(
                "call_failed",
                message="a call's conversation broke off; it is kept, without a word, until it ends",
                call_id=self._claim.call_id,
            )
            while self.conversation.ended is None and not self._released:
                self._wake.clear()
                await self._wake.wait()
        if not self._released:
            await self._end()

    async def _converse(self, feed: CallFeed) -> None:
        await feed.caught_up.wait()
        if self._claim.takeover:
            await self._record.prepare()
            await self._keeping.read()
        self._ready = True
        self._keeping.context.touch()
        while self.conversation.ended is None and not self._released:
            self._wake.clear()
            turn = self.conversation.pending_turn()
            if turn is not None and (settling_ms := self._settling_ms()) > 0:
                await self._look_again(settling_ms)
            elif turn is not None:
                await self._answer(turn)
            elif self._place.degraded.voiceless(self.conversation) and self._room() is not None:
                self._take_leave()
            elif (away := self._silence()) is not None:
                self._ask(away)
            elif self._sayings and self._room() is not None:
                self._say(self._sayings.popleft())
            else:
                self._farewell.check()
                await self._wake.wait()
            self._keeping.context.touch()

    def _settling_ms(self) -> float:
        """How long the next answer waits for the place where the caller cut in. A key, or a word that is a turn of its
        own, ends the turn in the same moment as it interrupts, and the edge's word for it comes a moment later."""
        if not self.conversation.settling:
            return 0
        return SETTLE_MS - (self._place.clock.now_us() - self._interrupted_us) / 1000

    async def _look_again(self, milliseconds: float) -> None:
        """Wait for the call's next event, so long at most."""
        with contextlib.suppress(TimeoutError):
            async with Deadline(self._place.clock, milliseconds):
                await self._wake.wait()

    async def _answer(self, turn: int) -> None:
        """Answer a turn; an interruption ends it early. It runs in the context of the event that ended the turn, so
        that its trace goes on."""
        place, ended = self._place, self.conversation.turns.get(turn)
        received = self._received.pop(turn, Received(place.clock.now_us(), 0.0, contextvars.copy_context()))
        request = request_for(self.conversation, turn)
        if ended is not None:
            request = request._replace(text=ended.text, digits=ended.digits, why=ended.why)
        request = place.degraded.asked(self.conversation, request)
        preemptive, guess = self._guessing.take(request)
        reply = place.degraded.own(self.conversation, turn)
        answering = Answering(
            Cause(request, received.at_us, received.bus_hop_ms, preemptive, guess, reply),
            self.conversation,
            self._record,
            place.engine,
            place.toolbox,
            place.clock,
            deadline_ms=place.settings.deadline_ms,
            degraded=place.degraded,
            manners=place.manners,
            filler_ms=place.settings.filler_ms,
            tasks=self._tools,
        )
        task = asyncio.get_running_loop().create_task(answering.run(), name="llm-answer", context=received.context)
        self._answering = (answering, task)
        try:
            await asyncio.wait({task})
        finally:
            self._answering = None
            if guess is not None:
                # Where it was stopped before it began, nobody else lets go of the run.
                await guess.close()
        if not task.cancelled():
            task.result()

    def _room(self) -> int | None:
        """The utterance that comes next beside the answer of the current turn; None: there is none to be had."""
        turn = self.conversation.current_turn()
        part = self.conversation.next_part(turn) if self.conversation.answered is not None else None
        return None if part is None else utterance_of(turn, part)

    def _say(self, sentences: tuple[str, ...]) -> None:
        utterance_id = self._room()
        assert utterance_id is not None
        for index, text in enumerate(sentences):
            self._record.sentence(utterance_id, index, text, self._place.degraded.language)
        self._record.beside(utterance_id)

    def _take_leave(self) -> None:
        """Nothing of the last answers could be said: end the call. What a predecessor began to say is ended."""
        degraded = self._place.degraded
        utterance_id = degraded.leave_taking(self.conversation) or self._room()
        assert utterance_id is not None
        count_degraded("tts", "goodbye")
        for index, text in enumerate(degraded.texts.later):
            self._record.sentence(utterance_id, index, text, degraded.language)
        self._record.beside(utterance_id, NextStep.HANG_UP)

    def _silence(self) -> TurnAway | None:
        away = self.conversation.pending_away()
        return away if away is not None and away.number > self._passed_away else None

    def _ask(self, away: TurnAway) -> None:
        """Say something to a caller who says nothing. What a predecessor began to say is ended, not said again."""
        manners, self._passed_away = self._place.manners, away.number
        utterance_id = self.conversation.asked.get(away.number, self._room())
        sentences = split_sentences(manners.away_goodbye if away.last else manners.away)
        if utterance_id is not None and sentences:
            for index, text in enumerate(sentences):
                self._record.sentence(utterance_id, index, text, manners.language, away=away.number)
            self._record.beside(utterance_id, NextStep.HANG_UP if away.last else NextStep.LISTEN)
        elif away.last:
            self._farewell.leave(CALLER_AWAY)

    def _not_transferred(self, error: str) -> None:
        turn = self.conversation.current_turn()
        self._record.failure("not_supported", turn, f"the edge did not hand the caller over: {error}")
        self._sayings.append((self._place.degraded.texts.not_transferred,))
        self._wake.set()

    async def _end(self) -> None:
        """The call is over: write what is left to write, and let go."""
        self._keeping.session.touch()
        self._keeping.context.touch()
        if self._tools:
            await asyncio.wait(set(self._tools), timeout=STORE_MS / 1000)
        await self._keeping.flush(STORE_MS)
        await self._close(STORE_MS)
        await self._place.over(self._claim.call_id)

    async def _close(self, timeout_ms: int) -> None:
        self._farewell.cancel()
        if self._feed is not None:
            await self._feed.close()
        if self._control is not None:
            await self._control.close()
        await self._record.recorder.close(timeout_ms)
        await self._guessing.close()
        await self._keeping.close()

    def _fenced(self, event: Event) -> None:
        """A successor has ended an utterance: the call is lost, whatever this worker believes."""
        self._released = True
        self._farewell.cancel()
        self._guessing.drop()
        self._stop_answer(None)
        self._wake.set()

    # --- commands ----------------------------------------------------------------------------------------------------

    def _command(self, command: ControlMessage) -> ControlReply:
        if self._released:
            return ControlReply(ok=False, error="not_owner", message="another worker owns this call now")
        match command:
            case Say() | Inject():
                text = " ".join(command.text.split())
                if not text or len(text) > TEXT_LIMIT:
                    return ControlReply(
                        ok=False, error="invalid_argument", message=f"text must have 1 to {TEXT_LIMIT} characters"
                    )
                if len(self._sayings) >= SAYINGS_LIMIT:
                    return ControlReply(
                        ok=False, error="invalid_argument", message=f"{SAYINGS_LIMIT} texts already wait to be said"
                    )
                self._put_in(command, text)
                return ControlReply(ok=True)
            case Flush():
                return self._flush(command.utterance_id)
            case _:
                return ControlReply(
                    ok=False, error="not_supported", message="the llm stage accepts say, inject and flush"
                )

    def _put_in(self, command: Say | Inject, text: str) -> None:
        if isinstance(command, Say):
            self._sayings.append(tuple(split_sentences(text)))
        else:
            turn, now_us = self.conversation.current_turn(), self._place.clock.now_us()
            self.conversation.injected.append(Exchange(speaker=Speaker.SYSTEM, text=text, turn=turn, at_us=now_us))
            self._keeping.context.touch()
        self._wake.set()

    def _flush(self, utterance_id: int | None) -> ControlReply:
        """Stop the answer in the making and end it where it stands."""
        if self._answering is None or utterance_id not in (None, self._answering[0].utterance_id):
            return ControlReply(ok=False, error="unknown_utterance", message="no answer of this id is in the making")
        answering = self._answering[0]
        self._stop_answer(None)
        self._record.beside(answering.utterance_id, timing=answering.timing())
        return ControlReply(ok=True)
