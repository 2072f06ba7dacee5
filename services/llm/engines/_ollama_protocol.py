"""What Ollama's interface says and wants to hear (docs/api.md of the Ollama project)."""

from __future__ import annotations

import json
from typing import Any

from services.llm.chat.model import ChatEnd, FinishReason, Message, ModelToolCall
from services.llm.engine import EngineError
from services.llm.engines._thinking import SpokenText


def written_messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """A conversation as Ollama wants it: arguments are objects, and a tool's answer names the tool."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    written: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.tool_calls:
            entry["tool_calls"] = [
                {"function": {"name": call.name, "arguments": _object(call.arguments)}} for call in message.tool_calls
            ]
        if message.role == "tool":
            entry["tool_name"] = names.get(message.tool_call_id, "")
        written.append(entry)
    return written


def written_keep_alive(keep_alive: str) -> str | int:
    """``-1`` and other bare numbers are seconds to Ollama only as numbers; ``30m`` is a text."""
    try:
        return int(keep_alive)
    except ValueError:
        return keep_alive


def full_name(model: str) -> str:
    """The name under which Ollama lists a model: one without a tag is ``:latest``."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def read_line(line: bytes, place: str) -> dict[str, Any]:
    """One line of an answer.

    Raises:
        EngineError: it is no JSON object.
    """
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise EngineError(f"[ollama] {place} sent what is no answer of Ollama's; is [ollama] url right?")
    return entry


def status_error(place: str, status: int, model: str) -> EngineError:
    """An answer that is an error. Its text is not repeated: it may quote the caller."""
    if status == 404:
        return missing_error(place, model)
    help_text = {
        400: "it refuses the request; see whether [ollama] model can chat and use tools",
        401: "it wants an account",
        403: "it wants an account",
        429: "too many requests at once; OLLAMA_MAX_QUEUE there, or [llm] fallbacks",
        503: "it is overloaded; OLLAMA_NUM_PARALLEL there, or [llm] fallbacks",
    }.get(status, "it is out of order; its log says why" if status >= 500 else "is [ollama] url that of Ollama?")
    return EngineError(f"[ollama] {place} answered {status}: {help_text}")


def missing_error(place: str, model: str) -> EngineError:
    """The server lacks the model."""
    return EngineError(
        f"[ollama] {place} has no model {model!r}: ollama pull {model}, or CALLBUS_OLLAMA__PULL=true to have it fetched"
    )


class Reply:
    """What a stream has said so far.

    Attributes:
        finished: whether the server said that it is done.
    """

    def __init__(self) -> None:
        self.finished = False
        self._spoken = SpokenText()
        self._calls: list[ModelToolCall] = []
        self._end = ChatEnd("stop")

    def feed(self, entry: dict[str, Any]) -> str:
        """One line; the text of it that is to be spoken. ``thinking`` is not."""
        message = entry.get("message")
        text = ""
        if isinstance(message, dict):
            for call in message.get("tool_calls") or ():
                self._add(call)
            content = message.get("content")
            text = self._spoken.feed(content) if isinstance(content, str) and content else ""
        if entry.get("done"):
            self.finished = True
            reason: FinishReason = "length" if entry.get("done_reason") == "length" else "stop"
            self._end = ChatEnd(reason, _count(entry, "prompt_eval_count"), _count(entry, "eval_count"))
        return text

    def _add(self, call: Any) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str) and name and isinstance(function, dict):
            arguments = function.get("arguments")
            text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
            identifier = call.get("id")
            self._calls.append(ModelToolCall(identifier or f"call_{len(self._calls)}", name, text))

    def finish(self) -> tuple[str, list[ModelToolCall], ChatEnd]:
        """What is left: text that was held back, the tool calls, the end."""
        end = self._end._replace(reason="tool_calls") if self._calls else self._end
        return self._spoken.finish(), self._calls, end


def _object(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _count(entry: dict[str, Any], key: str) -> int | None:
    value = entry.get(key)
    return value if isinstance(value, int) else None
