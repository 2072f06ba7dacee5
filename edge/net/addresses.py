"""Addresses as the system sees them."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache


def family_of(host: str) -> socket.AddressFamily:
    """Address family of an address literal."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@lru_cache(maxsize=1024)
def is_literal(host: str) -> bool:
    """Whether ``host`` is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def interface_towards(peer_host: str) -> str:
    """Address of the interface that reaches a peer; nothing is sent to find out."""
    family = socket.AF_INET6 if ":" in peer_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer_host, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "::1" if family is socket.AF_INET6 else "127.0.0.1"
