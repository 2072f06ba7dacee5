"""What follows once the caller has heard the last sentence: the agent hangs up, or hands the caller over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bus.clock import Clock, Timer
from bus.control import send_control
from bus.interface import Connection
from bus.logs import get_logger
from schemas.control import Hangup, Transfer
from schemas.llm import NextStep
from services.llm.conversation import Closing, Conversation
from services.llm.deadline import pause

log = get_logger(__name__)

HEARD_DEADLINE_MS = 30_000
"""The farewell counts as heard after this long, so that a call whose synthesis died does not stay up for ever."""

ATTEMPTS = 5
RETRY_MS = 500
CALLER_AWAY = "caller_away"
"""Reason of a hang-up on a caller who says nothing."""

TRANSFER_TARGET = "transfer_target"
"""The slot that says whom the caller is handed to."""


class Farewell:
    """Watches for the end of a conversation.

    Args:
        refused: called when the edge does not hand the caller over.
    """

    def __init__(
        self, connection: Connection, conversation: Conversation, clock: Clock, refused: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._conversation = conversation
        self._clock = clock
        self._refused = refused
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._tried = -1

    def check(self) -> None:
        """To be called after each event: begins the last step when its time has come."""
        closing = self._conversation.closing()
        if closing is None:
            self._stop_timer()
            return
        if closing.heard:
            self._begin(closing)
        elif self._timer is None and closing.utterance_id > self._tried:
            self._timer = self._clock.call_later(HEARD_DEADLINE_MS, self._late)

    def leave(self, reason: str) -> None:
        """Hang up now, without a word."""
        command = Hangup(call_id=self._conversation.call_id, tenant=self._conversation.tenant, reason=reason)
        self._start(command)

    def cancel(self) -> None:
        """The call is over or belongs to somebody else."""
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        closing = self._conversation.closing()
        if closing is not None:
            log.warning(
                "farewell_unheard",
                message=f"nobody said that the farewell was played within {HEARD_DEADLINE_MS} ms",
                call_id=self._conversation.call_id,
            )
            self._begin(closing)

    def _begin(self, closing: Closing) -> None:
        """Once an utterance: a step that the edge refused is not tried again until the agent asks for one again."""
        self._stop_timer()
        if closing.utterance_id <= self._tried:
            return
        self._tried = closing.utterance_id
        call_id, tenant = self._conversation.call_id, self._conversation.tenant
        if closing.step is NextStep.TRANSFER:
            target = self._conversation.slots.get(TRANSFER_TARGET, "")
            self._start(Transfer(call_id=call_id, tenant=tenant, target=target, reason="agent_transferred"))
        else:
            reason = CALLER_AWAY if closing.away else "agent_hung_up"
            self._start(Hangup(call_id=call_id, tenant=tenant, reason=reason))

    def _start(self, command: Hangup | Transfer) -> None:
        self._task = asyncio.get_running_loop().create_task(self._end(command), name="llm-farewell")

    async def _end(self, command: Hangup | Transfer) -> None:
        error = ""
        for _ in range(ATTEMPTS):
            reply = await send_control(self._connection, "edge", command)
            if reply.ok or self._conversation.ended is not None:
                return
            error = reply.error
            if error in ("not_supported", "invalid_argument"):
                break
            await pause(self._clock, RETRY_MS)
        what = "transfer" if isinstance(command, Transfer) else "hang up"
        log.error("farewell_failed", message=f"the edge did not {what}: {error}", call_id=command.call_id)
        if isinstance(command, Transfer):
            self._refused(error)
