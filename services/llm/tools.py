"""Tools: what an agent can look up or do, checked before it runs, with a deadline, and done once however often asked.

The id of a tool call is its idempotency key: a tool that changes something stores the key with the change and answers
a repetition with the first result. Blocking tools run on threads, never on the event loop.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import msgspec

from bus.clock import Clock, SystemClock
from bus.metrics.engines import OK, TOOL_SECONDS
from config.settings import LlmSection
from schemas.failure import FAILURES
from services.llm.deadline import Deadline

DEFAULT_DEADLINE_MS = 5000
"""Deadline of one tool: the timeout of a bank's interface in requirements.md."""


_MADE_UP = re.compile(r"(Invalid enum value|unknown field) (?:'.*'|\".*\"|`.*`)(?= - at |\Z)", re.DOTALL)
"""What msgspec quotes of arguments that do not fit: names and values of whoever made them up."""


class ToolError(Exception):
    """A tool that can't do what it was asked; ``code`` is a key of the failure table. Never holds caller content."""

    def __init__(self, text: str, code: str = "tool_failed") -> None:
        super().__init__(text)
        self.code = code


class ToolContext(NamedTuple):
    """On whose behalf a tool runs. ``tool_call_id``: the idempotency key, the same for a successor's repetition."""

    tool_call_id: str
    call_id: str
    tenant: str


class ToolSpec(NamedTuple):
    """A tool: ``arguments`` is the msgspec struct that its arguments must fit; ``function`` may block.

    ``identifies``: its result says who the caller is (``verified`` and customer data) and is kept in the context.
    ``verified_arguments``: arguments that say on whose behalf it runs. It only runs where each has the value that the
    field of the same name had in the result of a tool that identifies, in this call (:func:`unverified`).
    ``told_digits``: arguments of digits that a model may only give where the caller has said or keyed them.
    """

    name: str
    description: str
    arguments: type[msgspec.Struct]
    function: Callable[[Any, ToolContext], dict[str, Any]]
    identifies: bool = False
    verified_arguments: tuple[str, ...] = ()
    told_digits: tuple[str, ...] = ()


class ToolOutcome(NamedTuple):
    """What became of a tool call. ``detail`` is for the log: the kind of error, no content."""

    result: dict[str, Any]
    error: str = ""
    detail: str = ""
    duration_ms: float = 0.0


class Toolbox:
    """The tools of an agent.

    Attributes:
        specs: name -> tool.
    """

    def __init__(
        self,
        specs: Sequence[ToolSpec],
        *,
        executor: Executor | None = None,
        deadline_ms: int = DEFAULT_DEADLINE_MS,
        clock: Clock | None = None,
    ) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self._executor = executor
        self._clock: Clock = clock or SystemClock()
        self._deadline_ms = deadline_ms

    @property
    def identifying(self) -> frozenset[str]:
        """Names of the tools whose result says who the caller is."""
        return frozenset(spec.name for spec in self.specs.values() if spec.identifies)

    async def call(self, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        """Check the arguments and run the tool. Never raises: every failure is an outcome with an error code."""
        started_us = self._clock.now_us()
        outcome = await self._call(name, arguments, context)
        duration_ms = max(0, self._clock.now_us() - started_us) / 1000
        TOOL_SECONDS.observe(duration_ms / 1000, result=outcome.error or OK)
        return outcome._replace(duration_ms=duration_ms)

    async def _call(self, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        spec = self.specs.get(name)
        if spec is None:
            known = ", ".join(sorted(self.specs)) or "none"
            return ToolOutcome({}, "invalid_argument", f"there is no tool of the name asked for; there are: {known}")
        try:
            checked = msgspec.convert(arguments, spec.arguments)
        except msgspec.ValidationError as error:
            told = _MADE_UP.sub(lambda match: match[1] or "", str(error))
            return ToolOutcome({}, "invalid_argument", f"tool {name!r}: {told}")
        work = asyncio.get_running_loop().run_in_executor(self._executor, spec.function, checked, context)
        try:
            async with Deadline(self._clock, self._deadline_ms):
                result = await work
            # What can't be written would break every later word of the call: the record, the context, the next request.
            return ToolOutcome(msgspec.convert(msgspec.to_builtins(result), dict[str, Any]))
        except ToolError as error:
            code = error.code if error.code in FAILURES else "tool_failed"
            return ToolOutcome({}, code, f"tool {name!r}: {error}")
        except TimeoutError:
            return ToolOutcome({}, "tool_failed", f"tool {name!r} gave no answer within {self._deadline_ms} ms")
        except Exception as error:
            # A tool is somebody else's code: whatever it raises becomes an outcome, recorded and apologised for.
            return ToolOutcome({}, "tool_failed", f"tool {name!r} raised {type(error).__name__}")


def unverified(spec: ToolSpec, arguments: Mapping[str, Any], customer_data: Mapping[str, Any]) -> str:
    """The argument that is of nobody who was verified in this call; empty: there is none.

    ``customer_data``: what tools that identify have said in this call.
    """
    for name in spec.verified_arguments:
        if name in arguments and (not customer_data.get(name) or arguments[name] != customer_data[name]):
            return name
    return ""


def describe(spec: ToolSpec) -> dict[str, Any]:
    """A tool as models are told of it: name, description, and the JSON Schema of its arguments."""
    schema = msgspec.json.schema(spec.arguments)
    reference = schema.get("$ref", "").rsplit("/", 1)[-1]
    parameters = schema.get("$defs", {}).get(reference, schema)
    return {"name": spec.name, "description": spec.description, "parameters": parameters}


def load_tools(reference: str, settings: LlmSection) -> list[ToolSpec]:
    """The tools that ``module:function`` makes when it is called with ``settings``; none for an empty reference.

    Raises:
        ToolError: there is no such module or function.
    """
    if not reference:
        return []
    module_name, _, function_name = reference.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ToolError(f"tools {reference!r} can't be loaded; it must be module:function ({error})") from error
    return list(factory(settings))
