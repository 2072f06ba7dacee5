"""The seam between an agent and the language model that plays it.

A :class:`ChatModel` is heavy, loaded once a process: a GGUF file, or the access to a server. It gets a conversation as
messages and streams what comes of it. Everything else is the same for all of them and stands in this room: the prompt,
sentences, tools, what a caller may not do to the agent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Literal, NamedTuple, Protocol

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ModelToolCall(NamedTuple):
    """A tool that the model asks for, whole. ``arguments``: the JSON text as the model wrote it, not yet checked."""

    id: str
    name: str
    arguments: str


class Message(NamedTuple):
    """One entry of the conversation.

    ``tool_calls``: of an assistant's message that asked for tools; ``tool_call_id``: of a tool's, which it answers.
    """

    role: Role
    text: str
    tool_calls: tuple[ModelToolCall, ...] = ()
    tool_call_id: str = ""


class ToolDescription(NamedTuple):
    """A tool as a model is told of it; ``parameters`` is the JSON Schema of its arguments (``services.llm.tools``)."""

    name: str
    description: str
    parameters: dict[str, Any]

    def as_function(self) -> dict[str, Any]:
        """In the form of OpenAI's interface, which other servers and the templates of models have taken over."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


class ChatRequest(NamedTuple):
    """What a model is asked.

    ``call_id``: the call, for a model that keeps the prompt of a call's last answer; never sent to anybody.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolDescription, ...] = ()
    call_id: str = ""


class Token(NamedTuple):
    """The next piece of text, as long as the model gives it; never empty."""

    text: str


class ChatEnd(NamedTuple):
    """The last thing of a stream. Token counts are None where the model does not tell them."""

    reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


Delta = Token | ModelToolCall | ChatEnd


class ModelCapabilities(NamedTuple):
    """``streaming``: text comes before it is complete; ``tools``: it can ask for tools; ``languages``: empty: any."""

    streaming: bool = True
    tools: bool = True
    languages: tuple[str, ...] = ()


class ChatModel(Protocol):
    """A language model. Blocking work of it runs off the event loop.

    One that remembers prompts has a method ``prepare(request: ChatRequest)`` besides, which takes the place of
    ``warm``: it reads what the prompts of all calls begin with.
    """

    @property
    def name(self) -> str:
        """The engine's name in the settings."""

    @property
    def capabilities(self) -> ModelCapabilities: ...

    async def warm(self) -> None:
        """Load it and have it answer once.

        Raises:
            EngineError: it can't be had; the text says what to mend.
        """

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Begin an answer. It ends with one :class:`ChatEnd`.

        Closing the generator (``aclose``) stops the work within 50 ms, wherever it stands. Raises
        ``services.llm.engine.EngineError`` where the model fails; its text never holds what anybody said.
        """

    async def close(self) -> None:
        """Let go of it."""
