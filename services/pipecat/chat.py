"""A language model service that answers a conversation. Imports pipecat."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    FunctionCallsStartedFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    LLMUpdateSettingsFrame,
    MetricsFrame,
)
from pipecat.metrics.metrics import LLMUsageMetricsData
from pipecat.processors.aggregators.llm_context import LLMContext

from services.pipecat.catalogue import Recipe
from services.pipecat.harness import Harness


class Call(NamedTuple):
    """A tool that the model asks for; ``arguments``: JSON."""

    id: str
    name: str
    arguments: str


class Usage(NamedTuple):
    """Tokens of the conversation, and of the answer."""

    prompt: int
    completion: int


class Tool(NamedTuple):
    """A tool that the model may ask for; ``parameters``: JSON Schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


Said = str | Call | Usage


class ChatHarness(Harness):
    """Answers; one conversation at a time."""

    def __init__(self, recipe: Recipe, rate_hz: int) -> None:
        super().__init__(recipe, rate_hz, metrics=True)

    async def make_service(self) -> Any:
        """A tool that is asked for is told to whoever asked the model; pipecat itself runs none."""
        service = await super().make_service()
        service.register_function(None, _leave_alone)
        return service

    async def answer(self, messages: list[dict[str, Any]], tools: list[Tool], give: Callable[[Said], None]) -> None:
        """Have the model answer; ``give`` takes pieces of text, tools that it asks for, and what it used.

        Args:
            messages: as OpenAI writes them, which is how pipecat keeps them for all its services.

        Raises:
            ServiceError: the service failed.
        """
        frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.take = frames.put_nowait
        instruction, rest = _split(messages)
        if self.service.settings.system_instruction != instruction:
            # Where pipecat wants it: each provider takes the instruction in a place of its own.
            delta = type(self.service.settings)(system_instruction=instruction)
            await self.send(LLMUpdateSettingsFrame(delta=delta, service=self.service))
        schemas = [_schema(tool) for tool in tools]
        context = LLMContext(rest, ToolsSchema(standard_tools=schemas)) if schemas else LLMContext(rest)
        await self.send(LLMContextFrame(context))
        frame: Any = None
        while not isinstance(frame, LLMFullResponseEndFrame):
            frame = await frames.get()
            if isinstance(frame, ErrorFrame):
                raise self.error(frame)
            for said in _read(frame):
                give(said)


def _read(frame: Any) -> Iterator[Said]:
    if isinstance(frame, LLMTextFrame):
        if frame.text:
            yield frame.text
    elif isinstance(frame, FunctionCallsStartedFrame):
        for number, call in enumerate(frame.function_calls):
            yield Call(call.tool_call_id or f"call_{number}", call.function_name, json.dumps(dict(call.arguments)))
    elif isinstance(frame, MetricsFrame):
        for data in frame.data:
            if isinstance(data, LLMUsageMetricsData):
                yield Usage(data.value.prompt_tokens, data.value.completion_tokens)


def _split(messages: list[dict[str, Any]]) -> tuple[str | None, list[dict[str, Any]]]:
    """The instruction that stands in front, and the conversation."""
    front = list(itertools.takewhile(lambda message: message["role"] == "system", messages))
    return "\n\n".join(message["content"] for message in front) or None, messages[len(front) :]


def _schema(tool: Tool) -> Any:
    parameters = tool.parameters
    return FunctionSchema(
        name=tool.name,
        description=tool.description,
        properties=parameters.get("properties", {}),
        required=parameters.get("required", []),
    )


async def _leave_alone(_: Any) -> None:
    """Stands for every tool: the call that owns the answer runs it, not pipecat."""
