"""A caller and an agent whose words hold what must not leak, and an agent that is slow or fails when it is told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from config.settings import AsrSection, LlmSection
from services.asr.engines.instant import FixedText
from services.llm.engine import Answer, Capabilities, EngineError, Request, Sentence, Step, ToolCall, ToolResult
from services.llm.tools import ToolContext, ToolSpec

CARD = "4111 1111 1111 1111"
NAME = "Nadia"
SAID = f"this is {NAME} and my card is {CARD}"
FOUND = f"Thank you {NAME}."
ANSWER = "Your card is on its way to you."
PLANTED = (CARD, CARD.replace(" ", ""), NAME, SAID, ANSWER, "Hello.")
MODE_FILE = "CALLBUS_TRACED_CALL_MODE"
"""Variable with the path of a file: ``slow`` or ``fail`` in it has the next answer be that."""
SLOW_S = 1.0


class Caller(FixedText):
    """Says the same sentence each time, whatever is heard."""

    name = "planted"

    def __init__(self, settings: AsrSection) -> None:
        super().__init__(settings, SAID)


class CardNumber(msgspec.Struct):
    """Arguments of the tool."""

    digits: str


def find_card(arguments: CardNumber, context: ToolContext) -> dict[str, str]:
    """Knows every card."""
    return {"owner": NAME, "digits": arguments.digits}


class AgentRun:
    """A greeting, then each time a tool and two sentences."""

    def __init__(self, request: Request, mode: str) -> None:
        self._turn = request.turn
        self._mode = mode
        self._returned = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Step]:
        if self._turn == 0:
            yield Sentence("Hello.")
        else:
            if self._mode == "slow":
                await asyncio.sleep(SLOW_S)
            if self._mode == "fail":
                raise EngineError("told to fail")
            yield ToolCall("1", "find_card", {"digits": CARD})
            await self._returned.wait()
            yield Sentence(FOUND)
            yield Sentence(ANSWER)
        yield Answer(intent="card", state="card")

    def return_tool(self, tool_call_id: str, result: ToolResult) -> None:
        self._returned.set()

    async def cancel(self) -> None:
        """Nothing to stop."""


class Agent:
    """The engine."""

    name = "planted"
    capabilities = Capabilities(streaming=True, tools=True)
    tools = (ToolSpec("find_card", "Finds a card.", CardNumber, find_card),)

    def __init__(self, settings: LlmSection) -> None:
        self._mode = Path(os.environ.get(MODE_FILE, "/dev/null"))

    async def warm(self) -> None:
        """Nothing to load."""

    def open(self, request: Request) -> AgentRun:
        return AgentRun(request, self._mode.read_text().strip())
