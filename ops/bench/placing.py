"""Place many calls at one edge from one SIP socket; media is somebody else's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence

from edge.signalling import Signalling
from edge.sip.errors import UnknownCall
from edge.sip.events import CallAnswered, CallEvent, CallFailed, CallHandle, CallRejected
from edge.sip.negotiation import LocalMedia, OfferAnswer

CALLS_A_SECOND = 50


class CallPlacer:
    """A SIP client for benches.

    ``place`` puts the given RTP ports into its offers and returns the edge's RTP ports in the same order.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._signalling = Signalling(self._on_event, host=host, advertised_host=host)
        self._offers: dict[CallHandle, OfferAnswer] = {}
        self._answers: dict[CallHandle, asyncio.Future[int]] = {}
        self._session_ids = itertools.count(1)

    async def start(self) -> None:
        """Bind a SIP port."""
        await self._signalling.start(0, tcp=False)

    async def place(self, target: str, rtp_ports: Sequence[int], calls_a_second: float = CALLS_A_SECOND) -> list[int]:
        """One call per port.

        Raises:
            RuntimeError: a call was refused; the text has the SIP status.
            TimeoutError: no answer in 10 s.
        """
        handles = []
        for port in rtp_ports:
            handles.append(self._invite(target, port))
            await asyncio.sleep(1 / calls_a_second)
        async with asyncio.timeout(10):
            return list(await asyncio.gather(*(self._answers[handle] for handle in handles)))

    async def hang_up_all(self) -> None:
        """BYE for every call that was not refused, and time for the answers."""
        for handle, answer in self._answers.items():
            if answer.done() and answer.exception() is not None:
                continue  # refused: there is nothing to hang up
            with contextlib.suppress(UnknownCall):  # the other side was first
                self._signalling.agent.hang_up(handle, time.monotonic())
            self._signalling.pump()
            await asyncio.sleep(0.002)
        self._answers.clear()
        await asyncio.sleep(0.3)

    def close(self) -> None:
        """Give the SIP port back."""
        self._signalling.close()

    def _invite(self, target: str, port: int) -> CallHandle:
        media = LocalMedia(address=self._host, port=port, session_id=next(self._session_ids), codecs=("PCMU",))
        session = OfferAnswer(media)
        handle = self._signalling.agent.invite(target, time.monotonic(), sdp=session.offer())
        self._offers[handle] = session
        self._answers[handle] = asyncio.get_running_loop().create_future()
        self._signalling.pump()
        return handle

    def _on_event(self, event: CallEvent) -> None:
        waiting = self._answers.get(event.call)
        if waiting is None or waiting.done():
            return
        match event:
            case CallAnswered(answer=answer) if answer is not None:
                waiting.set_result(self._offers[event.call].accept(answer).remote_port)
            case CallRejected(status=status):
                waiting.set_exception(RuntimeError(f"the edge refused a call with {status}"))
            case CallFailed():
                waiting.set_exception(RuntimeError("a call failed"))
