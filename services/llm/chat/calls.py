"""Tools that a model asks for: what it is told of them, and what must hold before one runs. Pure.

A model makes things up. Nothing runs whose name, JSON or schema is wrong, and nothing runs on behalf of a customer whom
no tool of this call has verified (``ToolSpec.verified_arguments``), whatever the caller or the model claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from schemas.session import Speaker
from services.llm.agent_file import ModelSection
from services.llm.chat.model import ModelToolCall, ToolDescription
from services.llm.digits import digit_runs
from services.llm.engine import Request
from services.llm.matching import words_of
from services.llm.tools import ToolSpec, describe, unverified
from services.llm.verified import says_verified

END_CALL, TRANSFER_CALL = "end_call", "transfer_call"
NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class Sound(NamedTuple):
    """A call that may run, with its arguments as the tool's schema reads them."""

    spec: ToolSpec
    arguments: dict[str, Any]


class Wrong(NamedTuple):
    """A call that may not run; ``text`` tells the model why and what to do instead."""

    text: str


class Identity:
    """Who the caller is, as far as tools have said so in this call, and what digits the caller has told.

    Args:
        request: what is known before this answer.
        attempts: how often tools may say that the caller is nobody they know.
        language: of the caller: only English digits are known by their names, so in other languages those count that
            are written as digits, and where there are none nothing is held against the model.
    """

    def __init__(self, request: Request, attempts: int, language: str) -> None:
        self.data = dict(request.customer_data)
        self._failed = request.failed_verifications
        self._attempts = attempts
        self._request = request
        self._english = language.partition("-")[0].lower() == "en"

    @property
    def exhausted(self) -> bool:
        """Whether no further verification is tried."""
        return self._failed >= self._attempts

    def told(self, value: object) -> bool:
        """Whether the caller has said or keyed these digits, in one turn or in two that follow each other."""
        told = ["".join(digit_runs(words_of(text))) for text in self._texts()]
        pairs = (f"{before}{after}" for before, after in pairwise(["", *told]))
        return any(str(value) in digits for digits in pairs) or not (self._english or any(told))

    def _texts(self) -> Iterator[str]:
        yield from (exchange.text for exchange in self._request.history if exchange.speaker is Speaker.CALLER)
        yield f"{self._request.text} {self._request.digits}"

    def learn(self, result: Mapping[str, Any]) -> None:
        """What a tool that identifies has said."""
        if says_verified(result):
            self.data |= {key: value for key, value in result.items() if key != "verified"}
        else:
            self._failed += 1


def offered(specs: Iterable[ToolSpec], model: ModelSection) -> tuple[ToolDescription, ...]:
    """All tools that a model is told of: those of the agent, and the two that end the conversation."""
    descriptions = [ToolDescription(**describe(spec)) for spec in specs]
    if model.hang_up:
        text = "End the call. Say goodbye in the same answer, before you use it."
        descriptions.append(ToolDescription(END_CALL, text, NOTHING))
    if model.transfer:
        text = "Hand the caller over to a colleague. Tell the caller in the same answer, before you use it."
        descriptions.append(ToolDescription(TRANSFER_CALL, text, NOTHING))
    return tuple(descriptions)


def check(call: ModelToolCall, specs: Mapping[str, ToolSpec], identity: Identity) -> Sound | Wrong:
    """Whether a call may run."""
    spec = specs.get(call.name)
    if spec is None:
        return Wrong(f"There is no tool of this name. There are: {', '.join(specs) or 'none'}.")
    try:
        arguments = msgspec.json.decode(call.arguments.strip() or "{}", type=dict[str, Any])
        checked = msgspec.convert(arguments, spec.arguments)
    except msgspec.ValidationError as error:
        return Wrong(f"The arguments do not fit: {error}.")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Wrong("The arguments are no JSON object.")
    arguments = msgspec.to_builtins(checked)
    if name := unverified(spec, arguments, identity.data):
        return Wrong(f"{name} is not verified in this call. Verify the caller first; never guess it.")
    if name := next(
        (name for name in spec.told_digits if name in arguments and not identity.told(arguments[name])), ""
    ):
        return Wrong(f"The caller has not told {name}. Ask the caller for it; never guess it.")
    if spec.identifies and identity.exhausted:
        return Wrong("Too many verifications have failed in this call. Tell the caller that you can not verify them.")
    return Sound(spec, arguments)


def rewritable(call: ModelToolCall) -> ModelToolCall:
    """A call as it can stand in the next request: many servers refuse arguments that are no JSON object."""
    try:
        msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return call._replace(arguments="{}")
    return call
