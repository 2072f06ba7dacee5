"""What bridges a wait: when it is said and when not, and that it disturbs neither the answer nor a successor."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.llm import LlmSentence
from schemas.playout import PlayoutPaused
from schemas.vad import VadStarted, VadStopped
from services.llm.call import LlmCall
from services.llm.engine import ToolCall
from services.llm.manners import Manners, manners_of
from services.llm.tools import ToolOutcome
from tests.fakes.virtual import run_virtual
from tests.services.llm.engines import FakeEngine, SlowEngine, TimedEngine
from tests.services.llm.harness import START_US, World, settings_with

pytestmark = pytest.mark.unit

FIRST, SECOND = "Let me look that up.", "One moment, please."


async def begun(engine: FakeEngine, *, plays: bool = True, **llm: Any) -> tuple[World, LlmCall]:
    world = World(plays=plays, paced=plays)
    await world.begin()
    call = await world.work(engine, settings=settings_with(**llm))
    await world.answer()
    await world.rest(3000)
    return world, call


def timeline(world: World, since_us: int, turn: int = 1) -> list[tuple[int, int, str, bool]]:
    """(milliseconds since then, index, text, filler) of the answer's sentences."""
    return [
        (round((s.at_us - since_us) / 1000), s.index, s.text, s.filler) for s in world.of(LlmSentence) if s.turn == turn
    ]


async def slow_tool(call: LlmCall, milliseconds: int) -> None:
    async def run(name: str, arguments: dict[str, Any], context: Any) -> ToolOutcome:
        await asyncio.sleep(milliseconds / 1000)
        return ToolOutcome({"balance": 7})

    call._place.toolbox.call = run  # type: ignore[method-assign]


def test_a_late_first_sentence_is_bridged() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((2000, "It is shipped.")))
        asked_us = world.clock.now_us()
        world.end_turn(1, "where is my card", hop_ms=30)
        await world.rest(6000)
        assert timeline(world, asked_us) == [(1500, 0, FIRST, True), (2000, 1, "It is shipped.", False)]
        done = world.done(1)
        assert (done.sentences, done.ttfs_ms) == (2, pytest.approx(2000, abs=2))
        assert done.bus_hop_ms == pytest.approx(30, abs=2)
        # The caller heard it, and so it stands in the context.
        assert (await world.history())[-1] == f"agent: {FIRST} It is shipped."

    run_virtual(scenario())


def test_an_engine_is_not_told_of_fillers() -> None:
    async def scenario() -> None:
        engine = TimedEngine((2000, "It is shipped."))
        world, _ = await begun(engine)
        world.end_turn(1, "where is my card")
        await world.rest(6000)
        world.end_turn(2, "thank you")
        await world.rest(6000)
        assert [line.text for line in engine.requests[-1].history][-2:] == ["where is my card", "It is shipped."]

    run_virtual(scenario())


def test_not_more_than_two_and_in_turn() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((9000, "Answer.")), fillers="One. | Two. | Three.")
        asked_us = world.clock.now_us()
        world.end_turn(1, "hello")
        await world.rest(11_000)
        # A word takes 100 ms; the second silence begins at its end.
        assert timeline(world, asked_us) == [
            (1500, 0, "One.", True),
            (3100, 1, "Two.", True),
            (9000, 2, "Answer.", False),
        ]
        world.end_turn(2, "hello again")
        await world.rest(11_000)
        assert [text for _, _, text, _ in timeline(world, asked_us, 2)] == ["Three.", "One.", "Answer."]

    run_virtual(scenario())


def test_quick_answers_and_the_greeting_have_none() -> None:
    async def scenario() -> None:
        world = World(paced=True)
        await world.begin()
        await world.work(SlowEngine(sentences=3, pause_ms=1400))
        await world.answer()
        await world.rest(10_000)
        world.end_turn(1, "hello")
        await world.rest(10_000)
        assert not [s for s in world.of(LlmSentence) if s.filler]
        slow = World(paced=True)
        await slow.begin()
        await slow.work(SlowEngine(sentences=1, pause_ms=5000))
        await slow.answer()
        await slow.rest(10_000)
        assert [s.text for s in slow.of(LlmSentence)] == ["Sentence 0 of turn 0."]

    run_virtual(scenario())


@pytest.mark.parametrize("off", [{"filler_ms": 0}, {"fillers": " | "}])
def test_switched_off(off: dict[str, Any]) -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((8000, "Answer.")), **off)
        world.end_turn(1, "hello")
        await world.rest(10_000)
        assert world.answer_to(1) == ["Answer."]

    run_virtual(scenario())


def test_a_long_tool_is_bridged_after_what_was_said_is_heard() -> None:
    async def scenario() -> None:
        engine = TimedEngine((0, "I look that up for you now."), (0, ToolCall("t", "look", {})), (0, "Seven."))
        world, call = await begun(engine)
        await slow_tool(call, 4000)
        asked_us = world.clock.now_us()
        world.end_turn(1, "what is my balance")
        await world.rest(8000)
        # Seven words are 700 ms of speech; then the silence begins.
        assert timeline(world, asked_us) == [
            (0, 0, "I look that up for you now.", False),
            (2200, 1, FIRST, True),
            (4000, 2, "Seven.", False),
        ]
        assert world.done(1).ttfs_ms == pytest.approx(0, abs=2)

    run_virtual(scenario())


def test_tools_in_a_row_are_one_silence() -> None:
    async def scenario() -> None:
        engine = TimedEngine((0, ToolCall("a", "look", {"n": 1})), (0, ToolCall("b", "look", {"n": 2})), (0, "Seven."))
        world, call = await begun(engine)
        await slow_tool(call, 1000)
        asked_us = world.clock.now_us()
        world.end_turn(1, "what is my balance")
        await world.rest(8000)
        assert timeline(world, asked_us) == [(1500, 0, FIRST, True), (2000, 1, "Seven.", False)]

    run_virtual(scenario())


def test_nothing_is_bridged_while_something_waits_to_be_heard() -> None:
    async def scenario() -> None:
        engine = TimedEngine((0, "First."), (6000, "Second."))
        world, _ = await begun(engine, plays=False)
        world.end_turn(1, "hello")
        await world.rest()
        world.synthesise(100, 0, "First.")
        world.recorder.record(PlayoutPaused(**world.base(), utterance_id=100, media_time_ms=0))
        await world.rest(7000)
        assert world.answer_to(1) == ["First.", "Second."]

    run_virtual(scenario())


def test_nothing_is_said_into_the_callers_words() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((6000, "Answer.")))
        asked_us = world.clock.now_us()
        world.end_turn(1, "hello")
        await world.rest(1000)
        media_ms = (asked_us - START_US) // 1000
        world.recorder.record(VadStarted(**world.base(), media_time_ms=media_ms + 900, turn=2))
        await world.rest(1000)
        assert world.answer_to(1) == []
        world.recorder.record(VadStopped(**world.base(), media_time_ms=media_ms + 1800, turn=2))
        await world.rest(10_000)
        assert timeline(world, asked_us)[0] == (3500, 0, FIRST, True)

    run_virtual(scenario())


def test_an_interrupted_answer_is_bridged_no_more() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((0, "First."), (9000, "Second.")))
        world.end_turn(1, "hello")
        await world.rest(1000)
        await world.interrupt(1, index=0, sent_ms=50)
        await world.rest(9000)
        assert world.answer_to(1) == ["First."]

    run_virtual(scenario())


def test_an_apology_follows_a_filler() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((2000, RuntimeError("secret"))))
        world.end_turn(1, "hello")
        await world.rest(6000)
        assert world.answer_to(1) == [FIRST, "I am sorry, something went wrong.", "Please say that again."]
        assert world.done(1).sentences == 3

    run_virtual(scenario())


class TestSuccessors:
    async def taken_over(
        self, engine: FakeEngine, after_ms: int, successor: FakeEngine, rest_ms: int = 12_000
    ) -> World:
        world, first = await begun(engine)
        world.end_turn(1, "hello")
        await world.rest(after_ms)
        await world.kill(first)
        await world.work(successor, epoch=2)
        await world.rest(rest_ms)
        return world

    def check(self, world: World) -> None:
        sentences = [s for s in world.of(LlmSentence) if s.turn == 1]
        assert [s.index for s in sentences] == list(range(len(sentences)))
        assert world.done(1).sentences == len(sentences)

    def test_after_a_filler(self) -> None:
        async def scenario() -> None:
            successor = TimedEngine((0, "First."), (0, "Second."))
            world = await self.taken_over(TimedEngine((3000, "First."), (0, "Second.")), 2000, successor)
            assert world.answer_to(1) == [FIRST, "First.", "Second."]
            assert successor.requests[0].said == ()
            assert [s.epoch for s in world.of(LlmSentence) if s.turn == 1] == [1, 2, 2]
            self.check(world)

        run_virtual(scenario())

    def test_after_a_filler_and_a_sentence(self) -> None:
        async def scenario() -> None:
            steps: Any = ((2000, "First."), (100, "Second."), (4000, "Third."))
            successor = TimedEngine((0, "First."), (0, "Second."), (0, "Third."))
            world = await self.taken_over(TimedEngine(*steps), 2500, successor)
            assert world.answer_to(1) == [FIRST, "First.", "Second.", "Third."]
            assert successor.requests[0].said == ("First.", "Second.")
            self.check(world)

        run_virtual(scenario())

    def test_a_filler_between_two_sentences(self) -> None:
        async def scenario() -> None:
            steps: Any = ((0, "First."), (3000, "Second."), (0, "Third."), (5000, "Fourth."))
            successor = TimedEngine((0, "First."), (0, "Second."), (0, "Third."), (0, "Fourth."))
            world = await self.taken_over(TimedEngine(*steps), 4000, successor)
            assert world.answer_to(1) == ["First.", FIRST, "Second.", "Third.", "Fourth."]
            assert successor.requests[0].said == ("First.", "Second.", "Third.")
            self.check(world)

        run_virtual(scenario())

    def test_who_takes_over_says_no_third(self) -> None:
        async def scenario() -> None:
            world = await self.taken_over(
                TimedEngine((20_000, "Answer.")), 5500, TimedEngine((8000, "Answer.")), rest_ms=15_000
            )
            assert world.answer_to(1) == [FIRST, SECOND, "Answer."]
            self.check(world)

        run_virtual(scenario())

    def test_who_takes_over_says_the_next(self) -> None:
        async def scenario() -> None:
            world = await self.taken_over(TimedEngine((20_000, "Answer.")), 2500, TimedEngine((4000, "Answer.")))
            assert world.answer_to(1) == [FIRST, SECOND, "Answer."]
            self.check(world)

        run_virtual(scenario())


class TestManners:
    def test_the_agents_own_texts_win(self) -> None:
        settings = settings_with(fillers=" a | b |", away_text=" Hello? ", away_goodbye="Bye.").llm
        engine = FakeEngine()
        assert manners_of(engine, settings) == Manners(("a", "b"), "Hello?", "Bye.")
        engine.manners = Manners(("Hm.",), "", "Farewell.", "de")  # type: ignore[attr-defined]
        assert manners_of(engine, settings) == Manners(("Hm.",), "Hello?", "Farewell.", "de")
