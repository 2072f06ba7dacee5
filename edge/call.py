"""One call: dialog, media and subjects, and the only file that knows all three.

::

    INVITE ──▶ offered ──▶ (ringing) ──▶ answered ──▶ ended
                  └──────────┴── CANCEL, refusal ──────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from bus.clock import wall_us
from bus.errors import BusError
from bus.logs import get_logger
from bus.metrics import calls as figures
from edge import admission
from edge.call_bus import CallBus
from edge.call_media import CallMedia
from edge.commands import CommandHandler
from edge.handover import Handover
from edge.signalling import Signalling
from edge.sip import events as sip
from edge.sip.errors import NotAcceptable, UsageError
from edge.sip.negotiation import NegotiatedMedia, OfferAnswer
from edge.summary import tell_call
from edge.text import clean
from schemas.call import (
    CallAnswered,
    CallHeld,
    CallOffered,
    CallResult,
    CallTransferred,
    DtmfIn,
    EndedBy,
    SetupTimes,
    TransferResult,
)

log = get_logger(__name__)

SETUP_TIMEOUT_S = 3.0
MAX_PARTY = 64
TRANSFERRED = "agent_transferred"
"""Reason of a call that ended because its caller was handed to somebody else."""
MAX_SIP_CALL_ID = 255


class CallState(Enum):
    """Where a call stands."""

    OFFERED = "offered"
    ANSWERED = "answered"
    ENDED = "ended"


class Call:
    """A call from its INVITE to its last stored word.

    Attributes:
        handle: the dialog's name in the user agent.
        bus, media: the call's other two faces.
    """

    def __init__(
        self,
        incoming: sip.IncomingCall,
        *,
        signalling: Signalling,
        bus: CallBus,
        media: CallMedia,
        negotiation: OfferAnswer,
        edge: str,
        ring_ms: int,
        retry_after_s: int,
        transfer_timeout_ms: int,
        now: Callable[[], float],
        on_ended: Callable[[Call], None],
    ) -> None:
        """``edge``: name of this process. ``now``: monotonic seconds. ``on_ended``: called once, at the end."""
        self.handle = incoming.call
        self.bus = bus
        self.media = media
        self.state = CallState.OFFERED
        self._incoming = incoming
        self._signalling = signalling
        self._negotiation = negotiation
        self._edge = edge
        self._ring_ms = ring_ms
        self._retry_after_s = retry_after_s
        self._now = now
        self._on_ended = on_ended
        self._arrived = now()
        self._answered_at = 0.0
        self._times: dict[str, float] = {"trying_ms": 0.0}
        self._sdp = b""
        self._answer_timer: asyncio.TimerHandle | None = None
        self._announced = False
        self._holds = 0
        self._presses = 0
        self._transfers = 0
        self._handover = Handover(self.handle, signalling, self._transferred, timeout_ms=transfer_timeout_ms, now=now)
        self.commands = CommandHandler(self, media, self._handover)

    @property
    def call_id(self) -> str:
        """Our name of the call."""
        return self.bus.call_id

    @property
    def held(self) -> bool:
        """Whether the caller has put the call on hold."""
        return bool(self._holds % 2)

    # -- from the INVITE to the answer ------------------------------------------------------------------------------

    def negotiate(self) -> None:
        """Fix codec and addresses from the offer, or prepare our own offer where there was none.

        Raises:
            NotAcceptable: nothing in common.
        """
        offer = self._incoming.offer
        self._sdp = self._negotiation.offer() if offer is None else self._negotiation.answer(offer)

    async def set_up(self) -> None:
        """Open subjects and sockets, announce the call, ring or answer. Never raises: a failure is a refusal."""
        try:
            async with asyncio.timeout(SETUP_TIMEOUT_S):
                await self.bus.open(self.media.offer_audio, self.commands.handle, self.media.replay)
                await self.media.open(self)
        except (BusError, OSError, TimeoutError) as error:
            if self.state is CallState.ENDED:
                return  # The caller gave up meanwhile, and the sockets are closed.
            log.warning("call_setup_failed", message=f"set-up failed: {type(error).__name__}", call_id=self.call_id)
            refusal = admission.BUS_AWAY if isinstance(error, BusError) else admission.SETUP_FAILED
            self._refuse(refusal)
            return
        if self.state is CallState.ENDED:
            return
        self._announced = True
        self.bus.say(
            CallOffered,
            edge=self._edge,
            sip_call_id=clean(self._incoming.sip_call_id, MAX_SIP_CALL_ID),
            caller=clean(self._incoming.from_user, MAX_PARTY),
            called=clean(self._incoming.request_user or self._incoming.to_user, MAX_PARTY),
            transport=self._incoming.transport.value,
            codecs=tuple(clean(codec, MAX_PARTY) for codec in self._incoming.offer.codecs[:32])
            if self._incoming.offer
            else (),
        )
        if self._ring_ms == 0:
            self._answer()
            return
        self._signalling.agent.ring(self.handle, self._now())
        self._signalling.pump()
        self._times["ringing_ms"] = self._since_arrival()
        self._answer_timer = asyncio.get_running_loop().call_later(self._ring_ms / 1000, self._answer)

    def _answer(self) -> None:
        if self.state is not CallState.OFFERED:
            return
        self._signalling.agent.answer(self.handle, self._sdp, self._now())
        self._signalling.pump()
        self.state = CallState.ANSWERED
        self._times["answered_ms"] = self._since_arrival()
        figures.SETUP.observe(self._times["answered_ms"] / 1000)
        self._answered_at = self._now()
        if self._negotiation.media is not None:
            self._start_media(self._negotiation.media)

    def _start_media(self, agreed: NegotiatedMedia) -> None:
        """Codec known: media time begins. After a late offer that is at the ACK, which brings the answer."""
        # A call keeps its codec: every stage has been told of it.
        self._negotiation.local = replace(self._negotiation.local, codecs=(agreed.codec,))
        epoch_us = wall_us()
        self.media.start(agreed, self._now())
        self.bus.say(
            CallAnswered,
            edge=self._edge,
            codec=agreed.codec,
            media_epoch_us=epoch_us,
            clock_rate_hz=agreed.clock_rate_hz,
            frame_ms=self.media.frame_ms,
        )
        self._tell_hold(agreed)

    # -- what the dialog says ---------------------------------------------------------------------------------------

    def on_sip(self, event: sip.CallEvent) -> None:
        """An event of this call's dialog."""
        self._handover.on_sip(event)
        match event:
            case sip.CallAcknowledged():
                self._acknowledged(event)
            case sip.ReinviteReceived():
                self._reinvited(event)
            case sip.InfoReceived():
                if event.digit is not None:
                    self.pressed(event.digit.digit, event.digit.duration_ms, self.media.media_time_ms(), "info")
            case sip.CallHungUp():
                self._ended(CallResult.COMPLETED, "caller_hung_up", EndedBy.CALLER)
            case sip.CallCancelled():
                self._ended(CallResult.CANCELLED, "caller_cancelled", EndedBy.CALLER)
            case sip.AckTimeout():
                self._ended(CallResult.FAILED, "no_ack", EndedBy.EDGE)
            case sip.CallFailed():
                self._ended(CallResult.FAILED, event.why, EndedBy.EDGE)
            case sip.EndOfCall():
                self._ended(CallResult.FAILED, "dialog_ended", EndedBy.EDGE)

    def _acknowledged(self, event: sip.CallAcknowledged) -> None:
        self._times.setdefault("acknowledged_ms", self._since_arrival())
        first = self._negotiation.media is None
        if event.answer is None:
            if first:
                self.hang_up("no_answer_in_ack", EndedBy.EDGE, CallResult.FAILED)
            return
        try:
            agreed = self._negotiation.accept(event.answer)
        except NotAcceptable:
            self.hang_up("no_codec", EndedBy.EDGE, CallResult.FAILED)
            return
        if first:
            self._start_media(agreed)
        else:
            self._change_media(agreed)

    def _reinvited(self, event: sip.ReinviteReceived) -> None:
        agent, now = self._signalling.agent, self._now()
        if event.offer is None:
            agent.answer_reinvite(self.handle, self._negotiation.offer(), now)
            return
        try:
            answer = self._negotiation.answer(event.offer)
        except NotAcceptable as refusal:
            agent.reject_reinvite(self.handle, refusal.status, now, headers=(warning_header(refusal),))
            return
        agent.answer_reinvite(self.handle, answer, now)
        if self._negotiation.media is not None:
            self._change_media(self._negotiation.media)

    def _change_media(self, agreed: NegotiatedMedia) -> None:
        self.media.change(agreed, self._now())
        self._tell_hold(agreed)

    def _tell_hold(self, agreed: NegotiatedMedia) -> None:
        held = agreed.held_by_peer
        if held == self.held:
            return
        self._holds += 1
        self.bus.say(CallHeld, change=self._holds, held=held, direction=agreed.direction.value)

    def _transferred(self, scheme: str, result: TransferResult) -> None:
        """The caller's telephone has said what became of our asking it to call somebody else."""
        self._transfers += 1
        figures.TRANSFERS.inc(result=result.value)
        accepted = result in (TransferResult.CONNECTED, TransferResult.LEFT)
        self.bus.say(CallTransferred, target_kind=scheme, accepted=accepted, result=result, number=self._transfers)
        if result is TransferResult.CONNECTED:
            self.hang_up(TRANSFERRED, EndedBy.AGENT)
        elif result is TransferResult.LEFT:
            self._ended(CallResult.COMPLETED, TRANSFERRED, EndedBy.CALLER)

    # -- what the media says ----------------------------------------------------------------------------------------

    def pressed(self, digit: str, duration_ms: int, media_time_ms: int, source: str = "rtp") -> None:
        """The caller pressed a key."""
        if self.state is not CallState.ANSWERED:
            return
        self._presses += 1
        figures.DTMF.inc(source=source)
        self.bus.say(
            DtmfIn,
            press=self._presses,
            digit=digit,
            duration_ms=max(0, duration_ms),
            media_time_ms=max(0, media_time_ms),
            source=source,
        )

    def media_timed_out(self) -> None:
        """No RTP for too long, and the call is not on hold."""
        self.bus.fail("media_timeout")
        self.hang_up("media_timeout", EndedBy.EDGE, CallResult.FAILED)

    # -- the end ----------------------------------------------------------------------------------------------------

    def hang_up(self, reason: str, ended_by: EndedBy, result: CallResult = CallResult.COMPLETED) -> None:
        """End the call from this side, in whatever state it is."""
        if self.state is CallState.ENDED:
            return
        if self.state is CallState.OFFERED and result is CallResult.COMPLETED:
            result = CallResult.REJECTED
        try:
            self._signalling.agent.hang_up(self.handle, self._now())
        except UsageError as error:
            log.info("hang_up_late", message=str(error), call_id=self.call_id)
        self._signalling.pump()
        self._ended(result, reason, ended_by)

    def _refuse(self, refusal: admission.Refusal) -> None:
        if self.state is CallState.ENDED:
            return
        reject(self._signalling, self.handle, refusal, self._now(), self._retry_after_s)
        figures.REFUSED.inc(reason=refusal.reason)
        self._ended(CallResult.REJECTED, refusal.reason, EndedBy.EDGE)

    def _ended(self, result: CallResult, reason: str, ended_by: EndedBy) -> None:
        if self.state is CallState.ENDED:
            return
        answered = self.state is CallState.ANSWERED
        self.state = CallState.ENDED
        self._handover.close()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        duration_ms = round((self._now() - self._answered_at) * 1000) if answered else 0
        counts = self.media.close(self._now())
        setup = SetupTimes(**self._times)
        if self._announced:
            self.bus.end(
                edge=self._edge,
                result=result,
                reason=reason,
                ended_by=ended_by,
                duration_ms=duration_ms,
                setup=setup,
                media=counts,
            )
        else:
            figures.count_ended(result, reason, duration_ms)
        agreed = self._negotiation.media
        tell_call(
            result,
            reason,
            ended_by,
            call_id=self.call_id,
            tenant=self.bus.tenant,
            counts=counts,
            duration_ms=duration_ms,
            codec=agreed.codec if agreed is not None else None,
            keys_pressed=self._presses,
            holds=self._holds,
            transfers=self._transfers,
            **self._times,
        )
        self._on_ended(self)

    def _since_arrival(self) -> float:
        return round((self._now() - self._arrived) * 1000, 2)


def reject(
    signalling: Signalling,
    handle: sip.CallHandle,
    refusal: admission.Refusal,
    now: float,
    retry_after_s: int,
    headers: tuple[tuple[str, str], ...] = (),
) -> None:
    """Refuse an INVITE; a 503 says when to try again (RFC 3261 section 21.5.4)."""
    if refusal.status == 503:
        headers = (*headers, ("Retry-After", str(retry_after_s)))
    signalling.agent.reject(handle, refusal.status, now, reason=refusal.text, headers=headers)
    signalling.pump()


def warning_header(refusal: NotAcceptable) -> tuple[str, str]:
    """RFC 3261 section 20.43."""
    return "Warning", f'{refusal.warning_code} callbus "{refusal.text}"'
