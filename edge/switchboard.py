"""All calls of one edge: who comes in, whose event this is, what the bus's absence means for each."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from bus import codec
from bus.clock import uuid7_hex, wall_us
from bus.edges import LOST_S, is_recorded
from bus.errors import BusError
from bus.interface import Connection
from bus.logs import about_call, get_logger
from bus.metrics import calls as figures
from bus.publish import Recorder
from config.settings import EdgeSection
from edge import admission
from edge.admission import Admission, Refusal
from edge.call import Call, reject, warning_header
from edge.call_bus import CLOSE_TIMEOUT_MS, CallBus
from edge.call_media import CallMedia
from edge.net.pacer import Pacer
from edge.net.ports import PortPool, PortsExhaustedError
from edge.outbox import Outbox
from edge.signalling import Signalling
from edge.sip import events as sip
from edge.sip.errors import NotAcceptable, UsageError
from edge.sip.negotiation import LocalMedia, OfferAnswer
from edge.summary import tell_call
from schemas.base import Event
from schemas.call import EDGE_LOST, CallEnded, CallOffered, CallResult, EdgeLost, EndedBy, ended_with_its_edge
from schemas.subjects import event_subject

log = get_logger(__name__)

MISSED_S = LOST_S / 2
"""Stages can only have missed this edge where it was away for at least so long."""


class Switchboard:
    """Gives every call event to its call, and makes calls out of INVITEs."""

    def __init__(
        self,
        settings: EdgeSection,
        connection: Connection,
        *,
        edge: str,
        admission: Admission,
        ports: PortPool,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``edge``: name of this process, one token."""
        self.signalling = Signalling(self.on_event, host=settings.host, advertised_host=settings.advertised_host)
        self.outbox = Outbox(connection)
        self.pacer = Pacer(self.outbox.flush)
        self.refused = 0
        self.calls: dict[sip.CallHandle, Call] = {}
        self._callers: dict[sip.CallHandle, tuple[str, str]] = {}
        self._settings = settings
        self._connection = connection
        self._edge = edge
        self._admission = admission
        self._ports = ports
        self._now = now
        self.hears: Callable[[str], bool] = lambda edge: False
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: dict[asyncio.Task[None], CallBus] = {}
        self._bus_lost_at: float | None = None
        self._beat_at: float | None = None
        self._away_at: float | None = None
        figures.ACTIVE.read(lambda: len(self.calls))
        figures.HELD.read(lambda: sum(call.held for call in list(self.calls.values())))
        connection.on_disconnected(self._bus_lost)
        connection.on_reconnected(self._bus_back)

    def on_event(self, event: sip.CallEvent) -> None:
        """An event of the user agent."""
        if isinstance(event, sip.IncomingCall):
            self._incoming(event)
            return
        call = self.calls.get(event.call)
        if call is not None:
            with about_call(call.call_id, call.bus.tenant):
                call.on_sip(event)

    def hang_up_all(self, reason: str) -> None:
        """End every call that is left."""
        for call in list(self.calls.values()):
            call.hang_up(reason, EndedBy.EDGE)

    async def drained(self, timeout_s: float) -> bool:
        """Wait until the record of all ended calls is stored; False where the time did not suffice."""
        if self._closing:
            await asyncio.wait(list(self._closing), timeout=timeout_s)
        return not self._closing

    async def close(self, timeout_s: float) -> None:
        """Wait until the record of the ended calls is stored; log what was lost."""
        for task in self._tasks:
            task.cancel()
        await self.drained(timeout_s)
        lost = sum(bus.pending for bus in self._closing.values())
        for task in list(self._closing):
            task.cancel()
        if lost:
            log.error("record_lost", message=f"{lost} recorded messages were not stored before the edge stopped")

    # -- coming in --------------------------------------------------------------------------------------------------

    def _incoming(self, event: sip.IncomingCall) -> None:
        figures.OFFERED.inc()
        caller = (event.from_user, event.source[0])
        refusal = self._admission.refusal(
            calls=len(self.calls),
            bus_connected=self._connection.connected,
            calls_of_caller=sum(other == caller for other in self._callers.values()),
        )
        if refusal is None and event.offer is not None and event.offer.audio is None:
            refusal = admission.NO_AUDIO
        if refusal is not None:
            self._refuse(event, refusal)
            return
        try:
            pair = self._ports.acquire(self._now())
        except PortsExhaustedError as error:
            log.warning("rtp_ports_exhausted", message=str(error))
            self._refuse(event, admission.NO_PORT)
            return
        bus = CallBus(self._connection, self.outbox, uuid7_hex(), self._edge)
        media = CallMedia(pair, self._ports, self.pacer, self.outbox, bus, self._settings)
        local = LocalMedia(
            address=self.signalling.address_towards(event.source[0]),
            port=pair.port,
            session_id=secrets.randbits(31),
            frame_ms=media.frame_ms,
        )
        call = Call(
            event,
            signalling=self.signalling,
            bus=bus,
            media=media,
            negotiation=OfferAnswer(local),
            edge=self._edge,
            ring_ms=self._settings.ring_ms,
            retry_after_s=self._settings.retry_after_s,
            transfer_timeout_ms=self._settings.transfer_timeout_ms,
            now=self._now,
            on_ended=self._on_ended,
        )
        with about_call(bus.call_id, bus.tenant):
            self._admit(event, call)

    def _admit(self, event: sip.IncomingCall, call: Call) -> None:
        try:
            call.negotiate()
        except NotAcceptable as error:
            call.media.close(self._now())
            self._forget(call)
            self._refuse(event, admission.NO_CODEC, (warning_header(error),))
            return
        self.calls[event.call] = call
        self._callers[event.call] = (event.from_user, event.source[0])
        task = asyncio.get_running_loop().create_task(call.set_up(), name="call-set-up")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, event: sip.IncomingCall, refusal: Refusal, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.refused += 1
        figures.count_refused(refusal.reason)
        try:
            reject(self.signalling, event.call, refusal, self._now(), self._settings.retry_after_s, headers)
        except UsageError as error:
            log.info("refusal_late", message=str(error))
        tell_call(CallResult.REJECTED, refusal.reason, EndedBy.EDGE, status=refusal.status)

    # -- going out --------------------------------------------------------------------------------------------------

    def _on_ended(self, call: Call) -> None:
        self.calls.pop(call.handle, None)
        self._callers.pop(call.handle, None)
        self._forget(call)

    def _forget(self, call: Call) -> None:
        with about_call(call.call_id, call.bus.tenant):
            task = asyncio.get_running_loop().create_task(call.bus.close(), name="call-close")
            self._closing[task] = call.bus
            task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("call_close_failed", message="closing a call failed", exc_info=task.exception())

    # -- the bus ----------------------------------------------------------------------------------------------------

    def _bus_lost(self) -> None:
        if self._bus_lost_at is None:
            self._bus_lost_at = self._now()

    def _bus_back(self) -> None:
        if self._bus_lost_at is None:
            return
        gap_s = self._now() - self._bus_lost_at
        gap_ms = round(gap_s * 1000)
        self._bus_lost_at = None
        for call in self.calls.values():
            call.bus.fail("bus_disconnected", gap_ms=gap_ms)
        self._spawn(self._end_what_was_given_up(gap_s), "given-up")

    async def _end_what_was_given_up(self, gap_s: float) -> None:
        """The bus was away: the stages may have let go of a call, or somebody ended its record, unheard by this edge.
        What stages say counts only where they can have missed this edge for so long."""
        signs: list[type[Event]] = [CallEnded, *([EdgeLost] if gap_s >= MISSED_S or self._was_away() else [])]
        for call in list(self.calls.values()):
            for sign in signs:
                with contextlib.suppress(BusError):
                    message = await self._connection.last(event_subject(sign, call.call_id, call.bus.tenant))
                    if message is not None and call.handle in self.calls:
                        call.hang_up(EDGE_LOST, EndedBy.EDGE, CallResult.FAILED)

    def beat(self) -> None:
        """The process runs. Where it did not for long, stages may have let go of its calls."""
        now = self._now()
        away_s = now - self._beat_at if self._beat_at is not None else 0.0
        self._beat_at = now
        if away_s >= MISSED_S:
            self._away_at = now
            log.warning("stood_still", message=f"this edge stood still for {away_s:.1f} s; it asks for its calls")
            self._spawn(self._end_what_was_given_up(away_s), "given-up")

    def _was_away(self) -> bool:
        """Whether this process stands still, or did a moment ago: what is read now may have waited for it since."""
        now = self._now()
        return (self._beat_at is not None and now - self._beat_at >= MISSED_S) or (
            self._away_at is not None and now - self._away_at < MISSED_S
        )

    def on_edge_lost(self, event: Event) -> None:
        """A stage lets go of a call because its edge is gone (``bus.edges``).

        Believed only where that edge is not heard here either, or a stage could end any call. Where it is this one,
        which was frozen or cut off, its callers have nobody who answers them; another one can't write the end of its
        call any more.
        """
        if not isinstance(event, EdgeLost):
            return
        own = [call for call in self.calls.values() if call.call_id == event.call_id]
        if own and event.edge == self._edge and (self._was_away() or not self.hears(self._edge)):
            for call in own:
                call.hang_up(EDGE_LOST, EndedBy.EDGE, CallResult.FAILED)
        elif own or self.hears(event.edge):
            log.warning("edge_not_lost", message=f"a stage says that edge {event.edge} is gone, but it is heard here")
        elif event.edge != self._edge:
            self._spawn(self._end_record(event), "end-of-a-lost-call")

    async def _end_record(self, lost: EdgeLost) -> None:
        """Say the end of another edge's call. All edges do; the event's id makes one of them, whose edge counts it."""
        subject = event_subject(CallOffered, lost.call_id, lost.tenant)
        try:
            message = await self._connection.last(subject)
            offered = codec.decode(message.data, CallOffered) if message is not None else None
        except BusError as error:
            log.warning("edge_lost_unchecked", message=f"a call of a lost edge can't be looked up: {error}")
            return
        if offered is None or offered.edge != lost.edge:
            text = f"a stage says that edge {lost.edge} is gone with a call that is not its"
            log.warning("edge_not_lost", message=text, call_id=lost.call_id)
            return
        recorder = Recorder(self._connection, service="edge")
        end = ended_with_its_edge(
            call_id=lost.call_id,
            tenant=lost.tenant,
            at_us=wall_us(),
            edge=lost.edge,
            duration_ms=lost.duration_ms,
        )
        recorder.record(end)
        await recorder.close(CLOSE_TIMEOUT_MS)
        if await is_recorded(self._connection, end):
            figures.count_ended(end.result, end.reason, end.duration_ms)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
