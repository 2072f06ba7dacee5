"""RFC 3550 counts: jitter, loss, and the report block."""

from __future__ import annotations

import pytest

from edge.media.statistics import ReceiveStatistics

pytestmark = pytest.mark.unit


def observed(arrivals: list[tuple[int, float]], first: int = 100) -> ReceiveStatistics:
    """(packet number, arrival in seconds)."""
    statistics = ReceiveStatistics()
    for number, now in arrivals:
        statistics.observe(first + number, (0xFFFFFF00 + number * 160) & 0xFFFFFFFF, now)
    return statistics


def test_even_spacing_has_no_jitter_across_the_clock_wrap() -> None:
    statistics = observed([(n, n * 0.02) for n in range(50)])
    assert statistics.jitter == pytest.approx(0.0, abs=1e-6)
    assert (statistics.expected, statistics.lost, statistics.received) == (50, 0, 50)


def test_jitter_follows_appendix_a_8() -> None:
    statistics = observed([(0, 0.0), (1, 0.025), (2, 0.040)])
    # Distances 40 ticks late, then 40 early: J += (|D| - J) / 16.
    first = 40 / 16
    assert statistics.jitter == pytest.approx(first + (40 - first) / 16)
    assert statistics.jitter_ms == pytest.approx(statistics.jitter / 8)


def test_a_jump_of_the_senders_clock_is_not_jitter() -> None:
    statistics = ReceiveStatistics()
    statistics.observe(0, 1000, 0.0)
    statistics.observe(1, 900_000, 0.02)
    assert statistics.jitter == 0.0


def test_events_count_as_packets_and_not_as_jitter() -> None:
    statistics = observed([(0, 0.0)])
    statistics.observe(101, None, 3.0)
    assert (statistics.received, statistics.jitter) == (2, 0.0)


def test_fraction_lost_is_of_the_last_interval() -> None:
    statistics = observed([(n, n * 0.02) for n in range(100) if n % 4])
    statistics.observe(100, 0, 2.0)
    # First seen is packet 1: 2 came as packet number 100 in first=100 terms and changed nothing.
    assert statistics.take_fraction_lost() == (statistics.lost << 8) // statistics.expected
    assert statistics.take_fraction_lost() == 0
    for number in range(100, 110):
        statistics.observe(100 + number, number * 160, number * 0.02)
    assert statistics.take_fraction_lost() == 0


def test_duplicates_may_make_the_loss_negative() -> None:
    statistics = observed([(0, 0.0), (1, 0.02), (1, 0.02), (1, 0.02)])
    assert statistics.lost == -2
    assert statistics.cumulative_lost == -2
    assert statistics.take_fraction_lost() == 0


def test_highest_sequence_holds_the_cycles() -> None:
    statistics = observed([(n, n * 0.02) for n in range(20)], first=65530)
    assert statistics.highest_sequence == (1 << 16) | 13


def test_a_restart_keeps_what_was_lost() -> None:
    statistics = observed([(0, 0.0), (5, 0.1)])
    statistics.restart()
    assert (statistics.expected, statistics.lost) == (0, 4)
    statistics.observe(9, 0, 1.0)
    assert (statistics.expected, statistics.lost, statistics.cumulative_lost) == (1, 4, 0)
