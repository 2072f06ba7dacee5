"""Even/odd pairs, the rest before reuse, and exhaustion."""

from __future__ import annotations

import socket

import pytest

from edge.net.ports import EXPEDITED_FORWARDING, PortPair, PortPool, PortsExhaustedError

pytestmark = pytest.mark.unit


def free_range(pairs: int) -> tuple[int, int]:
    """A range of ports that are free right now."""
    for first in range(20_000, 60_000, 2 * pairs):
        held = []
        try:
            for port in range(first, first + 2 * pairs):
                probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                held.append(probe)
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for probe in held:
                probe.close()
        return first, first + 2 * pairs - 1
    raise AssertionError("no free range of ports")


def give_back(pool: PortPool, pair: PortPair, now: float) -> None:
    pair.close()
    pool.release(pair.port, now)


def test_a_pair_is_even_and_odd_and_marked_for_voice() -> None:
    pair = PortPool("127.0.0.1", 0, 0, 0).acquire(0.0)
    assert pair.port % 2 == 0
    assert pair.rtp.getsockname()[1] == pair.port
    assert pair.rtcp.getsockname()[1] == pair.port + 1
    assert pair.rtp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == EXPEDITED_FORWARDING
    assert not pair.rtp.getblocking()
    pair.close()


def test_a_range_is_walked_in_order_and_a_pair_rests_before_it_serves_again() -> None:
    first, last = free_range(2)
    pool = PortPool("127.0.0.1", first, last, 5000)
    one, two = pool.acquire(0.0), pool.acquire(0.0)
    assert (one.port, two.port) == (first, first + 2)
    with pytest.raises(PortsExhaustedError, match="rtp_port_min"):
        pool.acquire(0.0)
    give_back(pool, one, 10.0)
    assert (pool.in_use, pool.resting) == (1, 1)
    with pytest.raises(PortsExhaustedError):
        pool.acquire(14.9)
    again = pool.acquire(15.0)
    assert again.port == first
    again.close()
    two.close()


def test_a_port_that_another_process_holds_is_passed_over() -> None:
    first, last = free_range(2)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", first + 1))
    pool = PortPool("127.0.0.1", first, last, 0)
    pair = pool.acquire(0.0)
    assert pair.port == first + 2
    with pytest.raises(PortsExhaustedError):
        pool.acquire(0.0)
    other.close()
    second = pool.acquire(0.0)
    assert second.port == first
    second.close()
    pair.close()


def test_an_odd_start_is_rounded_up() -> None:
    first, last = free_range(3)
    pool = PortPool("127.0.0.1", first + 1, last, 0)
    pair = pool.acquire(0.0)
    assert pair.port == first + 2
    pair.close()


@pytest.mark.parametrize(("first", "last"), [(10_001, 10_002), (10_000, 10_000), (10_010, 10_000)])
def test_a_range_without_a_pair_names_the_settings(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="rtp_port_min"):
        PortPool("127.0.0.1", first, last, 0)


def test_any_ports_never_gives_a_resting_one() -> None:
    pool = PortPool("127.0.0.1", 0, 0, 1000)
    pair = pool.acquire(0.0)
    give_back(pool, pair, 0.0)
    others = [pool.acquire(0.5) for _ in range(20)]
    assert pair.port not in [other.port for other in others]
    for other in others:
        other.close()


def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        pair = PortPool("::1", 0, 0, 0).acquire(0.0)
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    assert pair.rtp.family == socket.AF_INET6
    pair.close()


def test_an_address_that_is_not_ours_is_an_error_not_exhaustion() -> None:
    with pytest.raises(OSError):
        PortPool("192.0.2.1", 0, 0, 0).acquire(0.0)
