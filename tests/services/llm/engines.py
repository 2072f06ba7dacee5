"""Engines of the tests: slow, broken, and one that hands the caller over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from bus.errors import StoreUnavailable
from schemas.llm import ListenFor, NextStep
from services.llm.engine import Answer, Capabilities, EngineError, Request, Sentence, Step, ToolCall, ToolResult
from services.llm.tools import ToolContext, ToolError, ToolSpec


class FakeRun:
    def __init__(self, engine: FakeEngine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self.results: dict[str, ToolResult] = {}
        self._over = False

    async def __aiter__(self) -> AsyncIterator[Step]:
        async for step in self._engine.steps(self._request, self):
            yield step
        self._over = True

    def return_tool(self, tool_call_id: str, result: ToolResult) -> None:
        self.results[tool_call_id] = result

    async def cancel(self) -> None:
        self._engine.cancelled += not self._over


class FakeEngine:
    name = "fake"
    capabilities = Capabilities(streaming=True, tools=True)

    def __init__(self, tools: tuple[ToolSpec, ...] = ()) -> None:
        self.tools = tools
        self.requests: list[Request] = []
        self.cancelled = 0

    async def warm(self) -> None:
        pass

    def open(self, request: Request) -> FakeRun:
        self.requests.append(request)
        return FakeRun(self, request)

    async def steps(self, request: Request, run: FakeRun) -> AsyncIterator[Step]:
        yield Sentence("Fine.")
        yield self.answer(request)

    def answer(self, request: Request) -> Answer:
        return Answer(intent="talk", listen_for=ListenFor(phrases=("yes",)), state=f"after_{request.turn}")


class SlowEngine(FakeEngine):
    """One sentence after each pause."""

    def __init__(self, *, sentences: int, pause_ms: int) -> None:
        super().__init__()
        self._sentences = sentences
        self._pause_ms = pause_ms

    async def steps(self, request: Request, run: FakeRun) -> AsyncIterator[Step]:
        for number in range(self._sentences):
            await asyncio.sleep(self._pause_ms / 1000)
            yield Sentence(f"Sentence {number} of turn {request.turn}.")
        run._over = True
        yield self.answer(request)._replace(ttft_ms=0.4 * self._pause_ms)


class TimedEngine(FakeEngine):
    """The greeting, and then to each turn the same steps, each after its delay in milliseconds. A text step is a
    sentence, with ``{turn}`` put in; an error is raised."""

    def __init__(self, *steps: tuple[int, str | ToolCall | Exception], tools: tuple[ToolSpec, ...] = ()) -> None:
        super().__init__(tools)
        self._steps = steps

    async def steps(self, request: Request, run: FakeRun) -> AsyncIterator[Step]:
        for delay_ms, step in self._steps if request.turn else ((0, "Welcome to the bank."),):
            if delay_ms:
                await asyncio.sleep(delay_ms / 1000)
            if isinstance(step, Exception):
                raise step
            yield Sentence(step.format(turn=request.turn)) if isinstance(step, str) else step
        run._over = True
        yield self.answer(request)


class BrokenEngine(FakeEngine):
    """Fails at "bad turn", in the way that ``where`` says."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def open(self, request: Request) -> FakeRun:
        if request.text == "bad turn" and self.where == "open":
            raise RuntimeError("secret words")
        return super().open(request)

    async def steps(self, request: Request, run: FakeRun) -> AsyncIterator[Step]:
        bad = request.text == "bad turn"
        if bad and self.where == "first":
            raise RuntimeError("secret words")
        if bad and self.where == "engine error":
            raise EngineError("the model is not loaded; load it")
        if bad and self.where == "silent":
            await asyncio.sleep(3600)
        yield Sentence("Fine.")
        if bad and self.where == "second":
            raise RuntimeError("secret words")
        if not bad or self.where != "no answer":
            yield self.answer(request)


class TransferEngine(FakeEngine):
    """Hands every caller over at once."""

    async def steps(self, request: Request, run: FakeRun) -> AsyncIterator[Step]:
        yield Sentence("One moment.")
        yield Answer(then=NextStep.TRANSFER, slots={"transfer_target": "sip:desk@example.com"})


class ToolEngine(FakeEngine):
    """Says a sentence, uses two tools in a row, tells what they said, says another sentence."""

    def __init__(self, tools: tuple[ToolSpec, ...], arguments: tuple[dict[str, Any], ...]) -> None:
        super().__init__(tools)
        self._arguments = arguments

    async def steps(self, request: Request, run: FakeRun) -> AsyncIterator[Step]:
        yield Sentence("Let me see.")
        for number, arguments in enumerate(self._arguments):
            yield ToolCall(f"model-{number}", self.tools[0].name, arguments)
        results = [run.results[f"model-{number}"] for number in range(len(self._arguments))]
        yield Sentence(" and ".join(str(r.error or r.result.get("number")) for r in results) + ".")
        yield self.answer(request)


class BrokenBucket:
    """A store that is away."""

    def __init__(self) -> None:
        self.attempts = 0
        self.reads = 0

    async def modify(self, key: str, change: object, attempts: int = 20) -> NoReturn:
        self.attempts += 1
        raise StoreUnavailable("no leader")

    async def get(self, key: str) -> NoReturn:
        self.reads += 1
        raise StoreUnavailable("no leader")


def fail(arguments: object, context: ToolContext) -> NoReturn:
    raise ToolError("the bank is closed")
