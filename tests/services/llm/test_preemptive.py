"""Answers prepared on words that stood still: said at once where they hold, without a trace where they do not."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, ToolCalled, ToolReturned
from schemas.turn import TurnInterrupted
from services.llm.call import LlmCall
from services.llm.engine import Request, ToolCall
from services.llm.guessing import words_of
from services.llm.tools import ToolContext, ToolSpec
from tests.fakes.virtual import run_virtual
from tests.services.llm.engines import BrokenEngine, FakeEngine, SlowEngine, TimedEngine
from tests.services.llm.harness import World, settings_with

pytestmark = pytest.mark.unit


class Transfer(msgspec.Struct):
    amount: int


class Money:
    """A tool whose effects are counted."""

    def __init__(self) -> None:
        self.amounts: list[int] = []

    def __call__(self, arguments: Transfer, context: ToolContext) -> dict[str, Any]:
        self.amounts.append(arguments.amount)
        return {"done": True}

    def engine(self, *before: tuple[int, str]) -> TimedEngine:
        tool = ToolSpec("transfer", "Moves money", Transfer, self)
        return TimedEngine(*before, (0, ToolCall("t", "transfer", {"amount": 5})), (0, "It is done."), tools=(tool,))


async def begun(engine: FakeEngine, *, plays: bool = True, **llm: Any) -> tuple[World, LlmCall]:
    world = World(plays=plays)
    await world.begin()
    call = await world.work(engine, settings=settings_with(**llm))
    await world.answer()
    return world, call


def said(world: World, turn: int = 1) -> list[str]:
    return world.answer_to(turn)


def counted(world: World, call: LlmCall) -> tuple[float, float]:
    return world.figure(call, "preemptive_hits"), world.figure(call, "preemptive_misses")


def test_the_same_words_are_answered_at_once() -> None:
    async def scenario() -> None:
        engine = TimedEngine((200, "First."), (200, "Second."))
        world, call = await begun(engine)
        await world.stand_still(1, "where is my card", rest_ms=1000)
        assert said(world) == []
        world.end_turn(1, "Where is my card?")
        await world.rest(1)
        assert said(world) == ["First.", "Second."]
        await world.rest()
        done = world.done(1)
        assert (done.preemptive, done.queue_wait_ms) == ("hit", 0)
        assert done.ttfs_ms == done.ttft_ms == pytest.approx(0, abs=1)
        assert [request.turn for request in engine.requests] == [0, 1]
        assert engine.requests[1].history[-1].text == "Welcome to the bank."
        assert engine.cancelled == 0
        assert counted(world, call) == (1, 0)
        assert (await world.history())[-2:] == ["caller: Where is my card?", "agent: First. Second."]

    run_virtual(scenario())


def test_a_run_that_is_still_thinking_goes_on_as_the_answer() -> None:
    async def scenario() -> None:
        engine = TimedEngine((300, "First."), (700, "Second."))
        world, _ = await begun(engine)
        await world.stand_still(1, "hello", rest_ms=600)
        world.end_turn(1, "hello")
        await world.rest(100)
        assert said(world) == ["First."]
        await world.rest(500)
        assert said(world) == ["First.", "Second."]
        assert world.done(1).preemptive == "hit"
        assert world.done(1).ttfs_ms == pytest.approx(0, abs=1)
        assert len(engine.requests) == 2

    run_virtual(scenario())


def test_the_time_to_the_first_sentence_counts_from_the_turns_end() -> None:
    async def scenario() -> None:
        world, _ = await begun(SlowEngine(sentences=1, pause_ms=1000))
        await world.rest(2000)
        await world.stand_still(1, "hello", rest_ms=600)
        world.end_turn(1, "hello")
        await world.rest(1000)
        done = world.done(1)
        assert done.preemptive == "hit"
        assert done.ttfs_ms == pytest.approx(400, abs=5)
        # The first token came before the turn had ended.
        assert done.ttft_ms == 0

    run_virtual(scenario())


def test_other_words_are_answered_afresh() -> None:
    async def scenario() -> None:
        engine = TimedEngine((200, "Answer {turn}."))
        world, call = await begun(engine)
        await world.stand_still(1, "where is my", rest_ms=100)
        world.end_turn(1, "where is my card")
        await world.rest(1000)
        assert said(world) == ["Answer 1."]
        done = world.done(1)
        assert (done.preemptive, done.ttfs_ms) == ("miss", pytest.approx(200, abs=5))
        assert [request.text for request in engine.requests] == ["", "where is my", "where is my card"]
        assert engine.cancelled == 1
        assert counted(world, call) == (0, 1)
        # The next turn knows nothing of it.
        await world.say(2, "thank you")
        await world.rest(1000)
        assert world.done(2).preemptive == ""
        assert counted(world, call) == (0, 1)

    run_virtual(scenario())


def test_no_tool_runs_before_the_turn_has_ended() -> None:
    async def scenario() -> None:
        money = Money()
        engine = money.engine((100, "I see to it."))
        world, _ = await begun(engine)
        await world.stand_still(1, "send five dollars", rest_ms=3000)
        assert not money.amounts
        assert not world.of(ToolCalled)
        assert said(world) == []
        world.end_turn(1, "send five dollars")
        await world.rest()
        assert money.amounts == [5]
        assert len(await world.stored(ToolCalled)) == len(await world.stored(ToolReturned)) == 1
        assert said(world) == ["I see to it.", "It is done."]
        assert world.done(1).preemptive == "hit"

    run_virtual(scenario())


def test_a_tool_of_a_miss_never_runs() -> None:
    async def scenario() -> None:
        money = Money()
        engine = money.engine()
        world, _ = await begun(engine)
        await world.stand_still(1, "send five dollars")
        world.end_turn(1, "send five dollars no wait")
        await world.rest()
        # Once, for the words that stood in the end.
        assert money.amounts == [5]
        assert len(await world.stored(ToolCalled)) == 1
        assert engine.cancelled == 1

    run_virtual(scenario())


def test_a_newer_guess_takes_the_place_of_the_older_unless_the_words_are_the_same() -> None:
    async def scenario() -> None:
        engine = TimedEngine((500, "Answer."))
        world, call = await begun(engine)
        await world.stand_still(1, "where is", 0)
        await world.stand_still(1, "where is my card", 1)
        await world.stand_still(1, "Where is my card?", 2)
        await world.stand_still(1, "where is", 0)
        assert [request.text for request in engine.requests[1:]] == ["where is", "where is my card"]
        assert engine.cancelled == 1
        world.end_turn(1, "where is my card")
        await world.rest(1)
        assert said(world) == ["Answer."]
        assert counted(world, call) == (1, 0)

    run_virtual(scenario())


@pytest.mark.parametrize("ending", [{"why": "monologue"}, {"why": "dtmf", "digits": "1"}, {"digits": "1"}])
def test_keys_and_unusual_ends_are_answered_afresh(ending: dict[str, str]) -> None:
    async def scenario() -> None:
        engine = TimedEngine((100, "Answer."))
        world, call = await begun(engine)
        await world.stand_still(1, "hello")
        world.end_turn(1, "hello", **ending)  # type: ignore[arg-type]
        await world.rest()
        assert world.done(1).preemptive == "miss"
        assert engine.requests[-1].why == ending.get("why", "silence")
        assert engine.requests[-1].digits == ending.get("digits", "")
        assert said(world) == ["Answer."]
        assert counted(world, call) == (0, 1)

    run_virtual(scenario())


def test_what_the_caller_heard_has_changed() -> None:
    async def scenario() -> None:
        engine = TimedEngine((100, "Answer."))
        world, call = await begun(engine, plays=False)
        world.synthesise(0, 0, "Welcome to the bank.")
        await world.stand_still(1, "where is my card")
        assert engine.requests[1].history == ()
        await world.interrupt(0, index=0, sent_ms=250)
        # What was told is not true any more: the run is stopped at once.
        assert engine.cancelled == 0
        assert call._guessing._guess is None
        world.end_turn(1, "where is my card")
        await world.rest()
        assert world.done(1).preemptive == "miss"
        assert [line.text for line in engine.requests[-1].history] == ["Welcome to"]
        assert said(world) == ["Answer."]
        # A guess made after the interruption holds.
        await world.stand_still(2, "thank you")
        world.end_turn(2, "thank you")
        await world.rest()
        assert world.done(2).preemptive == "hit"

    run_virtual(scenario())


def test_what_was_heard_to_its_end_since_is_noticed_at_the_turns_end() -> None:
    async def scenario() -> None:
        engine = TimedEngine((100, "Answer."))
        world, _ = await begun(engine, plays=False)
        await world.stand_still(1, "hello")
        world.play(0, 1)
        await world.rest()
        world.end_turn(1, "hello")
        await world.rest()
        assert world.done(1).preemptive == "miss"
        assert [line.text for line in engine.requests[-1].history] == ["Welcome to the bank."]

    run_virtual(scenario())


def test_an_error_of_a_guess_is_silent() -> None:
    async def scenario() -> None:
        engine = TimedEngine((0, "Half."), (0, RuntimeError("secret words")))
        world, call = await begun(engine)
        await world.stand_still(1, "hello")
        assert not world.of(Failure)
        engine._steps = ((0, "Whole."),)
        world.end_turn(1, "hello")
        await world.rest()
        assert said(world) == ["Whole."]
        assert not world.of(Failure)
        assert world.done(1).preemptive == "miss"
        assert counted(world, call) == (0, 1)

    run_virtual(scenario())


@pytest.mark.parametrize("where", ["open", "first", "engine error", "no answer"])
def test_an_engine_that_fails_again_apologises_once(where: str) -> None:
    async def scenario() -> None:
        world, _ = await begun(BrokenEngine(where))
        await world.stand_still(1, "bad turn")
        world.end_turn(1, "bad turn")
        await world.rest()
        assert said(world)[-2:] == ["I am sorry, something went wrong.", "Please say that again."]
        assert len(world.of(Failure)) == 1
        assert world.done(1).preemptive == "miss"
        assert await world.say(2, "good turn") == ["Fine."]

    run_virtual(scenario())


def test_an_error_after_the_turns_end_is_told() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((100, "Half."), (1000, RuntimeError("secret words"))))
        await world.stand_still(1, "hello", rest_ms=500)
        world.end_turn(1, "hello")
        await world.rest(2000)
        assert said(world) == ["Half.", "I am sorry, something went wrong.", "Please say that again."]
        assert [failure.code for failure in world.of(Failure)] == ["engine_failed"]
        assert world.done(1).preemptive == "hit"

    run_virtual(scenario())


def test_a_guess_that_comes_to_nothing_in_time_is_none() -> None:
    async def scenario() -> None:
        engine = BrokenEngine("silent")
        world, _ = await begun(engine, deadline_ms=2000, filler_ms=0)
        await world.stand_still(1, "bad turn", rest_ms=3000)
        world.end_turn(1, "bad turn")
        await world.rest(3000)
        assert world.done(1).preemptive == "miss"
        assert [failure.code for failure in world.of(Failure)] == ["engine_timeout"]
        assert len(engine.requests) == 3

    run_virtual(scenario())


def test_switched_off() -> None:
    async def scenario() -> None:
        engine = TimedEngine((100, "Answer."))
        world, call = await begun(engine, preemptive=False)
        await world.stand_still(1, "hello")
        world.end_turn(1, "hello")
        await world.rest()
        assert world.done(1).preemptive == ""
        assert len(engine.requests) == 2
        assert counted(world, call) == (0, 0)

    run_virtual(scenario())


def test_no_guess_while_an_answer_is_owed_or_for_a_turn_that_is_over_or_without_words() -> None:
    async def scenario() -> None:
        engine = TimedEngine((1000, "Answer {turn}."))
        world, _ = await begun(engine)
        world.end_turn(1, "hello")
        await world.stand_still(2, "and another thing")
        await world.stand_still(1, "hello", 7)
        assert len(engine.requests) == 2
        await world.rest(2000)
        await world.stand_still(2, " ...")
        assert len(engine.requests) == 2
        await world.say(2, "and another thing")
        await world.rest(2000)
        assert world.done(2).preemptive == ""

    run_virtual(scenario())


def test_words_before_the_call_is_answered_are_let_pass() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        engine = FakeEngine()
        await world.work(engine)
        await world.stand_still(1, "hello")
        assert not engine.requests

    run_virtual(scenario())


def test_an_engine_that_can_not_stop_is_let_go() -> None:
    async def scenario() -> None:
        engine = TimedEngine((5000, "Answer {turn}."))
        world, call = await begun(engine, filler_ms=0)
        await world.stand_still(1, "hell", 0)
        assert call._guessing._guess is not None

        async def cancel() -> None:
            raise RuntimeError("secret words")

        call._guessing._guess.run.cancel = cancel  # type: ignore[method-assign]
        world.end_turn(1, "hello")
        await world.rest(6000)
        assert said(world) == ["Answer 1."]
        assert not world.of(Failure)

    run_virtual(scenario())


def test_the_end_of_the_call_drops_the_guess() -> None:
    async def scenario() -> None:
        engine = TimedEngine((5000, "Answer."))
        world, _ = await begun(engine)
        await world.stand_still(1, "hello")
        await world.hang_up()
        assert engine.cancelled == 1
        await world.stand_still(2, "hello")
        assert len(engine.requests) == 2

    run_virtual(scenario())


def test_who_hands_the_call_over_drops_the_guess_and_the_successor_answers() -> None:
    async def scenario() -> None:
        engine = TimedEngine((5000, "Answer."))
        world, first = await begun(engine)
        await world.stand_still(1, "hello")
        await first.release("draining")
        assert engine.cancelled == 1
        successor = TimedEngine((0, "Answer."))
        await world.work(successor, epoch=2)
        await world.rest()
        # What stood still before its time is no reason to think.
        assert not successor.requests
        assert await world.say(1, "hello") == ["Answer."]
        assert world.done(1).preemptive == ""

    run_virtual(scenario())


def test_an_answer_on_a_guess_that_is_interrupted_says_no_more() -> None:
    async def scenario() -> None:
        engine = TimedEngine((0, "First."), (1000, "Second."))
        world, _ = await begun(engine)
        await world.stand_still(1, "hello")
        world.end_turn(1, "hello")
        await world.rest(100)
        await world.interrupt(1, index=0, sent_ms=0)
        await world.rest(3000)
        assert said(world) == ["First."]
        assert engine.cancelled == 1
        assert [done.turn for done in world.of(LlmDone)] == [0]

    run_virtual(scenario())


def test_an_answer_that_is_stopped_before_it_began_lets_go_of_the_run() -> None:
    async def scenario() -> None:
        engine = TimedEngine((5000, "Answer."))
        world, call = await begun(engine)
        await world.stand_still(1, "hello")
        real = call._guessing.take

        def take(request: Request) -> Any:
            # The answer's task is cancelled before it has begun.
            interrupted = TurnInterrupted(**world.base(), turn=2, utterance_id=100)
            asyncio.get_running_loop().call_soon(call._take_in, interrupted)
            return real(request)

        call._guessing.take = take  # type: ignore[method-assign]
        world.end_turn(1, "hello")
        await world.rest()
        assert engine.cancelled == 1
        assert len(world.of(LlmSentence)) == 1

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Where is my card?", "where is  my card", True),
        ("don't", "dont", True),
        ("STRASSE", "straße", True),
        ("four two", "four too", False),
        ("yes", "", False),
    ],
)
def test_the_same_words(first: str, second: str, same: bool) -> None:
    assert (words_of(first) == words_of(second)) is same
