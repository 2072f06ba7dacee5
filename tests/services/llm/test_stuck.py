"""A turn that was stuck: the tts stage has apologised by itself, and the answer to that turn is void."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.llm import LlmDone, LlmSentence, NextStep, ToolCalled, ToolReturned, utterance_of
from schemas.tts import TtsDone
from services.llm.call import LlmCall
from services.llm.engine import ToolCall
from services.llm.tools import ToolOutcome
from tests.fakes.virtual import run_virtual
from tests.services.llm.engines import FakeEngine, TimedEngine
from tests.services.llm.harness import CALL_ID, World, hangups, settings_with

pytestmark = pytest.mark.unit

APOLOGY = "I am sorry. Please say that again."


async def begun(engine: FakeEngine | None, *, plays: bool = True) -> tuple[World, LlmCall]:
    world = World(plays=plays)
    await world.begin()
    call = await world.work(engine, settings=settings_with(filler_ms=0))
    await world.answer()
    return world, call


def test_a_late_answer_is_not_said_and_the_next_turn_is_answered() -> None:
    async def scenario() -> None:
        engine = TimedEngine((6000, "Answer {turn}."))
        world, _ = await begun(engine)
        world.end_turn(1, "hello")
        await world.rest(3000)
        await world.apologise(1)
        await world.rest(20_000)
        assert world.answer_to(1) == []
        assert engine.cancelled == 1
        assert (await world.history())[-2:] == ["caller: hello", f"agent: {APOLOGY}"]
        world.end_turn(2, "hello again")
        await world.rest(8000)
        assert world.answer_to(2) == ["Answer 2."]
        assert [line.text for line in engine.requests[-1].history][-2:] == ["hello", APOLOGY]

    run_virtual(scenario())


def test_the_rest_of_an_answer_that_was_too_late_is_not_said() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((2000, "First."), (2000, "Second.")), plays=False)
        world.end_turn(1, "hello")
        await world.rest(3000)
        # Its synthesis alone says that the apology is on its way.
        world.synthesise(utterance_of(1, 50), 0, APOLOGY)
        await world.rest(20_000)
        assert world.answer_to(1) == ["First."]
        assert [done.turn for done in world.of(LlmDone)] == [0]

    run_virtual(scenario())


def test_a_successor_does_not_answer_it() -> None:
    async def scenario() -> None:
        world, first = await begun(TimedEngine((6000, "Answer {turn}.")))
        world.end_turn(1, "hello")
        await world.rest()
        await world.kill(first)
        await world.apologise(1)
        successor = TimedEngine((0, "Answer {turn}."))
        await world.work(successor, epoch=2)
        await world.rest(2000)
        assert not successor.requests
        assert await world.say(2, "hello again") == ["Answer 2."]

    run_virtual(scenario())


def test_a_farewell_that_was_never_heard_hangs_up_no_more() -> None:
    async def scenario() -> None:
        world, _ = await begun(None, plays=False)
        await world.say(1, "goodbye")
        assert world.done(1).then is NextStep.HANG_UP
        await world.apologise(1)
        await world.rest(90_000)
        assert hangups(world.commands) == 0

    run_virtual(scenario())


def test_interrupted_before_a_word_left_the_turn_counts_as_answered() -> None:
    async def scenario() -> None:
        engine = TimedEngine((0, "Answer {turn}."), (5000, "More."))
        world, first = await begun(engine, plays=False)
        world.play(0, 1)
        world.end_turn(1, "hello")
        await world.rest(100)
        await world.interrupt(1, index=0, sent_ms=0)
        await world.rest(10_000)
        assert len(engine.requests) == 2
        assert await world.history() == ["agent: Welcome to the bank.", "caller: hello"]
        await world.kill(first)
        successor = TimedEngine((0, "Answer {turn}."))
        await world.work(successor, epoch=2)
        await world.rest(2000)
        assert not successor.requests
        assert await world.say(2, "hello again") == ["Answer 2."]
        assert [line.text for line in successor.requests[0].history] == ["Welcome to the bank.", "hello"]

    run_virtual(scenario())


def test_interrupted_while_a_tool_runs_leaves_a_whole_context() -> None:
    async def scenario() -> None:
        engine = TimedEngine((0, "Let me look."), (0, ToolCall("t", "look", {})), (0, "Seven."))
        world, call = await begun(engine, plays=False)
        world.play(0, 1)

        async def run(name: str, arguments: dict[str, Any], context: Any) -> ToolOutcome:
            await asyncio.sleep(3)
            return ToolOutcome({"balance": 7})

        call._place.toolbox.call = run  # type: ignore[method-assign]
        world.end_turn(1, "what is my balance")
        await world.rest(500)
        world.synthesise(100, 0, "Let me look.")
        await world.interrupt(1, index=0, sent_ms=220)
        world.end_turn(2, "no wait")
        await world.rest(10_000)
        # What was called has returned, once; of the answer nothing more was said.
        ids = [f"{CALL_ID}-{turn}-0" for turn in (1, 2)]
        assert [called.tool_call_id for called in await world.stored(ToolCalled)] == ids
        assert [returned.tool_call_id for returned in await world.stored(ToolReturned)] == ids
        assert world.answer_to(1) == ["Let me look."]
        assert [(line.text, line.interrupted) for line in engine.requests[-1].history] == [
            ("Welcome to the bank.", False),
            ("what is my balance", False),
            ("Let me", True),
        ]
        assert world.answer_to(2) == ["Let me look.", "Seven."]
        assert world.done(2).then is NextStep.LISTEN

    run_virtual(scenario())


def test_how_long_the_turns_end_was_on_its_way_and_waited() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((1000, "Answer {turn}.")))
        world.end_turn(1, "one", hop_ms=40)
        world.end_turn(2, "two", hop_ms=-5000)
        await world.rest(5000)
        first, second = world.done(1), world.done(2)
        assert (first.bus_hop_ms, first.queue_wait_ms) == (pytest.approx(40, abs=2), pytest.approx(0, abs=2))
        # A clock that is ahead makes no time negative; the second turn waited for the first one's answer.
        assert (second.bus_hop_ms, second.queue_wait_ms) == (0, pytest.approx(1000, abs=5))
        assert second.ttfs_ms == pytest.approx(2000, abs=5)
        assert (world.done(0).bus_hop_ms, world.done(0).preemptive) == (0, "")

    run_virtual(scenario())


def test_what_the_synthesis_said_instead_is_what_was_heard() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((0, "The balance is seven.")), plays=False)
        world.play(0, 1)
        await world.say(1, "hello")
        world.recorder.record(
            TtsDone(**world.base(), turn=1, utterance_id=100, index=0, frames=5, duration_ms=100, text="I am sorry.")
        )
        world.play(100, 1)
        assert [s.text for s in world.of(LlmSentence)][-1] == "The balance is seven."
        assert (await world.history())[-1] == "agent: I am sorry."

    run_virtual(scenario())
