"""A model's stream is let go of once and whole, whoever stops it and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from services.llm.chat.model import Delta, Token
from services.llm.chat.stream import AHEAD, Deltas

pytestmark = pytest.mark.unit


async def test_stopped_again_while_the_model_lets_go() -> None:
    """An interruption, and the event after it: what the model does to let go is not cut short."""
    letting_go, may_go, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncGenerator[Delta, None]:
        try:
            yield Token("a")
            await asyncio.Event().wait()
        finally:
            letting_go.set()
            await may_go.wait()
            gone.set()

    deltas = Deltas(slow())
    assert await deltas.next() == Token("a")
    first = asyncio.create_task(deltas.close())
    await letting_go.wait()
    second = asyncio.create_task(deltas.close())
    await asyncio.sleep(0)
    may_go.set()
    await asyncio.gather(first, second)
    assert gone.is_set()


@pytest.mark.parametrize("fails", [True, False])
async def test_nobody_waits_for_a_queue_that_nobody_empties(fails: bool) -> None:
    given = 0

    async def endless() -> AsyncGenerator[Delta, None]:
        nonlocal given
        try:
            while True:
                given += 1
                yield Token("a")
        finally:
            if fails:
                raise ConnectionError

    deltas = Deltas(endless())
    await deltas.next()
    while given < AHEAD + 2:  # one taken, the queue full, and one that finds no room
        await asyncio.sleep(0)
    await deltas.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "llm-model"]
    assert await deltas.next() is None
