"""Warming several engines of a stage: those that can not be used are left out until they can, and one is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from bus.logs import get_logger
from services.racing import now_ms
from services.resilience.attempts import Roster

log = get_logger(__name__)

E = TypeVar("E")

Warm = Callable[[], Awaitable[None]]

WARM_S = 300.0
"""A model that is not loaded by then is taken for one that never will be."""


class Warming:
    """Loads the engines of a roster, and goes on trying for those that fail."""

    def __init__(self, roster: Roster, warms: Sequence[Warm], stage: str) -> None:
        """``warms``: loads the engine of this index; an engine that failed is loaded again."""
        self._roster = roster
        self._warms = warms
        self._stage = stage
        self._tasks: set[asyncio.Task[None]] = set()

    async def warm(self) -> int:
        """Load them all, one after the other; the index of the first that can be used.

        Raises:
            Exception: none can be used; what the first one raised.
        """
        errors: dict[int, Exception] = {}
        for index in range(len(self._warms)):
            if (error := await self._try(index)) is not None:
                errors[index] = error
        if len(errors) == len(self._warms):
            raise errors[0]
        for index in errors:
            task = asyncio.get_running_loop().create_task(self._try_again(index), name="engine-warm")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return next(index for index in range(len(self._warms)) if index not in errors)

    def close(self) -> None:
        """Try no more."""
        for task in self._tasks:
            task.cancel()

    async def _try(self, index: int) -> Exception | None:
        name = self._roster.names[index]
        try:
            async with asyncio.timeout(WARM_S):
                await self._warms[index]()
        except Exception as error:
            self._roster.leave_out(index, now_ms())
            text = str(error) or type(error).__name__
            log.warning("engine_left_out", message=f"{self._stage} goes on without engine {name}: {text}", engine=name)
            return error
        self._roster.let_in(index, now_ms())
        return None

    async def _try_again(self, index: int) -> None:
        while True:
            await asyncio.sleep(self._roster.settings.open_ms / 1000)
            if await self._try(index) is None:
                log.info("engine_let_in", message=f"{self._stage} has engine {self._roster.names[index]} again")
                return


def names_of(engine: str, fallbacks: str) -> list[str]:
    """The engines of two settings of a stage, in their order, each once.

    Raises:
        ValueError: one is named twice.
    """
    names = [engine.strip(), *(name for piece in fallbacks.split(",") if (name := piece.strip()))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"fallbacks = {fallbacks!r}: {', '.join(twice)} is named twice; each engine has one place")
    return names


def engines_of(
    stage: str, engine: str, fallbacks: str, load: Callable[[str], E], refuse: Callable[[str], Exception]
) -> list[tuple[str, E]]:
    """The engines of two settings of a stage with their names, in their order, loaded and not yet warm.

    Raises:
        Exception: what ``load`` raises; what ``refuse`` makes of the text, where one is named twice.
    """
    try:
        names = names_of(engine, fallbacks)
    except ValueError as error:
        raise refuse(f"[{stage}] {error}") from None
    return [(name, load(name)) for name in names]
