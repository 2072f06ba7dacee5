"""What the llm stage counts: seconds of answers and tools, and tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus.metrics.registry import REGISTRY
from services.llm.chat.engine import ChatEngine
from services.llm.chat.model import ChatEnd, ChatRequest, Delta
from services.llm.tools import Toolbox, ToolContext, ToolError, ToolSpec
from tests.services.llm.chat.model import FakeModel, agent_section, ask, says
from tests.services.llm.harness import World
from tests.services.llm.test_failover import virtual
from tests.services.llm.test_failover_call import call_with
from tests.services.llm.thinkers import Thinker

pytestmark = pytest.mark.unit


class Card(msgspec.Struct):
    card: str


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"callbus_{name}", labels) or 0.0


def look_up(arguments: Card, context: ToolContext) -> dict[str, Any]:
    if arguments.card == "0":
        raise ToolError("there is no such card")
    return {"status": "sent"}


@pytest.mark.parametrize(
    ("arguments", "result"),
    [({"card": "4271"}, "ok"), ({"card": "0"}, "tool_failed"), ({"number": 1}, "invalid_argument")],
)
async def test_a_tool_is_timed_by_what_became_of_it(arguments: dict[str, Any], result: str) -> None:
    before = value("tool_seconds_count", result=result)
    toolbox = Toolbox([ToolSpec("status", "Status of a card", Card, look_up)])
    await toolbox.call("status", arguments, ToolContext("id", "call", "default"))
    assert value("tool_seconds_count", result=result) - before == 1


@virtual
async def test_an_answer_is_timed_by_the_engine_that_gave_it():
    before = [value("llm_seconds_count", engine=engine) for engine in ("first", "second")]
    one, two = Thinker("first"), Thinker("second")
    world: World = await call_with(one, two)
    one.always = [OSError("down")]
    await world.say(1, "where is my card")
    after = [value("llm_seconds_count", engine=engine) for engine in ("first", "second")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]


class CountingModel(FakeModel):
    """Says what it read and wrote, as most providers do."""

    name = "counting"

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        async for delta in super().stream(request):
            yield delta._replace(prompt_tokens=120, completion_tokens=8) if isinstance(delta, ChatEnd) else delta


async def test_tokens_are_counted_where_the_model_tells_them(tmp_path: Path) -> None:
    for model in (CountingModel(says("It was sent.")), FakeModel(says("It was sent."))):
        await ask(ChatEngine(model, agent_section(tmp_path)), 1, "where is my card")
    assert value("llm_tokens_total", engine="counting", direction="input") == 120
    assert value("llm_tokens_total", engine="counting", direction="output") == 8
    assert REGISTRY.get_sample_value("callbus_llm_tokens_total", {"engine": "fake", "direction": "input"}) is None
