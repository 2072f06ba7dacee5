"""A call whose engines fail: what the agent says, and what is told of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from bus import metrics
from schemas.failure import Failure
from schemas.llm import LlmDone, ToolCalled
from services.llm.engine import ToolCall
from services.llm.tools import ToolContext, ToolSpec
from services.resilience.attempts import TAKEOVER_HEARD
from services.text.courtesies import courtesies
from tests.fakes.virtual import run_virtual
from tests.services.llm.engines import BrokenEngine
from tests.services.llm.harness import World, settings_with
from tests.services.llm.test_failover import virtual
from tests.services.llm.thinkers import HANG, Thinker, panel

APOLOGY = courtesies("en").wrong

pytestmark = pytest.mark.unit


class Card(msgspec.Struct):
    card: str


def counted_tool() -> tuple[ToolSpec, list[str]]:
    """A tool, and the idempotency keys that it ran with."""
    ran: list[str] = []

    def status(arguments: Card, context: ToolContext) -> dict[str, Any]:
        ran.append(context.tool_call_id)
        return {"number": len(ran)}

    return ToolSpec("status", "Status of a card", Card, status), ran


async def call_with(*engines: Thinker, world: World | None = None, **llm: Any) -> World:
    world = world or World()
    await world.begin()
    await world.work(panel(*engines, **llm), settings=settings_with(**llm))
    await world.answer()
    return world


def told(world: World) -> list[tuple[str, str, str]]:
    return [(event.code, event.caller_hears, event.detail) for event in world.of(Failure)]


@virtual
async def test_an_engine_that_dies_in_mid_answer_is_not_noticed():
    spec, ran = counted_tool()
    first, second = Thinker("a", tools=(spec,)), Thinker("b", tools=(spec,))
    call = ToolCall("x", "status", {"card": "4271"})
    world = await call_with(first, second)
    assert world.answer_to(0) == ["a one.", "a two."]
    first.scripts = [["Let me see.", call, OSError("secret words")]]
    second.always = [call, "It was sent.", None]
    assert await world.say(1, "where is my card") == ["Let me see.", "It was sent."]
    assert told(world) == [("engine_failed", TAKEOVER_HEARD, "engine a: OSError; b took over")]
    assert (len(ran), len(world.of(ToolCalled))) == (1, 1), "the tool ran once"
    assert [world.done(turn).engine for turn in (0, 1)] == ["a", "b"]
    assert world.done(1).sentences == 2
    assert "secret" not in str(world.events)
    assert await world.say(2, "thank you") == ["a one.", "a two."], "the first one is asked again"


@virtual
async def test_when_all_are_down_there_is_the_apology_and_one_failure_that_says_so():
    first, second = Thinker("a"), Thinker("b")
    world = await call_with(first, second)
    first.always, second.always = [OSError("x")], [HANG]
    await world.say(1, "hello")
    await world.rest(10_100)
    assert world.answer_to(1)[-2:] == list(APOLOGY), "after the fillers"
    assert told(world) == [("stage_down", "an apology", "a: OSError; b: nothing for 2000 ms")]
    first.always = None
    assert await world.say(2, "hello") == ["a one.", "a two."], "the call goes on"


@virtual
async def test_when_all_fail_at_once_the_apology_comes_at_once():
    first, second = Thinker("a"), Thinker("b")
    world = await call_with(first, second)
    first.always = second.always = [OSError("x")]
    assert await world.say(1, "hello") == list(APOLOGY)
    assert [code for code, *_ in told(world)] == ["stage_down"]


@virtual
async def test_a_guess_goes_over_to_the_next_engine_and_its_failure_is_told_once_it_is_true():
    first, second = Thinker("a"), Thinker("b")
    world = await call_with(first, second)
    first.always = [OSError("x")]
    await world.stand_still(1, "where is my card")
    assert (len(first.requests), len(second.requests)) == (3, 1)
    assert told(world) == []
    assert await world.say(1, "where is my card") == ["b one.", "b two."]
    assert (world.done(1).preemptive, world.done(1).engine) == ("hit", "b")
    assert [code for code, *_ in told(world)] == ["engine_failed"]


@virtual
async def test_a_guess_that_asks_for_a_tool_waits_and_may_still_be_taken_over():
    spec, ran = counted_tool()
    first, second = Thinker("a", tools=(spec,)), Thinker("b", tools=(spec,))
    world = await call_with(first, second)
    call = ToolCall("x", "status", {"card": "4271"})
    first.scripts = [["Let me see.", call, OSError("x")]]
    second.always = [call, "It was sent.", None]
    await world.stand_still(1, "where is my card", rest_ms=3000)
    assert ran == []
    assert await world.say(1, "where is my card") == ["Let me see.", "It was sent."]
    assert len(ran) == 1
    assert world.done(1).preemptive == "hit"


@virtual
async def test_a_guess_that_is_dropped_tells_nothing_and_stops_everybody():
    first, second = Thinker("a"), Thinker("b")
    world = await call_with(first, second, hedge_ms=50)
    first.always = [HANG]
    second.always = [0.1, "b.", None]
    await world.stand_still(1, "where is my", rest_ms=80)
    await world.stand_still(1, "where is my card", number=1, rest_ms=80)
    assert first.cancelled >= 1 and second.cancelled >= 1
    assert await world.say(1, "no thank you") == ["b."]
    assert told(world) == []
    await world.hang_up()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("engine-")]


@virtual
async def test_an_interruption_stops_all_of_them():
    first, second = Thinker("a"), Thinker("b")
    world = await call_with(first, second, hedge_ms=100)
    first.always, second.always = ["One.", HANG], [HANG]
    await world.say(1, "hello")
    await world.interrupt(1, 0, 20)
    assert first.cancelled == 1
    assert await world.say(2, "hello") == ["One."]
    assert told(world) == []


@virtual
async def test_a_successor_goes_on_where_a_dead_worker_and_its_engine_stopped():
    world = World()
    await world.begin()
    first = Thinker("a")
    dying = await world.work(panel(first, Thinker("b")), name="llm-1")
    await world.answer()
    first.scripts = [["One.", HANG]]
    await world.say(1, "hello")
    await world.kill(dying)
    primary, fallback = Thinker("a", ["Two.", OSError("x")]), Thinker("b", ["Three.", None])
    await world.work(panel(primary, fallback), epoch=2)
    await world.rest(500)
    assert world.answer_to(1) == ["One.", "Two.", "Three."]
    (ended,) = [event for event in world.of(LlmDone) if event.utterance_id == 100]
    assert (ended.sentences, ended.engine) == (3, "b")


@pytest.mark.parametrize(("where", "why"), [("first", "failed"), ("silent", "timeout")])
def test_errors_of_an_engine_that_is_alone_are_counted_too(where: str, why: str) -> None:
    async def scenario() -> None:
        labels = {"stage": "llm", "engine": "fake", "why": why}
        before = metrics.REGISTRY.get_sample_value("callbus_engine_errors_total", labels) or 0
        world = World()
        await world.begin()
        await world.work(BrokenEngine(where), settings=settings_with(deadline_ms=1000))
        await world.answer()
        await world.say(1, "bad turn")
        await world.rest(1100)
        assert metrics.REGISTRY.get_sample_value("callbus_engine_errors_total", labels) == before + 1
        assert world.of(Failure)[-1].code != "stage_down"

    run_virtual(scenario())
