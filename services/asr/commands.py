"""What the turn policy asks of other stages: hold, go on, drop, say, hang up. One at a time, each within its deadline.

Commands about the agent's playout must arrive in their order, so the next one leaves when the one before is answered.
One that a newer one has made pointless (a pause, once its utterance is to be dropped) is not tried again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from bus.control import send_control
from bus.interface import Connection
from bus.logs import get_logger
from schemas.base import Command
from schemas.control import Flush, GiveUp, Pause, Resume, Say
from schemas.llm import APOLOGY_PART, utterance_of
from schemas.subjects import command_name
from services.asr.turn import values as v

log = get_logger(__name__)

ATTEMPTS = 3
TIMEOUT_MS = 300
PAUSE_LIMIT_MS = 10_000
"""The edge goes on by itself after this long: longer than any suspicion lasts."""
HANG_UP_REASON = "turn_stuck"


class _Order(NamedTuple):
    stage: str
    command: Command


class CallCommands:
    """The commands of one call's turn policy."""

    def __init__(self, connection: Connection, call_id: str, tenant: str) -> None:
        self._connection = connection
        self._call_id = call_id
        self._tenant = tenant
        self._orders: deque[_Order] = deque()
        self._task: asyncio.Task[None] | None = None

    def pause(self, command: v.Pause) -> None:
        """Hold the utterance."""
        limit_ms, target = PAUSE_LIMIT_MS, command.utterance_id
        self._give("edge", Pause(**self._names("barge_in"), utterance_id=target, limit_ms=limit_ms))

    def resume(self, command: v.Resume) -> None:
        """Go on with it."""
        self._give("edge", Resume(**self._names(command.why), utterance_id=command.utterance_id))

    def flush(self, utterance_id: int) -> None:
        """Drop it."""
        self._give("edge", Flush(**self._names("interruption"), utterance_id=utterance_id))

    def apologise(self, turn: int, text: str) -> None:
        """Have tts say this in place of the answer to ``turn``."""
        target = utterance_of(turn, APOLOGY_PART)
        self._give("tts", Say(**self._names(HANG_UP_REASON), text=text, utterance_id=target))

    def hang_up(self) -> None:
        """End a call that nobody answers. The edge does so unless the agent is heard: asr may not hang up."""
        self._give("edge", GiveUp(**self._names(HANG_UP_REASON)))

    async def close(self) -> None:
        """Ask for nothing more."""
        self._orders.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _names(self, reason: str) -> dict[str, str]:
        return {"call_id": self._call_id, "tenant": self._tenant, "reason": reason}

    def _give(self, stage: str, command: Command) -> None:
        self._orders.append(_Order(stage, command))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name="asr-commands")

    async def _work(self) -> None:
        while self._orders:
            await self._send(self._orders.popleft())

    async def _send(self, order: _Order) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            reply = await send_control(self._connection, order.stage, order.command, timeout_ms=TIMEOUT_MS)
            if reply.ok or reply.error == "unknown_utterance":
                return
            if self._orders and isinstance(order.command, Pause | Resume):
                break
            if attempt == ATTEMPTS:
                name = command_name(order.command)
                log.warning(
                    "command_failed",
                    message=f"the {order.stage} stage did not carry out {name}: {reply.error}",
                    call_id=self._call_id,
                )
