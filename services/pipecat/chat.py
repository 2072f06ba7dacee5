"""A language model service that answers a conversation. Imports pipecat."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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


class Finish(NamedTuple):
    """Why the model ended, where it is known, in OpenAI's words."""

    reason: str


Said = str | Call | Usage | Finish
Complete = Callable[..., Awaitable[Any]]


class ChatHarness(Harness):
    """Answers; one conversation at a time."""

    def __init__(self, recipe: Recipe, rate_hz: int) -> None:
        super().__init__(recipe, rate_hz, metrics=True)
        self._completion: _Completion | None = None

    async def make_service(self) -> Any:
        """A tool that is asked for is told to whoever asked the model; pipecat itself runs none."""
        service = await super().make_service()
        service.register_function(None, _leave_alone)
        if hasattr(service, "get_chat_completions"):
            self._completion = _Completion()
            service.get_chat_completions = self._completion.watch(service.get_chat_completions)
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
                # Where the stream itself was seen, its calls are known as the model wrote them.
                if self._completion is None or not isinstance(said, Call):
                    give(said)
        for said in self._completion.said() if self._completion is not None else ():
            give(said)


class _Completion:
    """What a service of OpenAI's kind, as most of the catalogue are, is told by its provider and does not pass on:
    why an answer ended, whether it ended at all, and arguments of a tool that are no JSON."""

    def __init__(self) -> None:
        self._calls: dict[int, list[str]] = {}
        self._reason = ""

    def watch(self, complete: Complete) -> Complete:
        """The method that asks the provider, with an eye on the stream that it returns."""

        async def watched(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
            self._calls, self._reason = {}, ""
            return self._watch(await complete(*arguments, **named))

        return watched

    def said(self) -> Iterator[Said]:
        """What there is to tell when the answer is over."""
        for index in sorted(self._calls):
            identity, name, arguments = self._calls[index]
            yield Call(identity or f"call_{index}", name, arguments)
        if self._reason:
            yield Finish(self._reason)

    async def _watch(self, stream: Any) -> AsyncIterator[Any]:
        try:
            async for chunk in stream:
                for choice in (chunk.choices or ())[:1]:
                    self._note(choice)
                yield chunk
        finally:
            if hasattr(stream, "close"):
                await stream.close()
        if not self._reason:
            raise ConnectionError("the answer broke off")

    def _note(self, choice: Any) -> None:
        self._reason = choice.finish_reason or self._reason
        for part in (choice.delta.tool_calls if choice.delta else None) or ():
            call = self._calls.setdefault(part.index, ["", "", ""])
            call[0] = part.id or call[0]
            if part.function is not None:
                call[1] += part.function.name or ""
                call[2] += part.function.arguments or ""


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
