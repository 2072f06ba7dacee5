"""Tools that a model asks for: what it is told of them, and what must hold before one runs. Pure.

A model makes things up. Nothing runs whose name, JSON or schema is wrong, and nothing runs on behalf of a customer whom
no tool of this call has verified (``ToolSpec.verified_arguments``), whatever the caller or the model claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from services.llm.agent_file import ModelSection
from services.llm.chat.model import ModelToolCall, ToolDescription
from services.llm.tools import ToolSpec, describe

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
    """Who the caller is, as far as tools have said so in this call.

    Args:
        data: what they said before this answer.
        failed: how often they said that the caller is nobody they know; ``attempts``: how often they may.
    """

    def __init__(self, data: Mapping[str, Any], failed: int, attempts: int) -> None:
        self.data = dict(data)
        self._failed = failed
        self._attempts = attempts

    @property
    def exhausted(self) -> bool:
        """Whether no further verification is tried."""
        return self._failed >= self._attempts

    def learn(self, result: Mapping[str, Any]) -> None:
        """What a tool that identifies has said."""
        if result.get("verified"):
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
    for name in spec.verified_arguments:
        if name in arguments and (not identity.data.get(name) or arguments[name] != identity.data[name]):
            return Wrong(f"{name} is not verified in this call. Verify the caller first; never guess it.")
    if spec.identifies and identity.exhausted:
        return Wrong("Too many verifications have failed in this call. Tell the caller that you can not verify them.")
    return Sound(spec, arguments)
