"""Where messages go (RFC 3261 sections 12.2.1.1, 18.2.2; RFC 3581; RFC 3263 without the DNS)."""

from __future__ import annotations

from typing import NamedTuple

from edge.sip.events import Address, Transport
from edge.sip.headers import DEFAULT_PORT, Uri, Via

DEFAULT_TLS_PORT = 5061


class Arrival(NamedTuple):
    """Where a message came from."""

    source: Address
    transport: Transport
    connection: object | None


class Hop(NamedTuple):
    """Where a message goes to."""

    destination: Address
    """The host may be a name: resolving is the shell's work."""
    transport: Transport
    connection: object | None = None


def response_hop(via: Via, arrival: Arrival) -> Hop:
    """The way back for a response to the request that arrived with this top Via.

    A `maddr` is not followed: it names multicast groups that nobody uses any more, and it would let a stranger aim our
    responses at a third party.
    """
    host, port = arrival.source
    if arrival.transport.reliable:
        # 18.2.2: the connection that the request came on; where it is closed, the Via's address.
        return Hop((host, via.port or DEFAULT_PORT), arrival.transport, arrival.connection)
    # RFC 3581 section 4: with rport the port that the packet came from, else the one that the Via names.
    return Hop((host, port if "rport" in via.parameters else via.port or DEFAULT_PORT), arrival.transport)


def request_hop(uri: Uri) -> Hop:
    """The hop that a URI names. RFC 3263 section 4.1: UDP unless the URI says otherwise."""
    transport = Transport.TCP if (uri.parameter("transport") or "").lower() == "tcp" else Transport.UDP
    host = uri.parameter("maddr") or uri.host
    return Hop((host, uri.port or (DEFAULT_TLS_PORT if uri.scheme == "sips" else DEFAULT_PORT)), transport)
