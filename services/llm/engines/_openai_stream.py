"""Chunks of a chat completion, joined to what they mean. Servers differ; what they agree on is small."""

from __future__ import annotations

import json
from typing import Any

from services.llm.chat.model import ChatEnd, FinishReason, Message, ModelToolCall
from services.llm.engines._thinking import SpokenText

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def written_messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """A conversation as the interface wants it."""
    written: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.role == "assistant" and message.tool_calls:
            entry["content"] = message.text or None
            entry["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if message.role == "tool":
            entry["tool_call_id"] = message.tool_call_id
        written.append(entry)
    return written


class _Fragments:
    """A tool call that comes in pieces."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments = ""


class ToolCallJoiner:
    """Joins the pieces of tool calls.

    A piece belongs to the call of its ``index``. A server that gives no index sends each call whole: a piece with
    another id or a name begins another call.
    """

    def __init__(self) -> None:
        self._calls: dict[int, _Fragments] = {}
        self._places: dict[int, int] = {}

    def feed(self, piece: Any) -> None:
        """One entry of a chunk's ``tool_calls``."""
        function = getattr(piece, "function", None)
        identifier, name = getattr(piece, "id", None) or "", getattr(function, "name", None) or ""
        call = self._calls.setdefault(self._index(piece, identifier, name), _Fragments())
        call.id = call.id or identifier
        call.name = call.name or name
        arguments = getattr(function, "arguments", None)
        call.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else ""

    def _index(self, piece: Any, identifier: str, name: str) -> int:
        index = getattr(piece, "index", None)
        last = max(self._calls, default=-1)
        if isinstance(index, int):
            current = self._calls.get(self._places.get(index, -1))
            # Some servers number every call 0: what follows without an id belongs to the latest of them.
            if current is None or (identifier and current.id and identifier != current.id and name):
                self._places[index] = index if index not in self._calls else last + 1
            return self._places[index]
        if last < 0 or name or (identifier and identifier != self._calls[last].id):
            return last + 1
        return last

    def finish(self) -> list[ModelToolCall]:
        """All calls, in order; those without an id get one."""
        return [
            ModelToolCall(call.id or f"call_{number}", call.name, call.arguments.strip() or "{}")
            for number, (_, call) in enumerate(sorted(self._calls.items()))
            if call.name
        ]


class Reply:
    """What a stream has said so far.

    Attributes:
        finished: whether the server said why it ended.
    """

    def __init__(self) -> None:
        self.finished = False
        self._spoken = SpokenText()
        self._calls = ToolCallJoiner()
        self._reason: FinishReason = "stop"
        self._prompt_tokens: int | None = None
        self._completion_tokens: int | None = None

    def feed(self, chunk: Any) -> str:
        """One chunk; the text of it that is to be spoken."""
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self._prompt_tokens = getattr(usage, "prompt_tokens", None)
            self._completion_tokens = getattr(usage, "completion_tokens", None)
        choices = getattr(chunk, "choices", None)
        if not choices:
            return ""
        choice = choices[0]
        if getattr(choice, "finish_reason", None):
            self.finished = True
            self._reason = _REASONS.get(choice.finish_reason, "stop")
        delta = getattr(choice, "delta", None)
        for piece in getattr(delta, "tool_calls", None) or ():
            self._calls.feed(piece)
        content = getattr(delta, "content", None)
        return self._spoken.feed(content) if isinstance(content, str) and content else ""

    def finish(self) -> tuple[str, list[ModelToolCall], ChatEnd]:
        """What is left: text that was held back, the tool calls, the end."""
        calls = self._calls.finish() if self._reason != "length" else []
        if calls and self._reason == "stop":
            self._reason = "tool_calls"
        return self._spoken.finish(), calls, ChatEnd(self._reason, self._prompt_tokens, self._completion_tokens)
