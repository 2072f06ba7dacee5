"""Scenarios of turn taking over real SIP and RTP: synthesised and recorded callers, with noise under some of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from ops.scenario.document import Scenario, load_scenarios
from ops.scenario.line import grouped, run_scenarios
from ops.scenario.report import Result, timeline

pytestmark = [
    pytest.mark.e2e,
    # The first test waits for the first results of all calls; several are placed at once.
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("timed"),
]

STOP_S = 15.0
"""For the systems to end in order after the last result."""
AT_ONCE = 4
"""Calls at once in each system; scenarios of other settings have another one, beside it."""
FOLDER = Path(__file__).parents[1] / "scenarios"
SCENARIOS = {
    str(scenario.path.relative_to(FOLDER).with_suffix("")): scenario
    for scenario in load_scenarios(FOLDER)
    if "sip" in scenario.runs
}

Results = Mapping[str, asyncio.Future[Result]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(request: pytest.FixtureRequest) -> AsyncIterator[Results]:
    """Results to come, by the scenario's id: all that are wanted run together, in systems that they share."""
    wanted = {item.callspec.id: SCENARIOS[item.callspec.id] for item in request.session.items if _is_ours(item)}
    loop = asyncio.get_running_loop()
    coming: dict[str, asyncio.Future[Result]] = {name: loop.create_future() for name in wanted}
    running = loop.create_task(_run(wanted, coming))
    yield coming
    if all(future.done() for future in coming.values()):
        await asyncio.wait({running}, timeout=STOP_S)
    running.cancel()
    await asyncio.wait({running})


def _is_ours(item: pytest.Item) -> bool:
    return item.module.__name__ == __name__ and hasattr(item, "callspec")


async def _run(wanted: Mapping[str, Scenario], coming: Results) -> None:
    names = {scenario.path: name for name, scenario in wanted.items()}
    problem: BaseException = AssertionError("no result came")

    async def run(group: Sequence[Scenario]) -> None:
        async for result in run_scenarios(group, at_once=AT_ONCE):
            coming[names[result.scenario.path]].set_result(result)

    try:
        async with asyncio.TaskGroup() as together:
            # The calls with most steps last longest: they begin first.
            for group in grouped(sorted(wanted.values(), key=lambda scenario: -len(scenario.caller))):
                together.create_task(run(group))
    except BaseException as error:
        problem = error
        raise
    finally:
        for future in coming.values():
            if not future.done():
                future.set_exception(problem)
                future.exception()


@pytest.mark.parametrize("name", SCENARIOS, ids=list(SCENARIOS))
async def test_scenario(name: str, results: Results) -> None:
    result = await results[name]
    if result.skipped:
        pytest.skip(result.skipped)
    told = "\n".join([*result.failures, "", *timeline(result)])
    assert not result.failures, f"{result.scenario.title}:\n{told}"


async def test_there_are_enough_of_them() -> None:
    noisy = {scenario.background.snr_db for scenario in SCENARIOS.values() if scenario.background is not None}
    assert len(SCENARIOS) >= 12
    assert noisy >= {20, 10, 5}
    assert sum(any(step.wav for step in scenario.caller) for scenario in SCENARIOS.values()) >= 4
