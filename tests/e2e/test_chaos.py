"""Providers that are killed, slow, cut off or talk rubbish in the middle of a call: the caller hears no gap.

The whole system, a caller over SIP, and for each stage a first engine whose provider fails in one turn after the other,
and a second one that stands in. What the caller heard is measured on the recording; what was said and understood is
judged by ear and by the events; what the breaker did, by the page of metrics.

``CALLBUS_TEST_CHAOS=all``: every way to fail that ``chaos/stages.py`` knows, ``CALLBUS_TEST_CHAOS_RUNS`` times each;
the table stands in ``bench-results/chaos.md``. Settings in the environment win: so other ones can be measured.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from config.settings import AsrSection
from services.asr.engines.pocketsphinx import PocketSphinxEngine
from tests.e2e.chaos.call import Held, Turn, hold
from tests.e2e.chaos.gauges import CLOSED, HALF_OPEN, OPEN, Gauges, free_ports, watching
from tests.e2e.chaos.stages import Stage, stage_of
from tests.e2e.chaos.verdict import GAP_LIMIT_MS, Row, judge, table
from tests.e2e.system import running_system

EVERYTHING = os.environ.get("CALLBUS_TEST_CHAOS", "") == "all"
RUNS = int(os.environ.get("CALLBUS_TEST_CHAOS_RUNS", "1"))
RESULT = Path(__file__).parents[2] / "bench-results" / "chaos.md"
ROOT = Path(__file__).parents[2]
STAGES = ("asr", "llm", "tts")
FAILURES = 5
OPEN_MS = 8000
SETTINGS = {
    "CALLBUS_ASR__ATTEMPT_MS": "600",
    "CALLBUS_LLM__ATTEMPT_MS": "600",
    "CALLBUS_TTS__ATTEMPT_MS": "600",
    "CALLBUS_FAILOVER__FAILURES": str(FAILURES),
    "CALLBUS_FAILOVER__OPEN_MS": str(OPEN_MS),
}
"""As docs/failover.md has them for providers that fail, but for the breaker's rest, which is shorter."""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300 + 600 * RUNS * EVERYTHING),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("timed"),
]


class Came(NamedTuple):
    """What came of a call. ``gauges``: of the first engine."""

    rows: Sequence[Row]
    gauges: Gauges


Coming = Mapping[str, asyncio.Task[Came]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def coming(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Coming]:
    """The calls, one for each stage that is wanted, side by side, each with a system of its own."""
    wanted = [item.callspec.params["name"] for item in request.session.items if item.fspath == request.path]
    calls = {name: asyncio.create_task(_call(name, tmp_path_factory.mktemp(name))) for name in sorted(set(wanted))}
    tasks = {name: asyncio.create_task(_judged(name, calls)) for name in calls}
    yield tasks
    for task in (*calls.values(), *tasks.values()):
        task.cancel()
    await asyncio.wait((*calls.values(), *tasks.values()))
    rows = [
        row for task in tasks.values() if not task.cancelled() and not task.exception() for row in task.result().rows
    ]
    if EVERYTHING and rows:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(table(rows) + "\n", encoding="utf-8")


async def _call(name: str, folder: Path) -> tuple[Stage, Held, Gauges]:
    async with stage_of(name) as stage:
        port = free_ports(len(STAGES) + 1)
        environment = SETTINGS | {name: os.environ[name] for name in SETTINGS if name in os.environ} | stage.environment
        environment |= {"CALLBUS_METRICS__PORT": str(port), "PYTHONPATH": str(ROOT)}
        async with (
            running_system(folder, environment=environment) as supervisor,
            watching(port, stage.name, stage.first) as gauges,
        ):
            turns = _every_fault(stage) if EVERYTHING else _one_after_the_other(stage, gauges)
            held = await hold(stage, turns, supervisor)
            (folder / "call.wav").write_bytes(held.recording.wav())
    return stage, held, gauges


async def _judged(name: str, calls: Mapping[str, asyncio.Task[tuple[Stage, Held, Gauges]]]) -> Came:
    """Once all calls are over: a recogniser at work holds up the callers of this process."""
    await asyncio.wait(calls.values())
    stage, held, gauges = calls[name].result()
    rows = await asyncio.to_thread(lambda: judge(stage, held, PocketSphinxEngine(AsrSection(), last_pass=True)))
    return Came(rows, gauges)


def _one_after_the_other(stage: Stage, gauges: Gauges) -> list[Turn]:
    """All is well; four faults in a row, the last of which opens the breaker; the provider is left alone although it is
    back; it is tried, and used again."""
    talk = (stage.talks[number % len(stage.talks)] for number in count())

    async def rested() -> None:
        opened = gauges.opened()
        if opened is not None:
            passed_s = asyncio.get_running_loop().time() - opened[1].at
            await asyncio.sleep(max(0.0, OPEN_MS / 1000 + 0.2 - passed_s))
        await stage.dawdle()

    turns = [Turn(next(talk))]
    turns += [Turn(next(talk), stage.faults[name]) for name in stage.sequence]
    return [*turns, Turn(next(talk), left_alone=True), Turn(next(talk), before=rested)]


def _every_fault(stage: Stage) -> list[Turn]:
    """Each fault in a turn of its own, and a turn after it in which all is well: the breaker stays closed."""
    turns = [Turn(stage.talks[0])]
    for fault in [fault for fault in stage.faults.values() for _ in range(RUNS)]:
        while fault.talk is not None and len(turns) % len(stage.talks) != fault.talk:
            turns.append(Turn(stage.talks[len(turns) % len(stage.talks)]))
        for each in (fault, None):
            turns.append(Turn(stage.talks[len(turns) % len(stage.talks)], each))
    return turns


@pytest.mark.parametrize("name", STAGES)
async def test_the_caller_hears_no_gap_and_misses_no_word(name: str, coming: Coming) -> None:
    came = await coming[name]
    print(table(came.rows))
    assert [(row.name, problem) for row in came.rows for problem in row.problems] == []
    faults = [row for row in came.rows if row.turn.fault is not None]
    assert {row.turn.fault.kind for row in faults if row.turn.fault} == {"killed", "slowed", "cut", "rubbish"}
    assert max(row.silence_ms for row in came.rows) <= GAP_LIMIT_MS


@pytest.mark.skipif(EVERYTHING, reason="the breaker stays closed where all is well between two faults")
@pytest.mark.parametrize("name", STAGES)
async def test_the_breaker_opens_and_closes_again(name: str, coming: Coming) -> None:
    gauges = (await coming[name]).gauges
    assert gauges.states == [CLOSED, OPEN, HALF_OPEN, CLOSED], gauges.readings
    opened = gauges.opened()
    assert opened is not None
    assert opened[1].errors == FAILURES
    # Of earlier readings: a page is made while the worker goes on, and its state may be a moment older than its errors.
    assert [each for each in gauges.readings if each.state == CLOSED and 0 < each.errors < FAILURES]
    last = gauges.readings[-1]
    assert last.errors == FAILURES, "left alone, it fails no more"
    assert last.failovers in (4, 5), "a turn that a busy machine hears as two asks twice"
