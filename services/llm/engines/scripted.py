"""Engine ``scripted``: an agent that is described in a readable file (``docs/agents.md``). No model, no download.

It answers within a millisecond and answers the same thing to the same request, so a successor repeats an answer word
for word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from config.settings import LlmSection
from services.llm import dialogue
from services.llm.agent_check import build_agent
from services.llm.agent_file import Agent, AgentFileError, find_agent, read_document
from services.llm.engine import Answer, Capabilities, EngineError, Request, Step, ToolCall, ToolResult
from services.llm.manners import Manners
from services.llm.menu import Menu, menu_of
from services.llm.tools import ToolError, ToolSpec, load_tools


class ScriptedRun:
    """One answer: the dialogue's steps, with the tools' results sent back in between."""

    def __init__(self, steps: dialogue.Steps) -> None:
        self._steps = steps
        self._results: dict[str, ToolResult] = {}
        self._returned = asyncio.Event()
        self._cancelled = False

    async def __aiter__(self) -> AsyncIterator[Step]:
        result: ToolResult | None = None
        while not self._cancelled:
            step = self._steps.send(result)
            result = None
            yield step
            if isinstance(step, Answer):
                return
            if isinstance(step, ToolCall):
                result = await self._result(step.id)

    def return_tool(self, tool_call_id: str, result: ToolResult) -> None:
        self._results[tool_call_id] = result
        self._returned.set()

    async def cancel(self) -> None:
        self._cancelled = True
        self._returned.set()

    async def _result(self, tool_call_id: str) -> ToolResult | None:
        """Waits until the tool has returned; the caller of the run bounds the wait with the turn's deadline."""
        while tool_call_id not in self._results and not self._cancelled:
            self._returned.clear()
            await self._returned.wait()
        return self._results.pop(tool_call_id, None)


class ScriptedEngine:
    """A script and its tools, loaded once."""

    name = "scripted"

    def __init__(self, agent: Agent, tools: Sequence[ToolSpec]) -> None:
        self.agent = agent
        head = agent.head
        self.manners = Manners(head.fillers, head.away, head.away_goodbye, head.language)
        self.tools = tools
        self.capabilities = Capabilities(streaming=True, tools=True, languages=(agent.head.language,))

    async def warm(self) -> None:
        """Nothing is left to load."""

    def menu(self, state: str) -> Menu | None:
        """What the keys stand for in a state of the script."""
        return menu_of(self.agent, state)

    def open(self, request: Request) -> ScriptedRun:
        return ScriptedRun(dialogue.answer(self.agent, request))


def create(settings: LlmSection) -> ScriptedEngine:
    """The agent that ``[llm] agent`` names, with its tools.

    Raises:
        EngineError: the agent file or its tools can't be used; the text says where and why.
    """
    try:
        document = read_document(find_agent(settings.agent))
        tools = load_tools(document.head.tools, settings)
        return ScriptedEngine(build_agent(document, tools), tools)
    except (AgentFileError, ToolError) as error:
        raise EngineError(str(error)) from error
