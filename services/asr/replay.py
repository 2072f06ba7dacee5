"""Asking the edge for frames that this worker did not hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bus import codec
from bus.clock import Clock, uuid7_hex
from bus.consume import subscribe_audio
from bus.errors import BusError
from bus.interface import Connection
from bus.logs import get_logger
from schemas import subjects
from schemas.audio import AudioFrame
from schemas.control import ReplayReply, ReplayRequest

log = get_logger(__name__)

ATTEMPTS = 5
REQUEST_TIMEOUT_MS = 400
FRAMES_TIMEOUT_MS = 500
RETRY_MS = 100


class Replay:
    """Brings the frames of one call from a sequence on; asks again for what does not come.

    Args:
        deliver: gets the edge's messages.
        expected: the sequence that is due next.
        lost: called with the first sequence that the edge still has, where that is later than the one asked for.
    """

    def __init__(
        self,
        connection: Connection,
        call_id: str,
        tenant: str,
        clock: Clock,
        *,
        deliver: Callable[[AudioFrame], None],
        expected: Callable[[], int],
        lost: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._call_id = call_id
        self._tenant = tenant
        self._clock = clock
        self._deliver_frame = deliver
        self._expected = expected
        self._lost = lost
        self._progress = asyncio.Event()
        self._timed_out = False

    async def run(self) -> bool:
        """Ask until every frame that the edge had is here; False where it did not work within the attempts."""
        # Under the service's own inbox prefix, where one is set: a user of the bus may be allowed no other.
        inbox = f"{getattr(self._connection, 'inbox_prefix', '_INBOX')}.replay.{uuid7_hex()}"
        subscription = await subscribe_audio(self._connection, inbox, self._deliver, service="asr")
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    await self._pause(RETRY_MS)
                if await self._attempt(inbox):
                    return True
            return False
        finally:
            await subscription.close()

    async def _attempt(self, inbox: str) -> bool:
        asked = self._expected()
        request = ReplayRequest(call_id=self._call_id, tenant=self._tenant, from_sequence=asked, reply_to=inbox)
        try:
            answer = await self._connection.request(
                subjects.replay(self._call_id, self._tenant), codec.encode(request), timeout_ms=REQUEST_TIMEOUT_MS
            )
            reply = codec.decode(answer.data, ReplayReply)
        except BusError as error:
            log.warning("replay_failed", message=f"the edge gave no frames: {error}", call_id=self._call_id)
            return False
        if reply.first_sequence > max(asked, self._expected()):
            self._lost(reply.first_sequence)
        while self._expected() < reply.next_sequence:
            self._progress.clear()
            if not await self._pause(FRAMES_TIMEOUT_MS):
                return False
        return True

    def _deliver(self, frame: AudioFrame) -> None:
        self._deliver_frame(frame)
        self._progress.set()

    async def _pause(self, milliseconds: int) -> bool:
        """Wait for the next frame, no longer than that; whether one came."""
        timer = self._clock.call_later(milliseconds, self._wake)
        self._timed_out = False
        try:
            await self._progress.wait()
        finally:
            timer.cancel()
        self._progress.clear()
        return not self._timed_out

    def _wake(self) -> None:
        self._timed_out = True
        self._progress.set()
