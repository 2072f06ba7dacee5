"""`UserAgent`: the value that holds transactions, dialogs and calls, in both roles."""

from __future__ import annotations

from edge.sip.configuration import UserAgentConfiguration
from edge.sip.events import Address, CallHandle, Event, Outgoing, Transport

HeaderFields = tuple[tuple[str, str], ...]


class UserAgent:
    """A SIP user agent, server and client (RFC 3261), without any I/O.

    The shell around it calls `receive` for each message, then sends all `messages_to_send`, then sleeps until
    `next_deadline` or the next packet. `now` is monotonic seconds everywhere.
    """

    def __init__(self, configuration: UserAgentConfiguration) -> None:
        self.configuration = configuration

    # -- the wire --------------------------------------------------------------------------------------------------

    def receive(
        self, data: bytes, source: Address, transport: Transport, now: float, connection: object | None = None
    ) -> list[Event]:
        """One datagram, or one message as framed from a TCP `connection`. Never raises for what a peer sent."""
        raise NotImplementedError

    def messages_to_send(self, now: float) -> list[Outgoing]:
        """What must leave now, in order; each is returned once."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When to call `handle_deadline` next; None: nothing is waiting."""
        raise NotImplementedError

    def handle_deadline(self, now: float) -> list[Event]:
        """Run every timer that is due."""
        raise NotImplementedError

    def unreachable(self, destination: Address, transport: Transport, now: float) -> list[Event]:
        """No connection to `destination` could be made, or the network refused it (RFC 3261 section 18.4)."""
        raise NotImplementedError

    # -- calls that came in ----------------------------------------------------------------------------------------

    def ring(self, call: CallHandle, now: float, *, status: int = 180, sdp: bytes = b"") -> None:
        """Send a provisional response; with `sdp` it is early media (183)."""
        raise NotImplementedError

    def answer(self, call: CallHandle, sdp: bytes, now: float) -> None:
        """Send 200 with our answer (or our offer, where the caller made none), again until the ACK comes."""
        raise NotImplementedError

    def reject(
        self, call: CallHandle, status: int, now: float, *, reason: str = "", headers: HeaderFields = ()
    ) -> None:
        """Refuse with 300 to 699, e.g. 486, 488, 503 with ("Retry-After", "5"). Ends the call."""
        raise NotImplementedError

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
        raise NotImplementedError

    def acknowledge(self, call: CallHandle, sdp: bytes, now: float) -> None:
        """Send the ACK with our answer, after a `CallAnswered` to an `invite` (or `reinvite`) without SDP."""
        raise NotImplementedError

    def cancel(self, call: CallHandle, now: float, *, reason: str = "") -> None:
        """Give up before the answer; ends with `CallCancelled`, also where a 200 crosses it (then BYE follows)."""
        raise NotImplementedError

    # -- inside a call, either role --------------------------------------------------------------------------------

    def hang_up(self, call: CallHandle, now: float, *, reason: str = "") -> None:
        """End the call from any state: BYE, CANCEL or 480, whichever fits. `reason`: a Reason header (RFC 3326)."""
        raise NotImplementedError

    def answer_reinvite(self, call: CallHandle, sdp: bytes, now: float) -> None:
        """200 to the re-INVITE (or UPDATE) of `ReinviteReceived`."""
        raise NotImplementedError

    def reject_reinvite(self, call: CallHandle, status: int, now: float, *, headers: HeaderFields = ()) -> None:
        """Refuse it: the session stays as it was. 488 for an offer that cannot be taken."""
        raise NotImplementedError

    def reinvite(self, call: CallHandle, sdp: bytes, now: float) -> None:
        """Offer a new session: hold, resume. Ends in `ReinviteAnswered` or `ReinviteRejected`.

        Raises:
            WrongState: another re-INVITE is under way, from either side.
        """
        raise NotImplementedError

    def info(self, call: CallHandle, content_type: str, body: bytes, now: float) -> None:
        """Send INFO (RFC 6086); `RequestAnswered` tells how it was taken."""
        raise NotImplementedError

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
        raise NotImplementedError
