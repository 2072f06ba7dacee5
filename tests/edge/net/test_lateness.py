"""Percentiles of the pacer's lateness."""

from __future__ import annotations

import pytest

from edge.net.lateness import Lateness

pytestmark = pytest.mark.unit


def test_nothing_counted_is_zero() -> None:
    assert Lateness().percentile_ms(99) == 0.0


def test_percentile_is_the_upper_edge_of_its_bucket() -> None:
    lateness = Lateness()
    for _ in range(99):
        lateness.add(0.25)
    lateness.add(7.0)
    assert lateness.percentile_ms(50) == pytest.approx(0.3)
    assert lateness.percentile_ms(99) == pytest.approx(0.3)
    assert lateness.percentile_ms(100) == pytest.approx(7.0)
    assert lateness.maximum_ms == 7.0


def test_early_is_on_time_and_very_late_stays_in_the_last_bucket() -> None:
    lateness = Lateness()
    lateness.add(-3.0)
    lateness.add(500.0)
    assert lateness.percentile_ms(50) == pytest.approx(0.1)
    assert lateness.maximum_ms == 500.0
    assert lateness.percentile_ms(100) == pytest.approx(100.0)


def test_restart_keeps_the_totals() -> None:
    lateness = Lateness()
    lateness.add(4.0)
    lateness.restart()
    lateness.add(1.0)
    lateness.restart()
    assert (lateness.count, lateness.maximum_ms) == (0, 0.0)
    assert (lateness.total_count, lateness.total_maximum_ms) == (2, 4.0)
