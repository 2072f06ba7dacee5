"""A language model of a provider, as a few rules: it talks to callers of the agent "short_bank" and uses its tools.

It remembers nothing: what it says follows from the messages of a request alone, as with a model. So it may be asked in
advance, again, and for many calls at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiohttp import web

from tests.fakes import ollama_server, openai_server

MODEL = "bank"
_CALLER = re.compile(r"<caller>(.*?)</caller>", re.DOTALL)
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGITS = {word: str(digit) for digit, word in enumerate(_NAMES)}


class Use(NamedTuple):
    """A tool to use."""

    name: str
    arguments: dict[str, str]


def answer(messages: Sequence[dict[str, Any]]) -> str | Use:
    """What the model says to a conversation, or the tool that it uses."""
    last = messages[-1]
    said = [text for message in messages for text in _said(message)]
    if last["role"] == "tool":
        return _told(json.loads(last["content"]), said)
    latest = said[-1] if said else ""
    if number := _digits(latest):
        return Use("verify_customer", {"card_last_four": number})
    if "card" in latest:
        return "Please tell me the last four digits of your card."
    return "I did not catch that."


def _told(result: dict[str, Any], said: Sequence[str]) -> str | Use:
    """What follows from what a tool has told."""
    if result.get("verified"):
        number = next(number for text in reversed(said) if (number := _digits(text)))
        return Use("card_status", {"customer_id": result["customer_id"], "card_last_four": number})
    if result.get("status") == "shipped":
        tail = " ".join(result["tracking_tail"])
        return f"Your {result['kind']} was shipped on {result['shipped_weekday']}. The tracking number ends in {tail}."
    return "I could not find that card."


def _said(message: dict[str, Any]) -> list[str]:
    return _CALLER.findall(message["content"] or "") if message["role"] == "user" else []


def _digits(text: str) -> str:
    """Four digits, spoken or written; empty: there are none."""
    found = "".join(_DIGITS.get(word, word if word.isdigit() else "") for word in text.lower().split())
    return found if len(found) == 4 else ""


def tokens_of(text: str) -> list[str]:
    """Pieces in which a model says it: words, each with the space behind it."""
    return re.findall(r"\S+\s*", text)


class BankOpenai(openai_server.OpenaiServer):
    """The model behind a server of chat completions."""

    def __init__(self) -> None:
        super().__init__(models=[MODEL])

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        wanted = answer(self.requests[-1].body["messages"])
        if isinstance(wanted, Use):
            call = openai_server.call_piece(0, "call-1", wanted.name, json.dumps(wanted.arguments))
            self.replies = [openai_server.Reply([call], reason="tool_calls")]
        else:
            self.replies = [openai_server.Reply([*tokens_of(wanted)])]
        return await super()._complete(request)


class BankOllama(ollama_server.OllamaServer):
    """The model behind an Ollama server."""

    def __init__(self) -> None:
        super().__init__(models=(f"{MODEL}:latest",))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        wanted = answer(self.requests[-1].body["messages"])
        if isinstance(wanted, Use):
            call = {"tool_calls": [{"function": {"name": wanted.name, "arguments": wanted.arguments}}]}
            self.replies = [ollama_server.Reply([call])]
        else:
            self.replies = [ollama_server.Reply([*tokens_of(wanted)])]
        return await super()._chat(request)
