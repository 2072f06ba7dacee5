"""Any language model service of pipecat's catalogue, or of one's own, by the name of its class (``docs/pipecat.md``).

A service answers one conversation at a time, so an answer has a service for itself; they run in a thread of their own.
Tools that the model asks for are run by the call, as those of every model, and never by pipecat.
"""

from __future__ import annotations

import asyncio
import json
import typing
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from config.load import ConfigError
from config.settings import LlmSection, Settings
from services.llm.chat.model import (
    ChatEnd,
    ChatRequest,
    Delta,
    FinishReason,
    Message,
    ModelCapabilities,
    ModelToolCall,
    Token,
)
from services.llm.engine import Engine, EngineError
from services.pipecat.catalogue import load_recipe
from services.pipecat.errors import ServiceError
from services.pipecat.hosting import Giver, Host, Stream

if TYPE_CHECKING:
    from services.pipecat.chat import ChatHarness
    from services.pipecat.pool import ServicePool

NAME = "pipecat"
REASONS = typing.get_args(FinishReason)


def create(section: LlmSection, settings: Settings | None = None) -> Engine:
    """The engine whose model is the service that ``[pipecat] llm`` names; nothing is connected yet.

    Raises:
        ConfigError: there is no such service, or it can't be used; the text says why.
    """
    from services.llm.chat.engine import ChatEngine

    return ChatEngine(PipecatModel(settings or Settings()), section)


class PipecatModel:
    """Answers, each by a service of the pool."""

    name = NAME
    capabilities = ModelCapabilities(streaming=True, tools=True)

    def __init__(self, settings: Settings) -> None:
        section = settings.pipecat
        recipe = load_recipe("llm", section)
        # pipecat takes seconds to import: only where it is used, and only now that it is known to be there.
        from services.pipecat import chat
        from services.pipecat.pool import ServicePool

        self._chat = chat
        self._host = Host("llm")
        self._pool: ServicePool[ChatHarness] = ServicePool(
            lambda: chat.ChatHarness(recipe, section.sample_rate_hz),
            spare=section.spare_services,
            most=section.most_services,
        )

    async def warm(self) -> None:
        """Connect, and have the model say a first word."""
        greeting = ChatRequest((Message("system", "Answer with one word."), Message("user", "Are you ready?")))
        answer = self.stream(greeting)
        try:
            async for _ in answer:
                break
        finally:
            await answer.aclose()
        await asyncio.wrap_future(self._host.start(self._fill()))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        answer: Stream[Delta] = self._host.stream(lambda give: self._answer(request, give))
        try:
            async for delta in answer:
                yield delta
        finally:
            answer.cancel()

    async def close(self) -> None:
        await asyncio.wrap_future(self._host.start(self._pool.close()))
        self._host.close()

    async def _fill(self) -> None:
        try:
            await self._pool.fill()
        except ServiceError as error:
            raise EngineError(str(error)) from None

    async def _answer(self, request: ChatRequest, give: Giver[Delta]) -> None:
        """In the host's thread."""
        end = ChatEnd("stop")

        def take(said: Any) -> None:
            nonlocal end
            if isinstance(said, str):
                give(Token(said))
            elif isinstance(said, self._chat.Call):
                end = end._replace(reason="tool_calls")
                give(ModelToolCall(said.id, said.name, said.arguments))
            elif isinstance(said, self._chat.Finish):
                if said.reason in REASONS and end.reason == "stop":
                    end = end._replace(reason=said.reason)
            else:
                end = end._replace(prompt_tokens=said.prompt, completion_tokens=said.completion)

        messages = [_message(each) for each in request.messages]
        tools = [self._chat.Tool(*tool) for tool in request.tools]
        try:
            async with self._pool.lend(interruptible=True) as service:
                await service.answer(messages, tools, take)
        except (ServiceError, ConfigError) as error:
            raise EngineError(str(error)) from None
        give(end)


def _message(message: Message) -> dict[str, Any]:
    """As OpenAI writes it, which pipecat turns into what each provider wants."""
    written: dict[str, Any] = {"role": message.role, "content": _sendable(message.text)}
    if message.tool_calls:
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _sound(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        written["tool_call_id"] = message.tool_call_id
    return written


def _sendable(text: str) -> str:
    """Half a pair of UTF-16 is no character that could be sent to anybody."""
    return text.encode("utf-8", "replace").decode()


def _sound(arguments: str) -> str:
    """Arguments that a model wrote wrongly, as pipecat can read them for a provider that wants them taken apart."""
    try:
        return arguments if isinstance(json.loads(arguments), dict) else "{}"
    except ValueError:
        return "{}"
