"""A call's audio from the bus, in order and complete: live frames, and replayed ones where some were not heard."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from bus.clock import Clock
from bus.consume import subscribe_audio
from bus.interface import Connection, Subscription
from bus.logs import get_logger
from schemas import subjects
from schemas.audio import AudioFrame
from services.asr.intake import Intake
from services.asr.replay import Replay

log = get_logger(__name__)

SLICE_FRAMES = 10
"""Frames handled in one go while catching up, about 1 ms of work: other calls and heartbeats come in between."""


class AudioFeed:
    """Hands the frames of one call to ``handle``, each once.

    Args:
        handle: gets single frames.
        ready: whether a frame of the past may be handled now; :meth:`resume` says that this changed.
        lost: called with the number of frames that will never come, before the frame after them is handled.
        caught_up: called when nothing is waiting any more.
    """

    def __init__(
        self,
        connection: Connection,
        call_id: str,
        tenant: str,
        clock: Clock,
        *,
        handle: Callable[[AudioFrame], None],
        ready: Callable[[], bool],
        lost: Callable[[int], None],
        caught_up: Callable[[], None],
    ) -> None:
        self.replays = 0
        self._connection = connection
        self._call_id = call_id
        self._tenant = tenant
        self._clock = clock
        self._handle = handle
        self._ready = ready
        self._lost = lost
        self._caught_up = caught_up
        self._intake = Intake()
        self._early: list[AudioFrame] | None = []
        self._backlog: deque[AudioFrame] = deque()
        self._draining = False
        self._closed = False
        self._subscription: Subscription | None = None
        self._replaying: asyncio.Task[None] | None = None

    @property
    def behind(self) -> bool:
        """What is handled now is older than what was said last."""
        return self._replaying is not None or bool(self._backlog) or self._early is not None

    async def open(self) -> None:
        """Receive live frames; they wait for :meth:`begin`."""
        subject = subjects.live_audio("in", self._call_id, self._tenant)
        self._subscription = await subscribe_audio(self._connection, subject, self._receive, service="asr")

    def begin(self, expected: int, *, replay: bool) -> None:
        """Hand frames over from sequence ``expected`` on; ``replay``: ask the edge for those that are past."""
        self._intake.skip_to(expected)
        early, self._early = self._early or [], None
        if replay:
            self._ask()
        for message in early:
            self._receive(message)

    def resume(self) -> None:
        """``ready`` may have become true."""
        if self._backlog and not self._draining:
            # Never from inside: an engine that is done at once says so while earlier frames are still being handed on.
            self._draining = True
            asyncio.get_running_loop().call_soon(self._drain)

    async def close(self) -> None:
        """Hand nothing over any more."""
        self._closed = True
        self._backlog.clear()
        if self._subscription is not None:
            await self._subscription.close()
        if self._replaying is not None:
            self._replaying.cancel()
            await asyncio.gather(self._replaying, return_exceptions=True)

    def _receive(self, message: AudioFrame) -> None:
        if self._closed:
            return
        if self._early is not None:
            self._early.append(message)
            return
        self._take(self._intake.push(message))
        if self._intake.overflowing:
            self._give_up_gap()
        elif self._intake.waiting and self._replaying is None:
            self._ask()

    def _take(self, frames: list[AudioFrame]) -> None:
        if not self.behind and len(frames) == 1:
            self._handle(frames[0])
        elif frames:
            self._backlog.extend(frames)
            self.resume()

    def _drain(self) -> None:
        """Handle some of what waits, then let others have their turn."""
        for _ in range(SLICE_FRAMES):
            if not self._backlog or self._closed or not self._ready():
                break
            self._handle(self._backlog.popleft())
        self._draining = False
        if self._closed:
            return
        if self._backlog and self._ready():
            self.resume()
        elif not self.behind:
            self._caught_up()

    def _ask(self) -> None:
        self.replays += 1
        self._replaying = asyncio.get_running_loop().create_task(self._replay(), name="asr-replay")

    async def _replay(self) -> None:
        replay = Replay(
            self._connection,
            self._call_id,
            self._tenant,
            self._clock,
            deliver=self._receive,
            expected=lambda: self._intake.expected,
            lost=self._skip_to,
        )
        asked = self._intake.expected
        complete = await replay.run()
        self._replaying = None
        if complete and self._intake.expected == asked:
            # The edge has not said the frame that was asked for: what waits for it is none of the edge's. Should it be
            # one all the same, the next live frame asks again and the ring brings it.
            self._intake.forget_waiting()
        if not complete:
            self._give_up_gap()
        elif self._intake.waiting:
            self._ask()
        if not self.behind:
            self._caught_up()

    def _skip_to(self, sequence: int) -> None:
        self._note_lost(sequence)
        self._take(self._intake.skip_to(sequence))

    def _give_up_gap(self) -> None:
        earliest = self._intake.earliest_waiting
        if earliest is not None:
            self._skip_to(earliest)

    def _note_lost(self, sequence: int) -> None:
        missing = sequence - self._intake.expected
        if missing > 0:
            log.warning(
                "frames_lost",
                message=f"{missing} frames of a caller are not in the edge's ring any more",
                call_id=self._call_id,
            )
            self._lost(missing)
