"""Engines that stand in for each other in tests: each answers in its own words, or does what a script says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from config.settings import FailoverSection, LlmSection, Settings
from services.llm.engine import Request, Step, ToolCall
from services.llm.engine import Sentence as Sentence
from services.llm.failover import FailoverEngine
from services.llm.tools import ToolSpec
from services.resilience.attempts import Roster
from tests.services.llm.engines import FakeEngine, FakeRun
from tests.services.resilience.test_attempts import Counted

HANG = 3600.0
Script = list[Any]
"""Sentences as text, tool calls, errors to raise, seconds to wait, and what is no step at all. None: the answer."""


class Thinker(FakeEngine):
    """Answers each request with the next script, and when they are used up with two sentences of its own.

    ``repeats``: says ``Request.said`` again first, as a model does that goes on after it.
    """

    def __init__(
        self, name: str, *scripts: Script, tools: tuple[ToolSpec, ...] = (), repeats: bool = True, warms: bool = True
    ) -> None:
        super().__init__(tools)
        self.name = name
        self.scripts = list(scripts)
        self.always: Script | None = None
        self.repeats = repeats
        self.warms = warms
        self.warmed = 0
        self.closed = 0
        self.results: list[Any] = []

    async def warm(self) -> None:
        self.warmed += 1
        if not self.warms:
            raise OSError("no such model")

    async def close(self) -> None:
        self.closed += 1

    async def steps(self, request: Request, run: FakeRun) -> AsyncIterator[Step]:
        own: Script = [f"{self.name} one.", f"{self.name} two.", None]
        script = self.scripts.pop(0) if self.scripts else self.always if self.always is not None else own
        for text in request.said if self.repeats else ():
            yield Sentence(text)
        for item in script:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, float):
                await asyncio.sleep(item)
            elif item is None:
                run._over = True
                yield self.answer(request)._replace(ttft_ms=100.0)
            else:
                yield Sentence(item) if isinstance(item, str) else item
                if isinstance(item, ToolCall):
                    self.results.append(run.results[item.id])


def panel(
    *engines: Thinker,
    figures: Counted | None = None,
    failover: FailoverSection = FailoverSection(backoff_ms=0),  # noqa: B008
    **llm: Any,
) -> FailoverEngine:
    """Engines as one."""
    roster = Roster([engine.name for engine in engines], failover, lambda: 0.5, figures or Counted())
    settings = Settings(llm=LlmSection(**llm), failover=failover)
    return FailoverEngine([(engine.name, engine) for engine in engines], settings, roster)
