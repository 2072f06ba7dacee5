"""Handing the caller to somebody else: the caller's telephone is asked to call them (REFER), and then left alone.

::

    Transfer ──▶ asked ──▶ taken (202) ──▶ connected: we hang up
                   │           ├── busy, nobody there ──▶ the agent goes on
                   └── refused ┴── no word for too long ──▶ the agent goes on

While it is under way the caller still hears us; what the agent says is its own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.signalling import Signalling
from edge.sip import events as sip
from edge.sip.errors import SipDefect, UsageError
from schemas.call import TransferResult
from schemas.control import ControlReply

MAX_TARGET = 255

Report = Callable[[str, TransferResult], None]
"""Takes the scheme of the target and what became of it; called once a transfer."""


class Handover:
    """The transfers of one call, one at a time.

    Args:
        timeout_ms: a telephone that has not said by then how it ended counts as failed.
        now: monotonic seconds.
    """

    def __init__(
        self,
        handle: sip.CallHandle,
        signalling: Signalling,
        report: Report,
        *,
        timeout_ms: int,
        now: Callable[[], float],
    ) -> None:
        self._handle = handle
        self._signalling = signalling
        self._report = report
        self._timeout_ms = timeout_ms
        self._now = now
        self._scheme = ""
        self._taken = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def under_way(self) -> bool:
        """Somebody has been asked and has not said how it ended."""
        return bool(self._scheme)

    def begin(self, target: str) -> ControlReply:
        """Ask the caller's telephone. Its answer is reported later; the reply says whether it could be asked."""
        if self.under_way:
            return _refused("invalid_argument", "the caller is being handed over already")
        if not target or len(target) > MAX_TARGET:
            return _refused("invalid_argument", f"target must be a SIP URI of 1 to {MAX_TARGET} characters")
        try:
            self._signalling.agent.refer(self._handle, target, self._now())
        except (SipDefect, UsageError) as error:
            return _refused("invalid_argument", f"target can't be called: {error}")
        self._scheme = target.partition(":")[0].lower()
        self._taken = False
        self._timer = asyncio.get_running_loop().call_later(self._timeout_ms / 1000, self._time_out)
        self._signalling.pump()
        return ControlReply(ok=True)

    def on_sip(self, event: sip.CallEvent) -> None:
        """An event of this call's dialog; what has to do with no transfer changes nothing."""
        if not self.under_way:
            return
        match event:
            case sip.RequestAnswered(method="REFER"):
                self._taken = event.status < 300
                if not self._taken:
                    self._end(TransferResult.REFUSED)
            case sip.ReferProgress() if event.status >= 200:
                self._end(TransferResult.CONNECTED if event.status < 300 else TransferResult.FAILED)
            case sip.EndOfCall():
                # A telephone that has taken it may leave without another word (RFC 5589 leaves the BYE to either).
                self._end(TransferResult.LEFT if self._taken else TransferResult.FAILED)

    def close(self) -> None:
        """The call is over on this side."""
        if self.under_way:
            self._end(TransferResult.FAILED)

    def _time_out(self) -> None:
        if self.under_way:
            self._end(TransferResult.TIMEOUT)

    def _end(self, result: TransferResult) -> None:
        scheme, self._scheme = self._scheme, ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._report(scheme, result)


def _refused(code: str, message: str) -> ControlReply:
    return ControlReply(ok=False, error=code, message=message)
