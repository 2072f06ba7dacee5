"""Every engine with every other: ``callbus demo`` holds a conversation with each combination that this machine has.

A set of combinations in which each engine is once; with ``CALLBUS_TEST_MATRIX=all`` every one (``make matrix``). Where
the models at hand can speak and understand, the caller must hear the goal; where one can't, the events are judged, and
the table says so. It stands at the end of the tests' output; that of all in ``bench-results/matrix.md`` as well.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.matrix.combination import HEAD, LIMIT_S, Combination, Row, covering, hold, product, table
from tests.e2e.matrix.parts import Parts, servers

EVERYTHING = os.environ.get("CALLBUS_TEST_MATRIX", "") == "all"
AT_ONCE = int(os.environ.get("CALLBUS_TEST_MATRIX_CALLS", "2"))
"""Demonstrations that run at the same time: five processes and some five seconds of work each."""
COMBINATIONS = {combination.name: combination for combination in (product() if EVERYTHING else covering())}
RESULT = Path(__file__).parents[2] / "bench-results" / "matrix.md"

pytestmark = [
    pytest.mark.e2e,
    # They begin in this order: when a test waits for a call, the call has begun. Models are built before the first one.
    pytest.mark.timeout(LIMIT_S + 90),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("matrix"),
]

Rows = Mapping[str, asyncio.Future[Row]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rows]:
    """Rows to come, by the combination's name: all that are wanted, some at a time."""
    names = [item.callspec.id for item in request.session.items if item.path == request.path]
    wanted = [COMBINATIONS[name] for name in names if not COMBINATIONS[name].missing]
    loop = asyncio.get_running_loop()
    coming: dict[str, asyncio.Future[Row]] = {combination.name: loop.create_future() for combination in wanted}
    free = asyncio.Semaphore(AT_ONCE)
    folder = tmp_path_factory.mktemp("matrix")

    async def one(combination: Combination, parts: Parts) -> None:
        try:
            async with free:
                row = await hold(combination, parts, folder / combination.name)
        except Exception as error:
            coming[combination.name].set_exception(error)
            return
        coming[combination.name].set_result(row)
        if EVERYTHING:
            _write(coming)

    async with servers() as providers:
        parts = Parts(folder, providers)
        for combination in wanted:
            parts.of(combination)
        tasks = [asyncio.create_task(one(combination, parts)) for combination in wanted]
        yield coming
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _write(coming: Rows) -> None:
    """The table so far, after each call: there is one also where the tests are broken off."""
    RESULT.parent.mkdir(exist_ok=True)
    done = [row.result().cells for row in coming.values() if row.done() and row.exception() is None]
    RESULT.write_text(table(done) + "\n", encoding="utf-8")


@pytest.mark.parametrize("combination", COMBINATIONS.values(), ids=COMBINATIONS)
async def test_a_conversation(
    combination: Combination, rows: Rows, record_property: Callable[[str, object], None]
) -> None:
    if combination.missing:
        record_property("matrix", (*combination, *["-"] * (len(HEAD) - 4), combination.missing))
        pytest.skip(combination.missing)
    row = await rows[combination.name]
    record_property("matrix", row.cells)
    print(table([row.cells]))
    assert row.reached, row.note
