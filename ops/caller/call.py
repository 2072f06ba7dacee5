"""Place one call and carry out a script in it."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from edge.net.addresses import interface_towards
from edge.net.ports import PortPool
from edge.net.udp import Address
from edge.signalling import Signalling
from edge.sip.errors import NotAcceptable, SipError, WrongState
from edge.sip.events import (
    CallAnswered,
    CallCancelled,
    CallEvent,
    CallFailed,
    CallHandle,
    CallHungUp,
    CallRejected,
    EndOfCall,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    RingingReceived,
)
from edge.sip.headers import parse_uri
from edge.sip.negotiation import LocalMedia, OfferAnswer
from edge.sip.routing import Hop, request_hop
from edge.sip.sdp import Direction
from ops.caller.media import CallMedia
from ops.caller.report import CallReport, Outcome, SipResponse
from ops.caller.running import Conversation, ScriptRun
from ops.caller.script import CallScript, ScriptError
from ops.caller.speech import CALLER_VOICE, prepare

LINGER_S = 0.6
"""Longer than T1: a BYE that got lost goes out once more."""
REINVITE_ATTEMPTS = 3
REINVITE_LIMIT_S = 35.0

FAULTS = {
    "timeout": "no response to the INVITE: does anything listen there?",
    "transport": "no connection to the target could be made",
    "unanswered": "it rang for too long",
    "dialog_lost": "the other side no longer knew the call",
}

Progress = Callable[[str], None]


class CallOptions(NamedTuple):
    """How a call is placed.

    Attributes:
        voice, speed: of eSpeak NG for spoken steps.
        answer_limit_s: how long it may ring.
        call_limit_s: how long it may last after the answer.
        codecs: offered, in this order.
        from_uri: who calls; empty: this machine.
    """

    voice: str = CALLER_VOICE
    speed: float = 1.0
    answer_limit_s: float = 30.0
    call_limit_s: float = 300.0
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    from_uri: str = ""


async def place_call(
    target_uri: str,
    script: CallScript,
    *,
    options: CallOptions = CallOptions(),  # noqa: B008
    progress: Progress = lambda text: None,
) -> CallReport:
    """Call ``target_uri`` (``sip:...``, with ``;transport=tcp`` over TCP), carry out ``script``, hang up.

    A call that comes to nothing is told in the report, never raised.

    Raises:
        ScriptError: the target is no SIP URI, or a step can't be carried out.
        ConfigError: the voice can't be had.
    """
    hop = _hop(target_uri)
    script.check()
    sounds = await prepare(script.steps, options.voice, options.speed)
    return await _call(target_uri, hop, ScriptRun(script, sounds, progress), options, progress)


async def place_conversation(
    target_uri: str,
    conversation: Conversation,
    *,
    options: CallOptions = CallOptions(),  # noqa: B008
    progress: Progress = lambda text: None,
) -> CallReport:
    """As :func:`place_call`, with something else than a script on the call: it hears, and decides as it goes.

    Raises:
        ScriptError: the target is no SIP URI.
    """
    return await _call(target_uri, _hop(target_uri), conversation, options, progress)


def _hop(target_uri: str) -> Hop:
    try:
        uri = parse_uri(target_uri, "the target")
    except SipError as error:
        raise ScriptError(f"{target_uri!r} can't be called: {error}") from error
    if uri.scheme != "sip":
        raise ScriptError(f"{target_uri!r} can't be called: only sip: targets can")
    return request_hop(uri)


async def _call(
    target_uri: str, hop: Hop, conversation: Conversation, options: CallOptions, progress: Progress
) -> CallReport:
    report = CallReport(target=target_uri, transport=hop.transport.value)
    try:
        destination = await _resolve(hop.destination)
    except OSError as error:
        report.reason = f"{hop.destination[0]} can't be resolved: {error}"
        return report
    call = OutgoingCall(report, options, progress)
    await call.run(target_uri, destination, conversation)
    return report


class OutgoingCall:
    """One call from the INVITE to the last packet."""

    def __init__(self, report: CallReport, options: CallOptions, progress: Progress) -> None:
        self.report = report
        self._options = options
        self._progress = progress
        self._address = ""
        self._signalling: Signalling | None = None
        self._handle: CallHandle | None = None
        self._session: OfferAnswer | None = None
        self._invited_at = 0.0
        self._hung_up = False
        self._answer: asyncio.Future[CallAnswered] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._reinvite: asyncio.Future[CallEvent] | None = None
        self.media: CallMedia | None = None

    async def run(self, target: str, destination: Address, conversation: Conversation) -> None:
        """Everything, and the report is complete."""
        self._address = interface_towards(destination[0])
        self._signalling = Signalling(self._on_event, host=self._address, advertised_host="")
        await self._signalling.start(0, tcp=True)
        pool = PortPool(self._address, 0, 0, 0)
        pair = pool.acquire(time.monotonic())
        self._session = OfferAnswer(
            LocalMedia(
                address=self._address, port=pair.port, session_id=secrets.randbits(31), codecs=self._options.codecs
            )
        )
        try:
            self._invite(target, destination)
            answered = await self._answered()
            if answered is not None:
                agreed = self._session.accept(answered.answer) if answered.answer is not None else None
                if agreed is None:
                    raise NotAcceptable(0, "the answer holds no session description")
                self.report.codec = agreed.codec
                self.media = CallMedia(pair, agreed)
                await self._converse(self.media, conversation)
        except NotAcceptable as error:
            self._finish(Outcome.FAILED, str(error), "caller")
        finally:
            self._hang_up()
            await asyncio.sleep(LINGER_S if self._hung_up else 0.0)
            self._signalling.close()
            pair.close()

    # -- before the answer -----------------------------------------------------------------------------------------

    def _invite(self, target: str, destination: Address) -> None:
        assert self._signalling is not None
        assert self._session is not None
        self._invited_at = time.monotonic()
        uri = parse_uri(target, "the target")
        self._handle = self._signalling.agent.invite(
            target,
            self._invited_at,
            sdp=self._session.offer(),
            from_uri=self._options.from_uri or f"sip:caller@{self._address}",
            destination=destination,
            transport=request_hop(uri).transport,
        )
        self._signalling.pump()
        self._progress(f"calling {target}")

    async def _answered(self) -> CallAnswered | None:
        """The answer; None where there is none, and the report says why."""
        over = asyncio.get_running_loop().create_task(self._until_over())
        await asyncio.wait(
            (over, self._answer), timeout=self._options.answer_limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        over.cancel()
        if self._answer.done():
            return self._answer.result()
        if not self._over.is_set():
            silent = "" if self.report.responses else ", and no response at all: does anything listen there?"
            self._finish(Outcome.UNANSWERED, f"no answer within {self._options.answer_limit_s:g} s{silent}", "caller")
        return None

    # -- the conversation ------------------------------------------------------------------------------------------

    async def _converse(self, media: CallMedia, conversation: Conversation) -> None:
        loop = asyncio.get_running_loop()
        await media.start()
        self._progress(f"answered, {self.report.codec}")
        work = loop.create_task(conversation.run(media, self.reinvite))
        over = loop.create_task(self._until_over())
        try:
            await asyncio.wait((work, over), timeout=self._options.call_limit_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                self._finish(Outcome.COMPLETED, "script_done", "caller")
            elif not self._over.is_set():
                self._finish(Outcome.TIMED_OUT, f"longer than {self._options.call_limit_s:g} s", "caller")
        finally:
            work.cancel()
            over.cancel()
            await asyncio.wait({work, over})
            self.report.duration_ms = media.duration_ms
            self._hang_up()
            await media.stop()
            self.report.recording = media.recording
            self.report.sent, self.report.received = media.sent(), media.received()
            self.report.keys_received = media.keys
            conversation.complete(self.report)

    async def reinvite(self, direction: Direction) -> str:
        """Hold (``SENDONLY``) or resume (``SENDRECV``); empty where the other side agreed, else why not."""
        assert self._signalling is not None
        assert self._session is not None
        assert self._handle is not None
        for _ in range(REINVITE_ATTEMPTS):
            self._reinvite = asyncio.get_running_loop().create_future()
            try:
                self._signalling.agent.reinvite(self._handle, self._session.offer(direction), time.monotonic())
                self._signalling.pump()
                async with asyncio.timeout(REINVITE_LIMIT_S):
                    event = await self._reinvite
            except WrongState:
                await asyncio.sleep(0.5)
                continue
            except TimeoutError:
                return "the re-INVITE was not answered"
            if isinstance(event, ReinviteAnswered):
                if event.answer is not None and self.media is not None:
                    self.media.renegotiated(self._session.accept(event.answer))
                return ""
            assert isinstance(event, ReinviteRejected)
            if event.status != 491:
                return f"the re-INVITE was refused with {event.status}"
            await asyncio.sleep(event.retry_after_s)
        return "the other side kept changing the session itself"

    # -- events ----------------------------------------------------------------------------------------------------

    def _on_event(self, event: CallEvent) -> None:
        if event.call != self._handle:
            # Nobody is expected to call us back.
            return
        match event:
            case RingingReceived():
                self._response(event.status)
                self._progress(f"ringing ({event.status})")
            case CallAnswered():
                self._response(200)
                if not self._answer.done():
                    self._answer.set_result(event)
            case ReinviteAnswered() | ReinviteRejected():
                if self._reinvite is not None and not self._reinvite.done():
                    self._reinvite.set_result(event)
            case ReinviteReceived():
                self._follow(event)
            case EndOfCall():
                self._ended(event)

    async def _until_over(self) -> None:
        await self._over.wait()

    def _response(self, status: int) -> None:
        at_ms = round(1000 * (time.monotonic() - self._invited_at), 1)
        self.report.responses.append(SipResponse(status=status, at_ms=at_ms))
        self.report.sip_status = status

    def _follow(self, event: ReinviteReceived) -> None:
        """The other side changes the session: hold, resume, another address."""
        assert self._signalling is not None
        assert self._session is not None
        now = time.monotonic()
        try:
            answer = self._session.answer(event.offer) if event.offer is not None else self._session.offer()
        except NotAcceptable:
            self._signalling.agent.reject_reinvite(event.call, 488, now)
            return
        self._signalling.agent.answer_reinvite(event.call, answer, now)
        if self.media is not None and self._session.media is not None:
            self.media.renegotiated(self._session.media)
            self.media.hold(self._session.media.held_by_peer)

    def _ended(self, event: EndOfCall) -> None:
        match event:
            case CallRejected():
                self._response(event.status)
                self._finish(Outcome.REJECTED, f"{event.status} {event.reason}", "callee")
            case CallHungUp():
                self._finish(Outcome.COMPLETED, event.reason or "callee_hung_up", "callee")
            case CallCancelled():
                self._finish(Outcome.UNANSWERED, "cancelled", "caller")
            case CallFailed():
                self._finish(Outcome.FAILED, FAULTS.get(event.why, event.why), "")
            case _:
                self._finish(Outcome.FAILED, type(event).__name__, "")
        self._handle = None
        self._over.set()

    def _finish(self, outcome: Outcome, reason: str, ended_by: str) -> None:
        """The first word about the end counts."""
        if not self._over.is_set() and not self.report.reason:
            self.report.outcome, self.report.reason, self.report.ended_by = outcome, reason, ended_by
            self._progress(f"{outcome}: {reason}")

    def _hang_up(self) -> None:
        """End the call where it still stands, from any state."""
        if self._handle is None or self._signalling is None:
            return
        handle, self._handle = self._handle, None
        self._hung_up = True
        self._signalling.agent.hang_up(handle, time.monotonic())
        self._signalling.pump()


async def _resolve(destination: Address) -> Address:
    found = await asyncio.get_running_loop().getaddrinfo(*destination, type=socket.SOCK_DGRAM)
    host, port = found[0][4][:2]
    return str(host), int(port)
