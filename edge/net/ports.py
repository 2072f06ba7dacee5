"""Pairs of UDP ports for RTP (even) and RTCP (the odd one above), with a rest before a port serves again.

RFC 3550 section 11 asks for the even/odd pair. A port that a call has just left may still receive that call's packets:
it rests for ``drain_ms`` before the next call gets it, so that stale media never enters a new call.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import NamedTuple

from edge.net.addresses import family_of

EXPEDITED_FORWARDING = 0xB8
"""DSCP EF (46) shifted into the TOS byte: voice goes first (RFC 4594 section 4.1)."""

ANY_PORT_ATTEMPTS = 64
_TAKEN = (errno.EADDRINUSE, errno.EACCES)


class PortsExhaustedError(Exception):
    """No pair is free; the text names the setting that mends it."""


class PortPair(NamedTuple):
    """Two bound, non-blocking UDP sockets. ``port`` is the RTP one; RTCP is ``port + 1``."""

    port: int
    rtp: socket.socket
    rtcp: socket.socket

    def close(self) -> None:
        """Close both sockets; harmless where a transport has closed them."""
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """A free list of pairs between two ports, or any free ports where ``first`` is 0.

    The list is walked in order, never at random: the pair that has rested longest serves next. A port that another
    process holds is passed over and goes to the end of the list.
    """

    def __init__(self, host: str, first: int, last: int, drain_ms: int) -> None:
        """``host``: the address to bind. ``first``, ``last``: the range, inclusive.

        Raises:
            ValueError: the range holds no even/odd pair.
        """
        self._host = host
        self._drain_s = drain_ms / 1000
        self._any = first == 0
        even = first + (first & 1)
        self._free: deque[int] = deque() if self._any else deque(range(even, last, 2))
        if not self._any and not self._free:
            raise ValueError(
                f"[edge] rtp_port_min = {first} and rtp_port_max = {last} hold no pair of ports (an even one and the "
                "next); widen the range, or set rtp_port_min to 0 for any free ports"
            )
        self._resting: deque[tuple[float, int]] = deque()
        self._resting_ports: set[int] = set()
        self.in_use = 0

    def acquire(self, now: float) -> PortPair:
        """Bind and lend a pair. ``now``: monotonic seconds.

        Raises:
            PortsExhaustedError: every pair is in use, resting, or held by another process.
        """
        self._end_rests(now)
        pair = self._acquire_any() if self._any else self._acquire_listed()
        self.in_use += 1
        return pair

    def release(self, port: int, now: float) -> None:
        """Give a pair back, its sockets closed; it rests first."""
        self.in_use -= 1
        self._resting.append((now + self._drain_s, port))
        self._resting_ports.add(port)

    @property
    def resting(self) -> int:
        """Pairs that wait for their stale packets to stop."""
        return len(self._resting)

    def _end_rests(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            _, port = self._resting.popleft()
            self._resting_ports.discard(port)
            if not self._any:
                self._free.append(port)

    def _acquire_listed(self) -> PortPair:
        for _ in range(len(self._free)):
            port = self._free.popleft()
            pair = _bind_pair(self._host, port)
            if pair is not None:
                return pair
            self._free.append(port)
        raise PortsExhaustedError(
            f"no RTP port is free ({self.in_use} pairs in use, {self.resting} resting); widen [edge] rtp_port_min to "
            "rtp_port_max"
        )

    def _acquire_any(self) -> PortPair:
        for _ in range(ANY_PORT_ATTEMPTS):
            probe = _bind(self._host, 0)
            port = probe.getsockname()[1] if probe else 0
            if probe is None or port & 1 or port in self._resting_ports:
                if probe is not None:
                    probe.close()
                continue
            rtcp = _bind(self._host, port + 1)
            if rtcp is not None:
                return PortPair(port, probe, rtcp)
            probe.close()
        raise PortsExhaustedError(f"the system gave no even/odd pair of free ports in {ANY_PORT_ATTEMPTS} attempts")


def _bind_pair(host: str, port: int) -> PortPair | None:
    rtp = _bind(host, port)
    if rtp is None:
        return None
    rtcp = _bind(host, port + 1)
    if rtcp is None:
        rtp.close()
        return None
    return PortPair(port, rtp, rtcp)


def _bind(host: str, port: int) -> socket.socket | None:
    """A bound UDP socket with the voice mark; None where the port is taken."""
    family = family_of(host)
    created = socket.socket(family, socket.SOCK_DGRAM)
    try:
        created.setblocking(False)
        if family == socket.AF_INET6:
            created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED_FORWARDING)
        else:
            created.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED_FORWARDING)
        created.bind((host, port))
    except OSError as error:
        created.close()
        if error.errno in _TAKEN:
            return None
        raise
    return created
