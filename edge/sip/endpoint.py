"""`UserAgent`: the value that holds transactions, dialogs and calls, in both roles."""

from __future__ import annotations

from edge.sip.call import CallState, Role
from edge.sip.client import ClientRole, Target, hang_up_unacknowledged
from edge.sip.configuration import UserAgentConfiguration
from edge.sip.core import Core, HeaderFields, checked_fields
from edge.sip.dispatch import Dispatcher
from edge.sip.events import Address, CallHandle, Event, Outgoing, Transport
from edge.sip.in_dialog import DialogRequests
from edge.sip.routing import Arrival
from edge.sip.server import ServerRole


class UserAgent:
    """A SIP user agent, server and client (RFC 3261), without any I/O.

    The shell around it calls `receive` for each message, then sends all `messages_to_send`, then sleeps until
    `next_deadline` or the next packet. `now` is monotonic seconds everywhere.
    """

    def __init__(self, configuration: UserAgentConfiguration) -> None:
        self.configuration = configuration
        self._core = Core(configuration)
        self._server = ServerRole(self._core)
        self._client = ClientRole(self._core)
        self._in_dialog = DialogRequests(self._core, self._server)
        self._dispatcher = Dispatcher(self._core, self._server, self._in_dialog)

    # -- the wire --------------------------------------------------------------------------------------------------

    def receive(
        self, data: bytes, source: Address, transport: Transport, now: float, connection: object | None = None
    ) -> list[Event]:
        """One datagram, or one message as framed from a TCP `connection`. Never raises for what a peer sent."""
        # IPv6 sockets give four numbers; host and port name the peer.
        self._dispatcher.receive(data, Arrival((source[0], source[1]), transport, connection), now)
        return self._take_events()

    def messages_to_send(self, now: float) -> list[Outgoing]:
        """What must leave now, in order; each is returned once."""
        outbox, self._core.layer.outbox = self._core.layer.outbox, []
        return outbox

    def next_deadline(self) -> float | None:
        """When to call `handle_deadline` next; None: nothing is waiting."""
        return self._core.layer.deadlines.next()

    def handle_deadline(self, now: float) -> list[Event]:
        """Run every timer that is due."""
        self._core.layer.deadlines.run(now)
        return self._take_events()

    def unreachable(self, destination: Address, transport: Transport, now: float) -> list[Event]:
        """No connection to `destination` could be made, or the network refused it (RFC 3261 section 18.4)."""
        self._core.layer.unreachable(destination, transport, now)
        return self._take_events()

    def connection_closed(self, connection: object) -> None:
        """A TCP connection is gone: what would have been sent on it opens another one to the destination."""
        self._core.forget_connection(connection)

    @property
    def call_count(self) -> int:
        """Calls that the application knows of."""
        return len(self._core.calls)

    def _take_events(self) -> list[Event]:
        events, self._core.events = self._core.events, []
        return events

    # -- calls that came in ----------------------------------------------------------------------------------------

    def ring(self, call: CallHandle, now: float, *, status: int = 180, sdp: bytes = b"") -> None:
        """Send a provisional response; with `sdp` it is early media (183)."""
        self._server.ring(call, status, sdp, now)

    def answer(self, call: CallHandle, sdp: bytes, now: float) -> None:
        """Send 200 with our answer (or our offer, where the caller made none), again until the ACK comes."""
        self._server.answer(call, sdp, now)

    def reject(
        self, call: CallHandle, status: int, now: float, *, reason: str = "", headers: HeaderFields = ()
    ) -> None:
        """Refuse with 300 to 699, e.g. 486, 488, 503 with ("Retry-After", "5"). Ends the call."""
        self._server.reject(call, status, reason, headers, now)

    # -- calls that we make ----------------------------------------------------------------------------------------

    def invite(
        self,
        target: str,
        now: float,
        *,
        sdp: bytes = b"",
        from_uri: str = "",
        destination: Address | None = None,
        transport: Transport = Transport.UDP,
        headers: HeaderFields = (),
    ) -> CallHandle:
        """Call `target` (a sip: URI). `destination`: send there instead of to the URI's host (an outbound proxy).

        Without `sdp` the peer makes the offer, in `CallAnswered`; then `acknowledge` takes our answer.

        Raises:
            SipDefect: `target` or `from_uri` is not a SIP URI.
        """
        return self._client.invite(Target(target, destination, transport), sdp, from_uri, headers, now)

    def acknowledge(self, call: CallHandle, sdp: bytes, now: float) -> None:
        """Send the ACK with our answer, after a `CallAnswered` to an `invite` (or `reinvite`) without SDP."""
        self._client.acknowledge(call, sdp, now)

    def cancel(self, call: CallHandle, now: float, *, reason: str = "") -> None:
        """Give up before the answer; ends with `CallCancelled`, also where a 200 crosses it (then BYE follows)."""
        self._client.cancel(call, reason, now)

    # -- inside a call, either role --------------------------------------------------------------------------------

    def hang_up(self, call: CallHandle, now: float, *, reason: str = "") -> None:
        """End the call from any state: BYE, CANCEL or 480, whichever fits. `reason`: a Reason header (RFC 3326)."""
        core = self._core
        known = core.call(call)
        checked_fields((("Reason", reason),))
        if known.state is CallState.OFFERED:
            self._server.reject(call, 480, "", (("Reason", reason),) if reason else (), now)
        elif known.state is CallState.CALLING:
            self._client.give_up(known, reason, now)
            del core.calls[call]
        elif known.state is CallState.CANCELLING:
            del core.calls[call]
        elif known.state is CallState.ANSWERED and known.role is Role.CALLED:
            # Section 15: no BYE before the ACK has come, or has failed to.
            known.bye_reason = reason
            del core.calls[call]
        else:
            known.bye_reason = reason
            hang_up_unacknowledged(core, known, now)

    def answer_reinvite(self, call: CallHandle, sdp: bytes, now: float) -> None:
        """200 to the re-INVITE (or UPDATE) of `ReinviteReceived`."""
        self._in_dialog.answer(call, sdp, now)

    def reject_reinvite(self, call: CallHandle, status: int, now: float, *, headers: HeaderFields = ()) -> None:
        """Refuse it: the session stays as it was. 488 for an offer that cannot be taken."""
        self._in_dialog.reject(call, status, headers, now)

    def reinvite(self, call: CallHandle, sdp: bytes, now: float) -> None:
        """Offer a new session: hold, resume. Ends in `ReinviteAnswered` or `ReinviteRejected`.

        Raises:
            WrongState: another re-INVITE is under way, from either side.
        """
        self._client.reinvite(call, sdp, now)

    def info(self, call: CallHandle, content_type: str, body: bytes, now: float) -> None:
        """Send INFO (RFC 6086); `RequestAnswered` tells how it was taken."""
        self._in_dialog.info(call, content_type, body, now)

    def refer(self, call: CallHandle, target: str, now: float) -> None:
        """Ask the peer to call `target` in our place (RFC 3515). `RequestAnswered` tells whether it will,
        `ReferProgress` how far it is; the call stays up until somebody hangs up.

        Raises:
            SipDefect: `target` is not a sip:, sips: or tel: URI.
            WrongState: it has been asked already and has not said how that ended.
        """
        self._in_dialog.refer(call, target, now)

    # -- out of any call -------------------------------------------------------------------------------------------

    def options(
        self,
        target: str,
        now: float,
        *,
        destination: Address | None = None,
        transport: Transport = Transport.UDP,
    ) -> CallHandle:
        """Ask `target` whether it is there; `RequestAnswered` under the returned handle."""
        return self._client.options(Target(target, destination, transport), now)
