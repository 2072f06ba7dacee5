"""What follows once the caller has heard the last sentence: the agent hangs up, or hands the caller over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bus.clock import Clock, Timer
from bus.control import send_control
from bus.interface import Connection
from bus.logs import get_logger
from schemas.base import Command
from schemas.control import Hangup, Transfer
from schemas.llm import NextStep
from services.llm.conversation import Conversation
from services.llm.deadline import pause

log = get_logger(__name__)

HEARD_DEADLINE_MS = 30_000
"""The farewell counts as heard after this long, so that a call whose synthesis died does not stay up for ever."""

ATTEMPTS = 5
RETRY_MS = 500
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
        step, heard = closing
        if heard:
            self._begin(step)
        elif self._timer is None and self._conversation.current_turn() > self._tried:
            self._timer = self._clock.call_later(HEARD_DEADLINE_MS, self._late)

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
            self._begin(closing[0])

    def _begin(self, step: NextStep) -> None:
        """Once a turn: a step that the edge refused is not tried again until the caller has spoken."""
        self._stop_timer()
        turn = self._conversation.current_turn()
        if turn > self._tried:
            self._tried = turn
            self._task = asyncio.get_running_loop().create_task(self._end(step), name="llm-farewell")

    async def _end(self, step: NextStep) -> None:
        call_id, tenant = self._conversation.call_id, self._conversation.tenant
        command: Command = Hangup(call_id=call_id, tenant=tenant, reason="agent_hung_up")
        if step is NextStep.TRANSFER:
            target = self._conversation.slots.get(TRANSFER_TARGET, "")
            command = Transfer(call_id=call_id, tenant=tenant, target=target, reason="agent_transferred")
        error = ""
        for _ in range(ATTEMPTS):
            reply = await send_control(self._connection, "edge", command)
            if reply.ok or self._conversation.ended is not None:
                return
            error = reply.error
            if error in ("not_supported", "invalid_argument"):
                break
            await pause(self._clock, RETRY_MS)
        log.error("farewell_failed", message=f"the edge did not {step.value}: {error}", call_id=call_id)
        if step is NextStep.TRANSFER:
            self._refused(error)
