"""Ends the calls of an edge that has died: nobody else would ever say that they are over.

A call's RTP and dialog lie in the memory of one edge. Where that edge has been silent for :data:`LOST_S` and does not
answer when it is asked, each stage takes the calls of it that it owns for ended, by its own judgement, and says
``edge.lost``. An edge that lives writes ``call.ended`` into the record then, which no stage may do, and one that was
merely cut off hangs up (``edge.switchboard``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from bus import codec
from bus.clock import wall_us
from bus.consume import hand_over
from bus.errors import BusError, BusTimeout, NoResponders
from bus.fencing import MESSAGE_ID
from bus.heartbeat import ping_subject
from bus.interface import Connection, Message, Subscription
from bus.logs import get_logger
from bus.publish import Recorder
from schemas import subjects
from schemas.call import (
    EDGE_LOST,
    CallAnswered,
    CallEnded,
    CallOffered,
    EdgeLost,
    ended_with_its_edge,
)

log = get_logger(__name__)

EDGE = "edge"
LOST_S = 15.0
"""An edge that restarts its connection, or whose server does, is back long before."""
LOOK_S = 1.0
ASK_MS = 1000
STORE_MS = 60_000
AGAIN_S = 10.0
LOST_CALLS = "CALLBUS_LOST_CALLS"
"""Environment of an edge that is started in place of one that died: how long each call that died with it had been up,
milliseconds, commas between them; the new one counts them. Set by ``callbus up``, which has recorded their ends."""
RECORDED_S = 5.0
RECORDED_LOOK_S = 0.1
"""A replica of the stream may know of an end a moment after its leader has confirmed it."""
AGAIN = 360
"""It is said again so often, an hour long, where no edge has ended the record: there may have been none."""


async def is_recorded(connection: Connection, end: CallEnded) -> bool:
    """Whether the record holds this very word of a call's end, after it was stored: of several who say it the first is
    recorded, and counts the call. Their words differ in the moment when they were said."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RECORDED_S):
            while True:
                with contextlib.suppress(BusError):
                    if (message := await connection.last(subjects.subject_of(end))) is not None:
                        return message.data == codec.encode(end)
                await asyncio.sleep(RECORDED_LOOK_S)
    return False


class EdgeWatch:
    """Watches the edges whose calls ``calls`` gives. ``service``: who looks, for the log."""

    def __init__(self, connection: Connection, service: str, calls: Callable[[], Iterable[CallOffered]]) -> None:
        self._connection = connection
        self._service = service
        self._calls = calls
        self._heard: dict[str, float] = {}
        self._told: set[str] = set()
        self._subscription: Subscription | None = None
        self._looking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen. Raises ``BusError``."""
        self._subscription = await self._connection.subscribe(subjects.heartbeat(EDGE, "*"), self._hear)
        self._looking = asyncio.get_running_loop().create_task(self._look_forever(), name="edge-watch")

    async def stop(self) -> None:
        """Listen no more; what was said is still stored."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        if self._subscription is not None:
            await self._subscription.close()

    def lives(self, edge: str) -> bool:
        """Whether that edge was heard lately."""
        heard = self._heard.get(edge)
        return heard is not None and asyncio.get_running_loop().time() - heard < LOST_S

    def _hear(self, message: Message) -> None:
        self._heard[message.subject.rsplit(".", 1)[1]] = asyncio.get_running_loop().time()

    async def _look_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LOOK_S)
            if not self._connection.connected or loop.time() - before > 2 * LOOK_S:
                # This side did not hear: that is nobody's silence.
                self._heard = dict.fromkeys(self._heard, loop.time())
                continue
            try:
                await self._look(loop.time())
            except Exception:
                log.exception("edge_watch_failed", message="looking after the edges failed; going on")

    async def _look(self, now: float) -> None:
        calls: dict[str, list[CallOffered]] = {}
        for offered in self._calls():
            calls.setdefault(offered.edge, []).append(offered)
        self._told &= {offered.call_id for edge in calls.values() for offered in edge}
        self._heard = {edge: at for edge, at in self._heard.items() if edge in calls or now - at < LOST_S}
        for edge, offers in calls.items():
            silent_s = now - self._heard.setdefault(edge, now)
            if silent_s >= LOST_S and await self._is_gone(edge):
                self._end([offered for offered in offers if offered.call_id not in self._told], edge, silent_s)

    async def _is_gone(self, edge: str) -> bool:
        try:
            await self._connection.request(ping_subject(EDGE, edge), b"", timeout_ms=ASK_MS)
        except (NoResponders, BusTimeout, subjects.SubjectError):
            return True
        except BusError:
            return False
        self._heard[edge] = asyncio.get_running_loop().time()
        return False

    def _end(self, calls: list[CallOffered], edge: str, silent_s: float) -> None:
        if calls:
            text = f"edge {edge} is gone, silent for {silent_s:.0f} s; its {len(calls)} calls here are over"
            log.error(EDGE_LOST, message=text, edge=edge, calls=len(calls))
        for offered in calls:
            self._told.add(offered.call_id)
            self._spawn(self._say(offered, wall_us() - round(silent_s * 1e6)))

    async def _say(self, offered: CallOffered, last_heard_us: int) -> None:
        answered_us = last_heard_us
        with contextlib.suppress(BusError):
            subject = subjects.event_subject(CallAnswered, offered.call_id, offered.tenant)
            message = await self._connection.last(subject)
            answered_us = codec.decode(message.data, CallAnswered).at_us if message is not None else last_heard_us
        duration_ms = max(0, last_heard_us - answered_us) // 1000
        recorder = Recorder(self._connection, service=self._service)
        lost = EdgeLost(
            call_id=offered.call_id,
            tenant=offered.tenant,
            at_us=wall_us(),
            edge=offered.edge,
            silent_ms=(wall_us() - last_heard_us) // 1000,
            duration_ms=duration_ms,
        )
        recorder.record(lost)
        hand_over(
            self._connection,
            ended_with_its_edge(
                call_id=offered.call_id,
                tenant=offered.tenant,
                at_us=wall_us(),
                edge=offered.edge,
                duration_ms=duration_ms,
            ),
        )
        await recorder.close(STORE_MS)
        await self._say_until_ended(lost)

    async def _say_until_ended(self, lost: EdgeLost) -> None:
        """An edge that was not there yet, or that still missed nobody, ends the record later."""
        end = subjects.event_subject(CallEnded, lost.call_id, lost.tenant)
        for _ in range(AGAIN):
            await asyncio.sleep(AGAIN_S)
            with contextlib.suppress(BusError):
                if await self._connection.last(end) is not None:
                    return
                if any(self.lives(edge) for edge in self._heard):
                    headers = {MESSAGE_ID: lost.dedupe_id}
                    self._connection.publish(subjects.subject_of(lost), codec.encode(lost), headers)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
