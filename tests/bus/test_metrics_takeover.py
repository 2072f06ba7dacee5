"""Takeovers as figures: how many and why, and how long a call had nobody who worked on it."""

from __future__ import annotations

import asyncio

import pytest

from bus.metrics.registry import REGISTRY
from tests.bus.samples import until
from tests.bus.test_ownership import Stand, all_calls, now
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"callbus_{name}", {"stage": "asr", **labels}) or 0.0


def test_a_lost_worker_is_counted_with_the_time_that_its_calls_waited() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2", slots=50)
        calls = await stand.offer(8)
        await until(lambda: all_calls(one, two) == calls)
        lost = len(one.calls())
        takeovers, count, total = (
            value("takeovers_total", why="lost"), value("takeover_seconds_count"), value("takeover_seconds_sum"),
        )  # fmt: skip
        died = now()
        one.freeze()
        await until(lambda: two.calls() == calls)
        waited = now() - died
        await asyncio.sleep(0.1)
        assert lost > 0
        assert value("takeovers_total", why="lost") - takeovers == lost
        assert value("takeover_seconds_count") - count == lost
        mean = (value("takeover_seconds_sum") - total) / lost
        assert waited * 0.5 < mean < waited + 0.15

    run_virtual(scenario())


def test_a_worker_that_drains_is_no_lost_one() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2", slots=50)
        calls = await stand.offer(6)
        await until(lambda: all_calls(one, two) == calls)
        handed = len(one.calls())
        before = value("takeovers_total", why="handed_over"), value("takeovers_total", why="lost")
        seconds = value("takeover_seconds_count")
        await one.owner.drain(3000)
        await until(lambda: two.calls() == calls)
        assert handed > 0
        assert value("takeovers_total", why="handed_over") - before[0] == handed
        assert value("takeovers_total", why="lost") == before[1]
        assert value("takeover_seconds_count") == seconds

    run_virtual(scenario())
