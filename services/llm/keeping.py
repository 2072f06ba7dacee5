"""What of a call is kept in the buckets: the conversation's context, and the session.

Everything that the conversation holds stands in the call's events, except the lines that were injected by command: a
successor reads those here.
"""

from __future__ import annotations

import msgspec

from bus.errors import BusError
from bus.logs import get_logger
from bus.ownership import Claim
from schemas.call import CallEnded, CallResult
from schemas.session import CallSession, ConversationContext, SessionStatus, Speaker
from services.llm.conversation import Conversation
from services.llm.deadline import Deadline
from services.llm.keeper import Keeper
from services.llm.workplace import Workplace

log = get_logger(__name__)

READ_MS = 200
"""A successor answers without injected lines rather than later."""

CONTEXT_BYTES = 60_000
"""Largest context that is written; the bucket takes 64 KiB."""

_ENCODER = msgspec.json.Encoder()


class Keeping:
    """The two values of one call, each kept by a keeper of its own."""

    def __init__(self, claim: Claim, place: Workplace, conversation: Conversation) -> None:
        self._claim = claim
        self._place = place
        self._conversation = conversation
        self._claimed_us = place.clock.now_us()
        self.context = Keeper(place.contexts, claim.call_id, self.context_after, place.clock)
        self.session = Keeper(place.sessions, claim.call_id, self.session_after, place.clock)

    async def read(self) -> None:
        """A predecessor's injected lines; everything else stands in the events."""
        try:
            async with Deadline(self._place.clock, READ_MS):
                entry = await self._place.contexts.get(self._claim.call_id)
        except (TimeoutError, BusError) as error:
            log.warning(
                "context_unread",
                message=f"going on without injected lines of before: {type(error).__name__}",
                call_id=self._claim.call_id,
            )
            return
        self._adopt_lines(entry.value if entry else None)

    async def flush(self, timeout_ms: int) -> None:
        """Wait until both are written, each at most this long."""
        await self.session.flush(timeout_ms)
        await self.context.flush(timeout_ms)

    async def close(self) -> None:
        """Write no more."""
        await self.session.close()
        await self.context.close()

    def context_after(self, current: ConversationContext | None) -> ConversationContext:
        """The context to write where ``current`` stands."""
        self._adopt_lines(current)
        mine = self._conversation.context(self._place.context_ttl_us)
        if current is not None and current.last_turn > mine.last_turn:
            return current
        while len(_ENCODER.encode(mine)) > CONTEXT_BYTES and mine.conversation_history:
            shorter = mine.conversation_history[len(mine.conversation_history) // 4 + 1 :]
            mine = msgspec.structs.replace(mine, conversation_history=shorter)
        return mine

    def session_after(self, current: CallSession | None) -> CallSession:
        """The session to write where ``current`` stands."""
        offered, answered, ended = self._claim.offered, self._conversation.answered, self._conversation.ended
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

    def _adopt_lines(self, context: ConversationContext | None) -> None:
        known = self._conversation.injected
        lines = [line for line in context.conversation_history if line.speaker is Speaker.SYSTEM] if context else []
        known[:0] = [line for line in lines if line not in known]


def _status(ended: CallEnded | None) -> SessionStatus:
    if ended is None:
        return SessionStatus.ACTIVE
    return {
        CallResult.COMPLETED: SessionStatus.COMPLETED,
        CallResult.CANCELLED: SessionStatus.INTERRUPTED,
    }.get(ended.result, SessionStatus.FAILED)
