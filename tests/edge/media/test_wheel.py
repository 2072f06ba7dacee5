"""The schedule of turns to send."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.media.wheel import SLOT_S, SLOTS, Lateness, PacerWheel

pytestmark = pytest.mark.unit

START = 100.0


def serve(wheel: PacerWheel[str], until: float, *, late: float = 0.0) -> list[tuple[str, float]]:
    """Wake ``late`` seconds after each deadline; (member, time of its turn)."""
    turns = []
    while wheel.next_deadline() + late <= until:
        now = wheel.next_deadline() + late
        turns += [(member, now) for turn in wheel.due(now) for member in turn.members]
    return turns


def test_each_call_has_a_turn_every_20_ms() -> None:
    wheel: PacerWheel[str] = PacerWheel(START)
    wheel.add("a")
    times = [now for _, now in serve(wheel, START + 1.0001)]
    assert len(times) == 50
    assert [round(later - earlier, 6) for earlier, later in pairwise(times)] == [0.02] * 49


def test_calls_go_where_there_are_fewest() -> None:
    wheel: PacerWheel[str] = PacerWheel(START)
    assert [wheel.add(name) for name in "abcdef"] == [0, 1, 2, 3, 0, 1]
    wheel.remove("c")
    assert wheel.add("g") == 2
    assert wheel.add("g") == 2
    assert len(wheel) == 6
    wheel.remove("c")
    assert len(wheel) == 6


def test_lateness_does_not_add_up() -> None:
    wheel: PacerWheel[str] = PacerWheel(START)
    wheel.add("a")
    assert len(serve(wheel, START + 10.0041, late=0.004)) == 500
    assert wheel.next_deadline() == pytest.approx(START + 10.005)


def test_up_to_60_ms_are_caught_up() -> None:
    wheel: PacerWheel[str] = PacerWheel(START)
    wheel.add("a")
    turns = wheel.due(START + 0.0795)
    assert [(turn.members, turn.skipped) for turn in turns] == [(("a",), 0)] * 3
    assert [round(turn.late_s, 4) for turn in turns] == [0.0595, 0.0395, 0.0195]
    assert wheel.lateness.skipped == 0


def test_over_60_ms_are_skipped_and_told_to_the_next_turn() -> None:
    wheel: PacerWheel[str] = PacerWheel(START)
    for name in "abcd":
        wheel.add(name)
    turns = wheel.due(START + 1.0001)
    skipped = {turn.members: turn.skipped for turn in reversed(turns)}
    served = {members: sum(turn.members == members for turn in turns) for members in skipped}
    # Ticks 1 to 200 were due: 50 for each slot, skipped or served.
    assert {members: skipped[members] + served[members] for members in skipped} == {(name,): 50 for name in "abcd"}
    assert wheel.lateness.skipped == sum(skipped.values())
    assert wheel.lateness.max_ms <= 60
    assert wheel.next_deadline() == pytest.approx(START + 1.005)


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=12))
def test_every_turn_is_served_or_skipped_however_long_the_process_slept(pauses: list[float]) -> None:
    wheel: PacerWheel[int] = PacerWheel(0.0)
    for member in range(SLOTS):
        wheel.add(member)
    now = 0.0
    seen = dict.fromkeys(range(SLOTS), 0)
    for pause in pauses:
        now += pause
        for turn in wheel.due(now):
            for member in turn.members:
                seen[member] += 1 + turn.skipped
        assert now < wheel.next_deadline() <= now + 0.005 + 1e-9
    ticks = round(wheel.next_deadline() / 0.005)
    assert seen == {member: len(range(member or SLOTS, ticks, SLOTS)) for member in range(SLOTS)}


def test_a_call_may_leave_during_its_turn() -> None:
    wheel: PacerWheel[str] = PacerWheel(START)
    for name in "abcde":
        wheel.add(name)
    for turn in wheel.due(START + 0.02):
        for member in turn.members:
            wheel.remove(member)
    assert len(wheel) == 0
    assert wheel.due(START + 0.04) == []


def test_revolutions_count() -> None:
    wheel: PacerWheel[str] = PacerWheel(START)
    wheel.add("a")
    assert [turn.revolution for turn in wheel.due(START + 0.061)] == [1, 2, 3]


def test_lateness_histogram_and_quantiles() -> None:
    lateness = Lateness()
    assert lateness.quantile_ms(0.99) == 0.0
    lateness.observe(0.2, 90)
    lateness.observe(4.0, 9)
    lateness.observe(75.0, 1)
    assert lateness.buckets == [90, 0, 0, 9, 0, 0, 0, 0, 1]
    assert lateness.count == 100
    assert lateness.total_ms == pytest.approx(129.0)
    assert lateness.max_ms == 75.0
    assert lateness.quantile_ms(0.5) == pytest.approx(0.5 * 50 / 90)
    assert lateness.quantile_ms(0.99) == pytest.approx(5.0)
    assert lateness.quantile_ms(1.0) == 75.0


def test_a_quantile_is_never_above_the_maximum() -> None:
    lateness = Lateness()
    lateness.observe(2.5, 10)
    assert lateness.quantile_ms(0.99) <= 2.5
    assert lateness.quantile_ms(0.99) > 2.0


class TestHaste:
    """A call that begins to speak does not wait for its slot, and its clock does not drift for it."""

    @staticmethod
    def served(wheel: PacerWheel[str], ticks: range) -> list[int]:
        found = []
        for tick in ticks:
            for turn in wheel.due(tick * SLOT_S + 1e-6):
                found += [tick for member in turn.members if member == "a"]
        return found

    @pytest.mark.parametrize("begin", range(1, 9))
    @pytest.mark.parametrize("length", range(1, 9))
    def test_early_once_late_once(self, begin: int, length: int) -> None:
        wheel: PacerWheel[str] = PacerWheel(0.0)
        wheel.add("a")
        before = self.served(wheel, range(1, 9 + begin))
        wheel.hasten("a")
        wheel.hasten("a")
        (first, *rest) = self.served(wheel, range(9 + begin, 9 + begin + SLOTS * length))
        assert first == 9 + begin, "the next tick serves it"
        assert [b - a for a, b in pairwise([first, *rest])] == [SLOTS] * len(rest)
        wheel.relax("a")
        wheel.relax("a")
        last = [first, *rest][-1]
        after = self.served(wheel, range(9 + begin + SLOTS * length, 60))
        assert SLOTS <= after[0] - last < 2 * SLOTS, "never early"
        assert {tick % SLOTS for tick in after} == {tick % SLOTS for tick in before}, "its own slot again"
        everything = [*before, first, *rest, *after]
        assert len(everything) == len([tick for tick in range(1, 60) if tick % SLOTS == before[0] % SLOTS])

    def test_a_relaxed_call_is_not_hastened_before_it_is_back(self) -> None:
        wheel: PacerWheel[str] = PacerWheel(0.0)
        wheel.add("a")
        self.served(wheel, range(1, 6))
        wheel.hasten("a")
        self.served(wheel, range(6, 7))
        wheel.relax("a")
        wheel.hasten("a")
        assert self.served(wheel, range(7, 13)) == [12]

    @given(st.lists(st.sampled_from(("hasten", "relax", "", "")), max_size=300))
    def test_speech_and_pauses_in_any_order_never_add_up(self, script: list[str]) -> None:
        """Speech begins, is held, goes on, at any tick: the call keeps its turns and comes back to its slot."""
        wheel: PacerWheel[str] = PacerWheel(0.0)
        wheel.add("a")
        times: list[int] = []
        for tick, word in enumerate(script, start=1):
            if word:
                getattr(wheel, word)("a")
            times += self.served(wheel, range(tick, tick + 1))
        wheel.relax("a")
        end = len(script) + 1
        times += self.served(wheel, range(end, end + 3 * SLOTS))
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert all(1 <= gap < 2 * SLOTS for gap in gaps)
        assert times[-1] % SLOTS == 0, "its own slot"
        own = range(SLOTS, end + 3 * SLOTS, SLOTS)
        assert all(at <= slot for at, slot in zip(times, own, strict=True)), "early or in time, never late"
        assert all(at > slot - SLOTS for at, slot in zip(times, own, strict=True)), "never a whole turn early"

    def test_ends_anywhere(self) -> None:
        wheel: PacerWheel[str] = PacerWheel(0.0)
        wheel.hasten("nobody")
        wheel.relax("nobody")
        wheel.add("a")
        self.served(wheel, range(1, 6))
        wheel.hasten("a")
        wheel.remove("a")
        wheel.relax("a")
        assert self.served(wheel, range(6, 20)) == []
        assert len(wheel) == 0
