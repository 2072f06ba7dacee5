"""What becomes of a request of ours inside a dialog that is neither INVITE nor BYE."""

from __future__ import annotations

from edge.sip.call import Call
from edge.sip.core import Core
from edge.sip.events import CallFailed, RequestAnswered
from edge.sip.message import Request, Response
from edge.sip.transaction import Transaction

DIALOG_GONE = (408, 481)
"""Section 12.2.1.2: these mean that the peer has no such dialog any more."""


class SentRequest:
    """Transaction user of a request other than INVITE and BYE inside a dialog."""

    def __init__(self, core: Core, call: Call) -> None:
        self._core = core
        self._call = call

    def response_received(self, transaction: Transaction, response: Response, now: float) -> None:
        """Report the final one."""
        if response.status >= 200:
            self._report(transaction, response.status, now)

    def ack_received(self, transaction: Transaction, ack: Request, now: float) -> None:
        """Never happens to a client."""

    def transaction_failed(self, transaction: Transaction, why: str, now: float) -> None:
        """8.1.3.1: a timeout is taken as 408, a transport error as 503."""
        self._report(transaction, 408 if why == "timeout" else 503, now)

    def _report(self, transaction: Transaction, status: int, now: float) -> None:
        core, call = self._core, self._call
        if call.handle not in core.calls:
            return
        method = transaction.request.method
        if method == "REFER" and status >= 300:
            # Refused: there is no subscription that could tell anything (RFC 3515 section 2.4.2).
            call.referring = False
        core.events.append(RequestAnswered(call=call.handle, method=method, status=status))
        if status in DIALOG_GONE:
            dialog_lost(core, call, status, now)


def dialog_lost(core: Core, call: Call, status: int, now: float) -> None:
    """The peer no longer knows the dialog: it is over here too (12.2.1.2), with a BYE in case it was mere silence."""
    if status == 481:
        core.finish(call)
    else:
        call.bye_reason = 'SIP;cause=408;text="Request Timeout"'
        core.say_bye(call, now)
    core.events.append(CallFailed(call=call.handle, why="dialog_lost"))
