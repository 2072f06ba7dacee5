"""Engine ``instant``: answers at once with one fixed sentence. For benches and takeover tests, not for callers.

It never hangs up, uses no tool, and has no package to load: what is measured with it is the road, not the thinking.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from config.settings import LlmSection
from schemas.llm import ListenFor
from services.llm.engine import Answer, Capabilities, Request, Sentence, Step, ToolResult
from services.llm.tools import ToolSpec

STATE = "instant"


class InstantRun:
    """``Answer to turn 3.``, and that is all."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def __aiter__(self) -> AsyncIterator[Step]:
        yield Sentence(f"Answer to turn {self._request.turn}.")
        yield Answer(intent=STATE, listen_for=ListenFor(state=STATE), state=STATE)

    def return_tool(self, tool_call_id: str, result: ToolResult) -> None:
        """No tool is ever asked for."""

    async def cancel(self) -> None:
        """There is nothing to stop."""


class InstantEngine:
    """Keeps nothing, loads nothing."""

    name = "instant"
    capabilities = Capabilities(streaming=True)
    tools: tuple[ToolSpec, ...] = ()

    async def warm(self) -> None:
        """Nothing to load."""

    def open(self, request: Request) -> InstantRun:
        return InstantRun(request)


def create(settings: LlmSection) -> InstantEngine:
    """The engine; it has no settings."""
    return InstantEngine()
