"""What happens to a message that has arrived, in the order of RFC 3261 section 8.2."""

from __future__ import annotations

from edge.sip.core import ALLOW, KNOWN_METHODS, METHODS, SUPPORTED, Core, HeaderFields
from edge.sip.in_dialog import DialogRequests
from edge.sip.message import Request, Response
from edge.sip.parser import Malformed, parse_message
from edge.sip.routing import Arrival
from edge.sip.server import ServerRole
from edge.sip.trace import no_trace
from edge.sip.transaction import summary

TARGET_METHODS = ("INVITE", "UPDATE")
"""Methods whose Contact says where our own requests go."""


class Dispatcher:
    """Reads a message and takes it to whom it concerns."""

    def __init__(self, core: Core, server: ServerRole, in_dialog: DialogRequests) -> None:
        self._core = core
        self._server = server
        self._in_dialog = in_dialog

    def receive(self, data: bytes, arrival: Arrival, now: float) -> None:
        """One message. Never raises for what a peer sent."""
        if not data.strip(b"\r\n\x00"):
            # Keep-alives of UDP phones: CRLFs, or a few zero bytes (RFC 5626 section 4.4.1 has its own for TCP).
            return
        configuration = self._core.configuration
        try:
            message = parse_message(
                data, max_bytes=configuration.max_message_bytes, max_fields=configuration.max_header_fields
            )
        except Malformed as defect:
            self._malformed(defect, arrival, now)
            return
        if configuration.trace is not no_trace:
            configuration.trace("<", summary(message), now)
        if isinstance(message, Response):
            self._response(message, arrival, now)
        else:
            self._request(message, arrival, now)

    def _malformed(self, defect: Malformed, arrival: Arrival, now: float) -> None:
        core = self._core
        core.defect(defect.status, defect.text, arrival.source)
        if defect.request is None:
            return
        request = defect.request
        request.mark_source_if_readable(*arrival.source)
        # RFC 3261 section 21.4.1: the reason phrase should name the problem.
        reason = f"{defect.reason}: {defect.text}" if defect.status == 400 else defect.reason
        core.respond_stateless(request, defect.status, reason, arrival, now)

    def _response(self, response: Response, arrival: Arrival, now: float) -> None:
        if len(response.vias) != 1:
            # 8.1.3.3: more than one Via means that it went astray.
            self._core.defect(0, "response with more than one Via", arrival.source)
        elif not self._core.layer.response(response, arrival, now):
            self._core.defect(0, "response to no request of ours", arrival.source)

    def _request(self, request: Request, arrival: Arrival, now: float) -> None:
        core, layer = self._core, self._core.layer
        request.mark_source(*arrival.source)
        transaction = layer.find_server(request)
        if request.method == "ACK":
            if transaction is not None:
                layer.ack(transaction, request, now)
            else:
                self._server.ack(request, arrival, now)
        elif transaction is not None:
            layer.request_again(transaction, now)
        elif len(layer) >= core.configuration.max_transactions:
            core.defect(503, "too many transactions at once", arrival.source)
            core.respond_stateless(request, 503, "Too Many Transactions", arrival, now)
        elif request.method == "CANCEL":
            self._server.cancel(request, arrival, now)
        else:
            refusal = self._refusal(request)
            if refusal is not None:
                status, text, headers = refusal
                core.respond(layer.open_server(request, arrival, self._server), status, now, headers=headers)
                core.defect(status, text, arrival.source)
            else:
                self._accepted(request, arrival, now)

    def _accepted(self, request: Request, arrival: Arrival, now: float) -> None:
        if request.recipient.tag:
            self._in_dialog.receive(request, arrival, now)
        elif request.method == "INVITE":
            self._server.invite(request, arrival, now)
        else:
            transaction = self._core.layer.open_server(request, arrival, self._server)
            if request.method == "OPTIONS":
                self._core.answer_options(transaction, now)
            else:
                # BYE, INFO, UPDATE live in dialogs only.
                self._core.respond(transaction, 481, now)

    def _refusal(self, request: Request) -> tuple[int, str, HeaderFields] | None:
        """The checks of section 8.2.1 to 8.2.2, in that order."""
        if request.method not in METHODS:
            status = 405 if request.method in KNOWN_METHODS else 501
            return status, "method that is not taken here", (ALLOW,)
        if request.target.scheme != "sip":
            return 416, "Request-URI with a scheme other than sip", ()
        if request.method in TARGET_METHODS and not _reachable(request):
            return 400, "Contact that is not a SIP URI", ()
        if self._core.layer.is_merged(request):
            return 482, "the same request came by another way", ()
        required = request.headers.elements("require")
        unsupported = [tag for tag in required if tag and tag.lower() not in SUPPORTED]
        if unsupported:
            return 420, "Require names an extension that is not supported", (("Unsupported", ", ".join(unsupported)),)
        return None


def _reachable(request: Request) -> bool:
    """Whether requests of ours could find the peer: by its Contact, or by its From as RFC 2543 allows."""
    if request.contacts:
        return request.contacts[0].uri.is_sip
    return bool(request.recipient.tag) or request.sender.uri.is_sip
