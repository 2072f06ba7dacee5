"""A turn that interrupts the agent and ends in the same moment (a key): it is answered knowing what was heard."""

from __future__ import annotations

import pytest

from schemas.llm import LlmSentence
from schemas.playout import PlayoutFlushed, PlayoutStarted
from schemas.turn import TurnInterrupted
from services.llm.engine import Request
from tests.fakes.virtual import run_virtual
from tests.services.llm.engines import TimedEngine
from tests.services.llm.harness import World

pytestmark = pytest.mark.unit


async def cut_in(world: World) -> TimedEngine:
    """The caller presses a key into the greeting; the edge's word for where that was is still on its way."""
    engine = TimedEngine((0, "Answer {turn}."))
    await world.begin()
    await world.work(engine)
    await world.answer()
    world.synthesise(0, 0, "Welcome to the bank.")
    world.recorder.record(PlayoutStarted(**world.base(), utterance_id=0, media_time_ms=0))
    await world.rest()
    world.recorder.record(TurnInterrupted(**world.base(), turn=1, utterance_id=0, why="dtmf"))
    world.end_turn(1, "", why="dtmf", digits="1")
    return engine


def flushed(world: World) -> None:
    world.recorder.record(
        PlayoutFlushed(**world.base(), utterance_id=0, media_time_ms=0, index=0, sent_ms=250, dropped_ms=150)
    )


def told(request: Request) -> list[tuple[str, bool]]:
    return [(line.text, line.interrupted) for line in request.history]


def answered_after_ms(world: World, since_us: int) -> int:
    (said,) = [sentence for sentence in world.of(LlmSentence) if sentence.turn == 1]
    return round((said.at_us - since_us) / 1000)


def test_the_engine_is_told_what_was_heard_and_that_it_was_cut() -> None:
    async def scenario() -> None:
        world = World(plays=False)
        engine = await cut_in(world)
        since_us = world.clock.now_us()
        await world.rest(5)
        assert len(engine.requests) == 1
        flushed(world)
        await world.rest()
        assert told(engine.requests[1]) == [("Welcome to", True)]
        assert answered_after_ms(world, since_us) == pytest.approx(5, abs=2)
        assert world.done(1).queue_wait_ms == pytest.approx(5, abs=2)

    run_virtual(scenario())


def test_an_edge_that_does_not_tell_is_not_waited_for() -> None:
    async def scenario() -> None:
        world = World(plays=False)
        engine = await cut_in(world)
        since_us = world.clock.now_us()
        await world.rest()
        assert told(engine.requests[1]) == []
        assert answered_after_ms(world, since_us) == pytest.approx(100, abs=2)
        # Nor is it for any later turn.
        world.end_turn(2, "hello")
        await world.rest(5)
        assert len(engine.requests) == 3

    run_virtual(scenario())


def test_the_call_may_end_meanwhile() -> None:
    async def scenario() -> None:
        world = World(plays=False)
        engine = await cut_in(world)
        await world.rest(5)
        await world.hang_up()
        assert len(engine.requests) == 1

    run_virtual(scenario())
