"""Handing the peer to somebody else: REFER inside a dialog, and what the peer reports of it (RFC 3515).

The REFER subscribes by itself to the event ``refer``: the peer answers 202 and tells in NOTIFY requests, as a fragment
of the response that it got from the new party, how far it is. The subscription ends with a final status, with
``Subscription-State: terminated``, or with a refusal of the REFER.
"""

from __future__ import annotations

from edge.sip.call import Call, CallState
from edge.sip.core import Core, checked_fields
from edge.sip.errors import WrongState
from edge.sip.events import CallHandle, ReferProgress
from edge.sip.headers import bad, parse_uri
from edge.sip.message import Request
from edge.sip.routing import Arrival
from edge.sip.transaction import Transaction

EVENT = "refer"
FRAGMENT = "message/sipfrag"
ALLOW_EVENTS = ("Allow-Events", EVENT)
ACCEPT_FRAGMENT = ("Accept", FRAGMENT)
SCHEMES = ("sip", "sips", "tel")
NOBODY = 503
"""Status of a report that ends the subscription without one: it is not known that anybody was reached."""


class Referrals:
    """What the dialogs of a user agent have been asked to do."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def refer(self, handle: CallHandle, target: str, now: float) -> Request:
        """The REFER to ``target``, ready to be sent; from now on the peer may report.

        Raises:
            SipDefect: ``target`` is not a sip:, sips: or tel: URI.
            WrongState: the peer has been asked already and has not said how it ended.
        """
        core, call = self._core, self._core.call(handle, CallState.UP)
        if call.referring:
            raise WrongState(f"call {handle} is being handed over already")
        checked_fields((("Refer-To", target),))
        if parse_uri(target, "Refer-To").scheme not in SCHEMES:
            raise bad("Refer-To is not a sip:, sips: or tel: URI")
        dialog = core.dialog_of(call)
        request = dialog.request("REFER")
        request.headers.add("Refer-To", f"<{target}>")
        # RFC 3892: who asks. The address alone, without the tag of the dialog.
        request.headers.add("Referred-By", dialog.local.partition(";tag=")[0])
        assert dialog.arrival is not None
        request.headers.add("Contact", core.contact(dialog.arrival.source, dialog.arrival.transport))
        call.referring = True
        return request

    def notify(self, call: Call, transaction: Transaction, arrival: Arrival, now: float) -> None:
        """A NOTIFY inside the dialog (RFC 6665 section 4.1.3)."""
        core, request = self._core, transaction.request
        event = (request.headers.get("event") or "").partition(";")[0].strip().lower()
        if event != EVENT:
            core.respond(transaction, 489, now, reason="Bad Event", headers=(ALLOW_EVENTS,))
            core.defect(489, "NOTIFY of an event that was not subscribed to", arrival.source)
            return
        if not call.referring:
            core.respond(transaction, 481, now, reason="Subscription Does Not Exist")
            return
        if request.body and request.content_type != FRAGMENT:
            core.respond(transaction, 415, now, headers=(ACCEPT_FRAGMENT,))
            core.defect(415, "NOTIFY of refer with a body that is no SIP fragment", arrival.source)
            return
        core.respond(transaction, 200, now)
        state = (request.headers.get("subscription-state") or "").partition(";")[0].strip().lower()
        status = status_of_fragment(request.body)
        over = state == "terminated" or status >= 200
        call.referring = not over
        if status or over:
            core.events.append(ReferProgress(call=call.handle, status=status if status >= 200 or not over else NOBODY))


def status_of_fragment(body: bytes) -> int:
    """The status of a SIP fragment that begins with a status line (RFC 3420); 0 where it has none."""
    line = body.lstrip(b"\r\n").split(b"\r\n", 1)[0].split(b"\n", 1)[0]
    version, _, rest = line.partition(b" ")
    number = rest.strip()[:3]
    if version.upper() != b"SIP/2.0" or not number.isdigit() or not 100 <= int(number) <= 699:
        return 0
    return int(number)
