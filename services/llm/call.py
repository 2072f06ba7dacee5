"""One call as the llm stage owns it: events in, answers out, the context kept.

The handler of events only takes them in; one task answers turns one after the other, so what the agent says has one
order. A successor makes the same object with ``claim.takeover``, folds the same events, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from bus.clock import Clock
from bus.consume import CallFeed, follow_call
from bus.control import serve_control
from bus.errors import BusError
from bus.interface import Connection, Subscription
from bus.kv import TypedBucket
from bus.logs import get_logger
from bus.ownership import Claim
from bus.publish import Recorder
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallResult
from schemas.control import ControlMessage, ControlReply, Flush, Inject, Say
from schemas.llm import utterance_of
from schemas.playout import PlayoutFlushed
from schemas.session import CallSession, ConversationContext, Exchange, SessionStatus, Speaker
from schemas.turn import TurnEnded, TurnInterrupted
from services.llm.answering import Answering
from services.llm.conversation import EVENTS, Conversation
from services.llm.deadline import Deadline
from services.llm.engine import Engine, ToolResult
from services.llm.farewell import Farewell
from services.llm.keeper import Keeper
from services.llm.record import AgentRecord
from services.llm.sentences import split_sentences
from services.llm.tools import Toolbox

log = get_logger(__name__)

SERVICE = "llm"
TEXT_LIMIT = 1000
"""Longest text of a Say or Inject command, characters."""

CONTEXT_READ_MS = 200
"""A successor answers without injected lines rather than later."""

DRAIN_MS = 500
"""Deadline of the last writes of a call that is handed over."""

STORE_MS = 5000
"""Deadline of the last writes of a call that is over."""

CONTEXT_BYTES = 60_000
"""Largest context that is written; the bucket takes 64 KiB."""

SAYINGS_LIMIT = 20
"""Texts of Say commands that may wait for their turn to be spoken."""

CANNOT_TRANSFER = "I am sorry, I can not transfer you right now."
_CONTEXT_ENCODER = msgspec.json.Encoder()


class Workplace(NamedTuple):
    """What all calls of a worker share.

    ``providers``: engines of the stages, for ``CallSession.ai_provider_config``. ``over``: told when a call has ended.
    """

    connection: Connection
    worker: str
    engine: Engine
    toolbox: Toolbox
    clock: Clock
    contexts: TypedBucket[ConversationContext]
    sessions: TypedBucket[CallSession]
    deadline_ms: int
    context_ttl_us: int
    providers: dict[str, str]
    over: Callable[[str], Awaitable[None]]


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
        self._context = Keeper(place.contexts, claim.call_id, self._context_after, place.clock)
        self._session = Keeper(place.sessions, claim.call_id, self._session_after, place.clock)
        self._farewell = Farewell(place.connection, self.conversation, place.clock, self._not_transferred)
        self._claimed_us = place.clock.now_us()
        self._sayings: deque[tuple[str, ...]] = deque()
        self._received: dict[int, tuple[int, contextvars.Context]] = {}
        self._wake = asyncio.Event()
        self._answering: tuple[int, asyncio.Task[None]] | None = None
        self._tools: set[asyncio.Task[ToolResult]] = set()
        self._feed: CallFeed | None = None
        self._control: Subscription | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = False
        self._released = False

    async def open(self) -> None:
        """Begin to follow the call. Returns once its events are received; everything else happens in tasks."""
        place, claim = self._place, self._claim
        self._session.touch()
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
        for task in (self._answering[1] if self._answering else None, self._task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if why == "draining":
            await self._context.flush(DRAIN_MS)
        await self._close(DRAIN_MS if why == "draining" else 0)

    # --- events ------------------------------------------------------------------------------------------------------

    def _take_in(self, event: Event) -> None:
        if isinstance(event, TurnEnded):
            self._received.setdefault(event.turn, (self._place.clock.now_us(), contextvars.copy_context()))
        self.conversation.apply(event)
        if isinstance(event, TurnInterrupted | PlayoutFlushed):
            self._stop_answer(event.utterance_id)
        elif isinstance(event, CallAnswered):
            self._session.touch()
        elif isinstance(event, CallEnded):
            self._farewell.cancel()
            self._stop_answer(None)
        if self._ready:
            self._context.touch()
        self._wake.set()

    def _stop_answer(self, utterance_id: int | None) -> bool:
        """Stop the answer in the making if it is this utterance (None: whichever); whether there was one."""
        if self._answering is None or utterance_id not in (None, self._answering[0]):
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
            await self._read_context()
        self._ready = True
        self._context.touch()
        while self.conversation.ended is None and not self._released:
            self._wake.clear()
            turn = self.conversation.pending_turn()
            if turn is not None:
                await self._answer(turn)
            elif self._sayings and self.conversation.answered is not None:
                self._say(self._sayings.popleft())
            else:
                self._farewell.check()
                await self._wake.wait()
            self._context.touch()

    async def _answer(self, turn: int) -> None:
        """Answer a turn; an interruption ends it early. It runs in the context of the event that ended the turn, so
        that its trace goes on."""
        place = self._place
        received_us, context = self._received.pop(turn, (place.clock.now_us(), contextvars.copy_context()))
        answering = Answering(
            turn,
            self.conversation,
            self._record,
            place.engine,
            place.toolbox,
            place.clock,
            deadline_ms=place.deadline_ms,
            received_us=received_us,
            tasks=self._tools,
        )
        task = asyncio.get_running_loop().create_task(answering.run(), name="llm-answer", context=context)
        self._answering = (answering.utterance_id, task)
        try:
            await asyncio.wait({task})
        finally:
            self._answering = None
        if not task.cancelled():
            task.result()

    def _say(self, sentences: tuple[str, ...]) -> None:
        turn = self.conversation.current_turn()
        utterance_id = utterance_of(turn, self.conversation.next_part(turn))
        for index, text in enumerate(sentences):
            self._record.sentence(utterance_id, index, text)
        self._record.still_listening(utterance_id)

    def _not_transferred(self, error: str) -> None:
        turn = self.conversation.current_turn()
        self._record.failure("not_supported", turn, f"the edge did not hand the caller over: {error}")
        self._sayings.append((CANNOT_TRANSFER,))
        self._wake.set()

    async def _end(self) -> None:
        """The call is over: write what is left to write, and let go."""
        self._session.touch()
        self._context.touch()
        if self._tools:
            await asyncio.wait(set(self._tools), timeout=STORE_MS / 1000)
        await self._session.flush(STORE_MS)
        await self._context.flush(STORE_MS)
        await self._close(STORE_MS)
        await self._place.over(self._claim.call_id)

    async def _close(self, timeout_ms: int) -> None:
        self._farewell.cancel()
        if self._feed is not None:
            await self._feed.close()
        if self._control is not None:
            await self._control.close()
        await self._record.recorder.close(timeout_ms)
        await self._session.close()
        await self._context.close()

    def _fenced(self, event: Event) -> None:
        """A successor has ended an utterance: the call is lost, whatever this worker believes."""
        self._released = True
        self._farewell.cancel()
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
            self._context.touch()
        self._wake.set()

    def _flush(self, utterance_id: int | None) -> ControlReply:
        """Stop the answer in the making and end it where it stands."""
        if self._answering is None or utterance_id not in (None, self._answering[0]):
            return ControlReply(ok=False, error="unknown_utterance", message="no answer of this id is in the making")
        current = self._answering[0]
        self._stop_answer(current)
        self._record.still_listening(current)
        return ControlReply(ok=True)

    # --- what is kept ------------------------------------------------------------------------------------------------

    async def _read_context(self) -> None:
        """A predecessor's injected lines; everything else stands in the events."""
        try:
            async with Deadline(self._place.clock, CONTEXT_READ_MS):
                entry = await self._place.contexts.get(self._claim.call_id)
        except (TimeoutError, BusError) as error:
            log.warning(
                "context_unread",
                message=f"going on without injected lines of before: {type(error).__name__}",
                call_id=self._claim.call_id,
            )
            return
        self._adopt_lines(entry.value if entry else None)

    def _adopt_lines(self, context: ConversationContext | None) -> None:
        known = self.conversation.injected
        lines = [line for line in context.conversation_history if line.speaker is Speaker.SYSTEM] if context else []
        known[:0] = [line for line in lines if line not in known]

    def _context_after(self, current: ConversationContext | None) -> ConversationContext:
        self._adopt_lines(current)
        mine = self.conversation.context(self._place.context_ttl_us)
        if current is not None and current.last_turn > mine.last_turn:
            return current
        while len(_CONTEXT_ENCODER.encode(mine)) > CONTEXT_BYTES and mine.conversation_history:
            shorter = mine.conversation_history[len(mine.conversation_history) // 4 + 1 :]
            mine = msgspec.structs.replace(mine, conversation_history=shorter)
        return mine

    def _session_after(self, current: CallSession | None) -> CallSession:
        offered, answered, ended = self._claim.offered, self.conversation.answered, self.conversation.ended
        return CallSession(
            session_id=offered.call_id,
            tenant=offered.tenant,
            caller_phone=offered.caller[:20],
            sip_call_id=offered.sip_call_id,
            call_start_us=answered.media_epoch_us if answered else offered.at_us,
            call_end_us=ended.at_us if ended else None,
            status=_status(ended),
            ai_provider_config=self._place.providers,
            created_at_us=current.created_at_us if current else self._claimed_us,
        )


def _status(ended: CallEnded | None) -> SessionStatus:
    if ended is None:
        return SessionStatus.ACTIVE
    return {
        CallResult.COMPLETED: SessionStatus.COMPLETED,
        CallResult.CANCELLED: SessionStatus.INTERRUPTED,
    }.get(ended.result, SessionStatus.FAILED)
