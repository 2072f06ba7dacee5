"""A model's stream, read by a task of its own, so that it can be stopped at once wherever it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.llm.chat.model import Delta

AHEAD = 64
"""Deltas that are read before anybody takes them: a model that never pauses must not hold up the event loop."""

CLOSE_S = 1.0
"""A model that does not let go by then is left to itself."""


class Deltas:
    """The deltas of one stream. Reading begins with the first :meth:`next`."""

    def __init__(self, stream: AsyncGenerator[Delta, None]) -> None:
        self._stream = stream
        self._queue: asyncio.Queue[Delta | Exception | None] = asyncio.Queue(AHEAD)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def next(self) -> Delta | None:
        """The next one; None where there are no more. Raises whatever the model raises."""
        if self._closed:
            return None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read(), name="llm-model")
        delta = await self._queue.get()
        if self._closed or delta is None:
            self._closed = True
            return None
        if isinstance(delta, Exception):
            self._closed = True
            raise delta
        return delta

    async def close(self) -> None:
        """Stop the model's work on it. Harmless where it is over."""
        stopped, self._closed = self._closed, True
        task = self._task
        if task is None:
            await self._stream.aclose()
        elif not task.done():
            if not stopped:  # a second time would cut short how the model lets go
                task.cancel()
            if self._queue.empty():
                self._queue.put_nowait(None)  # whoever waits for a delta waits no more
            await asyncio.wait({task}, timeout=CLOSE_S)

    async def _read(self) -> None:
        try:
            async with aclosing(self._stream) as stream:
                async for delta in stream:
                    await self._queue.put(delta)
        except Exception as error:
            await self._tell(error)
        else:
            await self._tell(None)

    async def _tell(self, end: Exception | None) -> None:
        """How it ended, where anybody still takes it: a full queue would be waited for without end."""
        if not self._closed:
            await self._queue.put(end)
