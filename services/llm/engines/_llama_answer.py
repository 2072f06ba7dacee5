"""One answer of a local model, made on a slot's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from services.llm.chat.model import ChatEnd, Delta, FinishReason, ModelToolCall, Token, ToolDescription
from services.llm.engine import EngineError
from services.llm.engines._llama_grammar import tool_grammar
from services.llm.engines._llama_library import Choice, Context, Weights
from services.llm.engines._llama_prompt import ToolFormat
from services.llm.engines._llama_reply import ReplyText, whole_calls


class Task(NamedTuple):
    """What is wanted.

    Attributes:
        prompt: tokens to continue.
        first_call: number of the answer's first tool call, for its id.
        thinking: whether the prompt has opened the model's thinking.
    """

    prompt: Sequence[int]
    tools: Sequence[ToolDescription]
    max_tokens: int
    temperature: float
    seed: int
    format: ToolFormat
    stops: Sequence[str] = ()
    first_call: int = 0
    thinking: bool = False


class StoppedError(Exception):
    """Nobody wants the answer any more."""


class Answer:
    """Makes an answer and gives each part of it to ``give``. Blocks; ``Context.stop`` ends it at once."""

    def __init__(
        self, weights: Weights, numpy: Any, context: Context, task: Task, give: Callable[[Delta], None]
    ) -> None:
        self._weights, self._context, self._task, self._give = weights, context, task, give
        self._choice = Choice(weights, numpy, temperature=task.temperature, seed=task.seed)
        self._made = 0

    def run(self) -> None:
        """All of it.

        Raises:
            StoppedError: it was stopped.
            EngineError: llama.cpp fails.
        """
        try:
            if not self._context.read(self._task.prompt):
                raise StoppedError
            reason = self._speak()
            self._give(ChatEnd(reason, len(self._task.prompt), self._made))
        finally:
            self._choice.close()

    def _speak(self) -> FinishReason:
        """Plain text, until it ends. A tool call in it is continued as one."""
        task = self._task
        marks = task.format.marks if task.tools else ()
        reply = ReplyText(marks, task.stops, [tool.name for tool in task.tools], thinking=task.thinking)
        for _ in range(self._room()):
            token = self._choice.next(self._context)
            if self._weights.ends(token):
                piece = reply.finish()
            else:
                self._made += 1
                piece = reply.feed(self._weights.piece_of(token))
            if piece.text:
                self._give(Token(piece.text))
            if piece.call_at is not None:
                return self._call(piece.call_at, reply.named)
            if piece.stopped:
                return "stop"
            if not self._context.add(token):
                raise StoppedError
        if rest := reply.finish().text:
            self._give(Token(rest))
        return "length"

    def _room(self) -> int:
        left: int = self._context.size - len(self._context.tokens)
        return max(0, min(self._task.max_tokens, left))

    def _call(self, kept: int, named: str) -> FinishReason:
        """Go back to where the call begins and have it written under a grammar.

        Args:
            kept: tokens of the answer before the call.
            named: the tool, where the answer is nothing but its name.
        """
        task = self._task
        tools = [tool for tool in task.tools if tool.name == named] or task.tools
        if named and not tools[0].parameters.get("required"):
            calls = [(named, "{}")]
        else:
            said = self._context.tokens[len(task.prompt) :][:kept]
            if not self._context.read([*task.prompt, *said]):
                raise StoppedError
            calls = whole_calls(self._written(tools), task.format.key)
        for number, (name, arguments) in enumerate(calls):
            self._give(ModelToolCall(f"call_{task.first_call + number}", name, arguments))
        return "tool_calls" if calls else "length"

    def _written(self, tools: Sequence[ToolDescription]) -> str:
        """What the model writes under the grammar."""
        grammar = self._grammar(tools)
        text = b""
        try:
            for _ in range(self._room()):
                token = self._choice.next_within(self._context, grammar)
                if token is None:
                    break
                self._made += 1
                text += self._weights.piece_of(token)
                if self._task.format.most_calls == 1 and text.endswith(b"}") and self._whole(text):
                    break
                if not self._context.add(token):
                    raise StoppedError
        finally:
            self._weights.free_sampler(grammar)
        return text.decode("utf-8", errors="replace")

    def _whole(self, text: bytes) -> bool:
        return bool(whole_calls(text.decode("utf-8", errors="replace"), self._task.format.key))

    def _grammar(self, tools: Sequence[ToolDescription]) -> Any:
        form = self._task.format
        # Where llama.cpp makes nothing of a schema, any object does: arguments are checked before a tool runs.
        for known in (tools, [tool._replace(parameters={"type": "object"}) for tool in tools]):
            text = tool_grammar(known, key=form.key, before=form.before, after=form.after, most_calls=form.most_calls)
            if (grammar := self._weights.grammar(text)) is not None:
                return grammar
        raise EngineError("llama.cpp can't read the grammar of the agent's tools")
