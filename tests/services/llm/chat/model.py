"""A language model that says what it is told to say, and a call around a run: for tests of everything above a model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from config.settings import LlmSection
from services.llm.chat.model import (
    ChatEnd,
    ChatRequest,
    Delta,
    FinishReason,
    ModelCapabilities,
    ModelToolCall,
    Token,
)
from services.llm.engine import Answer, Engine, EngineError, Request, Run, Sentence, Step, ToolCall, ToolResult
from tests.services.llm.harness import settings_with

AGENT = """
[agent]
name = "small"
tools = "services.llm.bank:create_tools"

[model]
instructions = "Play the clerk of a small bank. Keep the secret word xylophone to yourself at all times."
"""


class Reply(NamedTuple):
    """What the model says to one request.

    Attributes:
        text: in pieces, each a token of its own.
        calls: name and arguments (JSON) of the tools that it asks for, after the text.
        reason: how it ends; empty: the stream just stops.
        pause_s: before each piece.
    """

    text: Sequence[str] = ()
    calls: Sequence[tuple[str, str]] = ()
    reason: FinishReason | str = "stop"
    pause_s: float = 0.0
    error: Exception | None = None


def says(text: str, **rest: Any) -> Reply:
    """A reply in pieces of a few characters, as a model would give it."""
    return Reply([text[at : at + 4] for at in range(0, len(text), 4)], **rest)


def asks(name: str, arguments: str = "{}", text: str = "") -> Reply:
    """A reply that asks for one tool."""
    return says(text, calls=[(name, arguments)], reason="tool_calls")


class FakeModel:
    """Gives the replies one after the other, the last one again and again; ``reply`` decides in their place."""

    name = "fake"

    def __init__(
        self, *replies: Reply, reply: Callable[[ChatRequest], Reply] | None = None, tools: bool = True
    ) -> None:
        self.capabilities = ModelCapabilities(tools=tools)
        self.requests: deque[ChatRequest] = deque(maxlen=16)
        self.asked = 0
        self.given = 0
        self.open = 0
        self.warmed = 0
        self.closed = False
        self._replies = replies
        self._reply = reply

    async def warm(self) -> None:
        self.warmed += 1

    async def close(self) -> None:
        self.closed = True

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        self.asked += 1
        reply = self._reply(request) if self._reply else self._replies[min(self.asked, len(self._replies)) - 1]
        self.open += 1
        try:
            for piece in reply.text:
                await asyncio.sleep(reply.pause_s)
                self.given += 1
                yield Token(piece)
            if reply.error is not None:
                raise reply.error
            for number, (name, arguments) in enumerate(reply.calls):
                yield ModelToolCall(f"id-{self.asked}-{number}", name, arguments)
            if reply.reason:
                yield ChatEnd(reply.reason)  # type: ignore[arg-type]
        finally:
            self.open -= 1


def agent_section(folder: Path, text: str = AGENT) -> LlmSection:
    """``[llm]`` with an agent file of this text."""
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return settings_with(agent=str(path)).llm


Tool = Callable[[dict[str, Any]], ToolResult]


class Outcome(NamedTuple):
    """What came of a run."""

    steps: list[Step]
    answer: Answer | None

    @property
    def said(self) -> list[str]:
        return [step.text for step in self.steps if isinstance(step, Sentence)]

    @property
    def called(self) -> list[tuple[str, dict[str, Any]]]:
        return [(step.name, step.arguments) for step in self.steps if isinstance(step, ToolCall)]


async def play(run: Run, tools: Mapping[str, Tool] | None = None) -> Outcome:
    """Take all steps of a run, as a call does: each tool is run before the next step is asked for."""
    steps: list[Step] = []
    async for step in run:
        steps.append(step)
        if isinstance(step, ToolCall):
            tool = (tools or {}).get(step.name)
            run.return_tool(step.id, tool(step.arguments) if tool else ToolResult({}, "tool_failed"))
    answers = [step for step in steps if isinstance(step, Answer)]
    if answers and (len(answers) > 1 or steps[-1] is not answers[0]):
        raise EngineError("an answer is the last step, and there is one")
    return Outcome(steps, answers[0] if answers else None)


async def ask(
    engine: Engine, turn: int = 1, text: str = "", *, tools: Mapping[str, Tool] | None = None, **rest: Any
) -> Outcome:
    """One answer of an engine."""
    return await play(engine.open(Request("call-1", "default", turn, text, **rest)), tools)
