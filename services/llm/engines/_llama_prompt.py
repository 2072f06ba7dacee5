"""From messages to the text that a local model continues: its chat template, and what it is told of tools. Pure.

A template that knows tools and marks a call as ``<tool_call>`` (Qwen, Hermes and their kin) is given the tools as it
wants them. Any other model is told of them in the system message and asked for ``{"tool": ..., "arguments": ...}``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.llm.chat.model import Message, ModelToolCall, ToolDescription
from services.llm.engine import EngineError

DEFAULT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)
"""ChatML, for a model that brings no template."""
DEFAULT_STOPS = ("<|im_end|>", "<|im_start|>")
"""Where an answer in that template ends: to such a model these are words like others."""

TOOL_CALL_MARK = "<tool_call>"


class ToolFormat(NamedTuple):
    """How a model writes that it wants a tool.

    Attributes:
        key: what holds the tool's name.
        before, after: what stands around a call.
        marks: what a call begins with; a reply in which one of these appears is continued as a call.
        most_calls: calls that may follow each other.
    """

    key: str
    before: str
    after: str
    marks: tuple[str, ...]
    most_calls: int


MARKED = ToolFormat("name", "<tool_call>\n", "\n</tool_call>", (TOOL_CALL_MARK, "{", "```"), 4)
PLAIN = ToolFormat("tool", "", "", ("{", "```", TOOL_CALL_MARK), 1)


class ChatTemplate:
    """A model's template.

    Args:
        jinja2: the package.
        source: the template; empty: :data:`DEFAULT_TEMPLATE`.
        place: where it comes from, for error texts.

    Raises:
        EngineError: it is no template.
    """

    def __init__(self, jinja2: Any, source: str, *, bos: str, eos: str, place: str) -> None:
        self._jinja2, self._place = jinja2, place
        sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(jinja2), "jinja2.ext.loopcontrols"]
        )
        sandbox.filters["tojson"] = _tojson
        sandbox.globals.update(
            raise_exception=self._raise, strftime_now=_now, bos_token=bos, eos_token=eos, enable_thinking=False
        )
        try:
            self._template = sandbox.from_string(source or DEFAULT_TEMPLATE)
        except jinja2.TemplateError as error:
            raise EngineError(f"the chat template of {place} is broken: {error}") from error
        self.stops = () if source else DEFAULT_STOPS
        self.format = MARKED if TOOL_CALL_MARK in source and "tools" in source else PLAIN
        self._with_system = True

    def render(self, messages: Sequence[Message], tools: Sequence[ToolDescription]) -> str:
        """The prompt. A template that refuses a system message gets it before the caller's first words.

        Raises:
            EngineError: the template fails on it.
        """
        written = _native(messages) if self.format is MARKED else _plain(messages, tools)
        told = [tool.as_function() for tool in tools] if tools and self.format is MARKED else None
        if self._with_system:
            try:
                return self._filled(written, told)
            except self._jinja2.TemplateError:
                if written[0]["role"] != "system":
                    raise self._failed() from None
        try:
            text = self._filled(_without_system(written), told)
        except self._jinja2.TemplateError:
            raise self._failed() from None
        self._with_system = False
        return text

    def _filled(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        text: str = self._template.render(messages=messages, tools=tools, add_generation_prompt=True)
        return text

    def _failed(self) -> EngineError:
        # What the template says may quote the conversation.
        return EngineError(
            f"the chat template of {self._place} fails on this conversation; [llama_cpp] chat_template may name another"
        )

    def _raise(self, text: str) -> None:
        raise self._jinja2.TemplateError(text)


def _native(messages: Sequence[Message]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.tool_calls:
            entry["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
                for call in message.tool_calls
            ]
        if message.role == "tool":
            entry["tool_call_id"] = message.tool_call_id
        written.append(entry)
    return written


def _plain(messages: Sequence[Message], tools: Sequence[ToolDescription]) -> list[dict[str, Any]]:
    """The conversation in the three roles that every template knows; two in a row of one role become one."""
    names: dict[str, str] = {}
    written: list[dict[str, Any]] = []
    for message in messages:
        role, text = message.role, message.text
        for call in message.tool_calls:
            names[call.id] = call.name
            asked = _tojson({PLAIN.key: call.name, "arguments": _arguments(call)})
            text = f"{text}\n{asked}" if text else asked
        if role == "tool":
            role, text = "user", f"Result of {names.get(message.tool_call_id, 'the tool')}: {text}"
        if written and written[-1]["role"] == role:
            written[-1]["content"] += f"\n{text}"
        else:
            written.append({"role": role, "content": text})
    if tools:
        if not written or written[0]["role"] != "system":
            written.insert(0, {"role": "system", "content": ""})
        written[0]["content"] = f"{written[0]['content']}\n\n{_instructions(tools)}".strip()
    return written


def _instructions(tools: Sequence[ToolDescription]) -> str:
    lines = [f"- {tool.name}: {tool.description} Arguments: {_tojson(tool.parameters)}" for tool in tools]
    return (
        "You have these tools:\n" + "\n".join(lines) + "\n"
        'To use a tool, write nothing but {"tool": NAME, "arguments": {...}}; you are then told its result. '
        "Otherwise answer in plain words."
    )


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not messages or messages[0]["role"] != "system":
        return messages
    system, rest = messages[0]["content"], messages[1:]
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": system}, *rest]


def _arguments(call: ModelToolCall) -> Any:
    try:
        return json.loads(call.arguments)
    except ValueError:
        return {}


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """As the transformers library does it: templates are written for that, not for Jinja's own, which escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _generation_tag(jinja2: Any) -> Any:
    """``{% generation %}``, which marks what a model was trained on and means nothing here."""

    class GenerationTag(jinja2.ext.Extension):  # type: ignore[misc]
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag
