"""Wrap-around arithmetic."""

from __future__ import annotations

import pytest

from edge.media.sequence import (
    extend_sequence,
    extend_timestamp,
    sequence_add,
    sequence_difference,
    timestamp_add,
    timestamp_difference,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("later", "earlier", "difference"),
    [(1, 0, 1), (0, 65535, 1), (65535, 0, -1), (5, 5, 0), (0x7FFF, 0, 0x7FFF), (0x8000, 0, -0x8000), (2, 65530, 8)],
)
def test_sequence_difference_takes_the_shorter_way(later: int, earlier: int, difference: int) -> None:
    assert sequence_difference(later, earlier) == difference
    assert sequence_add(earlier, difference) == later


@pytest.mark.parametrize(
    ("later", "earlier", "difference"),
    [(160, 0, 160), (0, 0xFFFFFFFF, 1), (0xFFFFFF60, 0, -160), (0x80000000, 0, -0x80000000), (7, 7, 0)],
)
def test_timestamp_difference_takes_the_shorter_way(later: int, earlier: int, difference: int) -> None:
    assert timestamp_difference(later, earlier) == difference
    assert timestamp_add(earlier, difference) == later


@pytest.mark.parametrize(
    ("sequence", "near", "extended"),
    [(0, 65535, 65536), (65535, 65536, 65535), (65535, 0, -1), (3, 3 * 65536 + 1, 3 * 65536 + 3)],
)
def test_extended_sequence_is_the_closest(sequence: int, near: int, extended: int) -> None:
    assert extend_sequence(sequence, near) == extended


def test_extended_timestamp_is_the_closest() -> None:
    assert extend_timestamp(80, 0xFFFFFFF0) == (1 << 32) + 80
    assert extend_timestamp(0xFFFFFFF0, (1 << 32) + 80) == 0xFFFFFFF0
