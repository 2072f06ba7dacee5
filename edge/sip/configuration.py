"""The settings of a `UserAgent`: one value, handed in once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge.sip.events import Address, Transport
from edge.sip.trace import Trace, no_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """RFC 3261 section 17.1.1.1, all in seconds; the lettered timers are derived from these."""

    t1: float = 0.5
    """Estimate of the round trip."""
    t2: float = 4.0
    """Longest interval between retransmissions of a non-INVITE request or a response."""
    t4: float = 5.0
    """How long the network may keep a message."""
    d: float = 32.0
    """Timer D over UDP: wait for retransmissions of a non-2xx final response; "at least 32 s"."""

    @property
    def transaction(self) -> float:
        """64*T1: timers B, F, H, J, L and M, and the wait for the ACK to a 2xx."""
        return 64 * self.t1


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAgentConfiguration:
    """What a `UserAgent` says about itself and how long it waits."""

    tokens: Callable[[], str]
    """Gives a fresh token of letters and digits with at least 64 bits of chance, for tags, branches and Call-IDs."""
    local_address: Callable[[Address, Transport], Address]
    """(peer, transport) -> host and port to put into Via and Contact towards that peer."""
    user_agent: str = "callbus"
    """Value of the Server and User-Agent headers."""
    contact_user: str = "callbus"
    """User part of our Contact."""
    timers: Timers = field(default_factory=Timers)
    """Retransmission times."""
    ring_timeout_s: float = 180.0
    """An incoming call neither answered nor rejected for so long is rejected with 480."""
    reinvite_timeout_s: float = 20.0
    """A re-INVITE that nobody answers for so long is refused with 500; below the peer's 32 s."""
    invite_timeout_s: float = 180.0
    """An outgoing call that rings for so long is cancelled."""
    max_message_bytes: int = 65_535
    """A longer message is refused with 513; the largest UDP datagram fits."""
    max_header_fields: int = 256
    """More header fields than this are refused with 513."""
    max_transactions: int = 100_000
    """Above this a new request is refused with 503 and forgotten at once; 400 calls a second keep about 26,000."""
    trace: Trace = no_trace
    """Called for every message in (`<`), out (`>`) and state change (`=`)."""
