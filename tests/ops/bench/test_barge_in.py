"""What the barge-in bench compares with what, without a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.bench import barge_in as bench
from ops.bench.barge_in import Observed, Pair, agent_text, compare, figures_of, merged, moment_of
from ops.callview import view_of
from ops.commands.bench import BENCHES
from ops.meter import Answer, BargeIn, Metering, Overlap
from services.llm.agent_check import load_agent
from tests.ops.talk import long_call, measured_by

pytestmark = pytest.mark.unit


def heard(*barge_ins: BargeIn, answers: tuple[Answer, ...] = ()) -> Metering:
    return Metering(45_000, -45.0, -45.0, (), (), answers, barge_ins)


def test_what_the_meter_heard_is_held_against_the_events_of_the_same_moment() -> None:
    found = compare(
        heard(
            BargeIn(5400, 7010, 5672, 9100, Overlap.STOPPED),
            BargeIn(20_000, 21_000, 20_250, None, Overlap.STOPPED),
            BargeIn(30_000, 31_000, 34_000, None, Overlap.SPOKE_ON),
            answers=(Answer(4590, 4995), Answer(40_000, 41_000)),
        ),
        view_of([*long_call(), *measured_by(long_call())]),
    )
    assert found.barge_ins == [Pair(272, 260.0)]
    assert found.answers == [Pair(405, 390.0)]
    assert (found.spoke_on, found.unmatched) == (1, 2)
    assert found.own_difference_ms
    assert max(found.own_difference_ms) <= 1.0


def test_only_the_default_policy_is_held_to_the_limit() -> None:
    observed = merged([Observed([Pair(300, 320)], [Pair(600, 610)], 1, 0, [0.1])] * 2)
    default, other = figures_of("pause", observed), figures_of("confirm", observed)
    assert [figure.name.split(": ")[1] for figure in default] == [
        "barge-in, by the meter", "barge-in, by our events", "barge-in, difference of the two", "answer, by the meter",
        "answer, by our events", "answer, difference of the two", "turn.measured against the events of the stages",
    ]  # fmt: skip
    assert [figure.within for figure in default] == [True, True, True, None, None, True, True]
    assert other[0].within is None
    assert default[2].statistics["p95"] == 20
    assert default[0].note == "2 not stopped, 0 heard and not reported"


def test_nothing_measured_is_no_success() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        figures_of("pause", Observed([], [], 0, 0, []))


def test_the_agent_talks_at_length_whatever_it_hears(tmp_path: Path) -> None:
    path = tmp_path / "talker.toml"
    path.write_text(agent_text(), encoding="utf-8")
    agent = load_agent(path, ())
    assert agent.states["talk"].say == (bench.TEXT,)


def test_moments_are_spread() -> None:
    moments = [moment_of(place) for place in range(30)]
    assert len(set(moments)) == 30
    assert 500 <= min(moments) < 700 < 2700 < max(moments) < 3000


def test_the_bench_can_be_called_by_name() -> None:
    assert "barge_in" in BENCHES
