"""Who may come in."""

from __future__ import annotations

import pytest

from edge.admission import Admission, Refusal, parse_stages
from schemas.session import Stage

pytestmark = pytest.mark.unit


class Slots:
    """Free slots by stage."""

    def __init__(self, **free: int) -> None:
        self.free = free

    def free_slots(self, stage: str) -> int:
        return self.free.get(stage, 0)


def admission(required: str = "", **free: int) -> Admission:
    return Admission(2, parse_stages(required), Slots(**free))


def reason(refusal: Refusal | None) -> tuple[int, str]:
    assert refusal is not None
    return refusal.status, refusal.reason


def test_no_stage_required_and_under_the_limit() -> None:
    assert admission().refusal(calls=1, bus_connected=True) is None


def test_the_limit() -> None:
    assert reason(admission().refusal(calls=2, bus_connected=True)) == (503, "over_limit")


def test_the_bus_is_away() -> None:
    assert reason(admission().refusal(calls=0, bus_connected=False)) == (503, "bus_disconnected")


def test_draining_refuses_before_all_else() -> None:
    closing = admission()
    closing.draining = True
    assert reason(closing.refusal(calls=9, bus_connected=False)) == (503, "draining")


@pytest.mark.parametrize(("free", "missing"), [({}, "asr"), ({"asr": 1}, "tts"), ({"asr": 1, "tts": 0}, "tts")])
def test_each_required_stage_needs_a_free_slot(free: dict[str, int], missing: str) -> None:
    assert reason(admission("asr,tts", **free).refusal(calls=0, bus_connected=True)) == (503, f"no_worker_{missing}")


def test_with_a_slot_in_each_stage_the_call_comes_in() -> None:
    assert admission("asr,tts", asr=1, tts=3).refusal(calls=0, bus_connected=True) is None


def test_stages_out_of_text() -> None:
    assert parse_stages(" asr, tts ,") == (Stage.ASR, Stage.TTS)
    assert parse_stages("") == ()


@pytest.mark.parametrize("name", ["edge", "asrr"])
def test_a_name_that_is_no_stage_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        parse_stages(f"asr,{name}")


def test_one_caller_can_not_take_every_line() -> None:
    limited = Admission(9, (), Slots(), max_calls_per_caller=2)
    assert limited.refusal(calls=5, bus_connected=True, calls_of_caller=1) is None
    assert reason(limited.refusal(calls=5, bus_connected=True, calls_of_caller=2)) == (486, "caller_limit")
    assert Admission(9, (), Slots()).refusal(calls=5, bus_connected=True, calls_of_caller=8) is None
