"""The pause before another try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.resilience.backoff import full_jitter_ms

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("tries", "chance", "pause_ms"),
    [(0, 0.9, 0.0), (1, 0.0, 0.0), (1, 0.5, 25.0), (1, 0.99, 49.5), (2, 0.5, 50.0), (3, 0.5, 100.0)],
)
def test_it_doubles_and_is_anything_from_nothing_to_the_longest(tries: int, chance: float, pause_ms: float) -> None:
    assert full_jitter_ms(tries, 50, lambda: chance) == pytest.approx(pause_ms)


@given(st.integers(0, 5), st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_it_keeps_its_bounds(tries: int, longest_ms: int, chance: float) -> None:
    assert 0 <= full_jitter_ms(tries, longest_ms, lambda: chance) <= longest_ms * 2 ** max(0, tries - 1)
