"""A worker dies, another takes over, in every phase of an answer: nothing is said twice, nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from bus.consume import follow_call, read_call
from bus.publish import Recorder
from schemas.base import Event
from schemas.control import Inject
from schemas.failure import Failure
from schemas.llm import LlmDone, LlmSentence, ToolCalled, ToolReturned, utterance_of
from schemas.turn import TurnEnded
from services.llm.call import LlmCall
from services.llm.engine import load_engine
from services.llm.tools import ToolContext, ToolSpec
from tests.fakes.virtual import run_virtual
from tests.services.llm.engines import BrokenBucket, FakeEngine, SlowEngine, TimedEngine, ToolEngine
from tests.services.llm.harness import CALL_ID, TENANT, World, hangups, settings_with

pytestmark = pytest.mark.unit


async def assert_said_once(world: World) -> None:
    """Every sentence and every end of an utterance stands once in the stream, in order."""
    sentences = await world.stored(LlmSentence)
    assert max(Counter((s.utterance_id, s.index) for s in sentences).values()) == 1
    heard = [(s.utterance_id, s.index) for s in world.of(LlmSentence)]
    assert len(heard) == len(set(heard))
    for done in await world.stored(LlmDone):
        said = [s.index for s in sentences if s.utterance_id == done.utterance_id]
        assert said == list(range(done.sentences))
    assert max(Counter(d.utterance_id for d in await world.stored(LlmDone)).values()) == 1


class Number(msgspec.Struct):
    number: int


class Counted:
    """A tool that counts its effects, once for each id."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.effects: set[str] = set()

    def __call__(self, arguments: Number, context: ToolContext) -> dict[str, Any]:
        self.calls.append(context.tool_call_id)
        self.effects.add(context.tool_call_id)
        return {"number": arguments.number}

    def spec(self) -> ToolSpec:
        return ToolSpec("count", "Counts", Number, self)


async def begun(engine: FakeEngine | None = None, *, plays: bool = True) -> tuple[World, LlmCall]:
    world = World(plays=plays)
    await world.begin()
    return world, await world.work(engine)


def test_before_the_greeting() -> None:
    async def scenario() -> None:
        world, first = await begun()
        await world.kill(first)
        await world.answer()
        assert not world.answer_to(0)
        await world.work(epoch=2)
        await world.rest()
        assert len(world.answer_to(0)) == 2
        await assert_said_once(world)

    run_virtual(scenario())


def test_before_the_first_sentence_of_an_answer() -> None:
    async def scenario() -> None:
        world, first = await begun(SlowEngine(sentences=2, pause_ms=1000))
        await world.answer()
        await world.rest(3000)
        await world.say(1, "hello")
        await world.kill(first)
        await world.rest(5000)
        assert world.answer_to(1) == []
        await world.work(SlowEngine(sentences=2, pause_ms=1000), epoch=2)
        await world.rest(3000)
        assert world.answer_to(1) == ["Sentence 0 of turn 1.", "Sentence 1 of turn 1."]
        assert world.done(1).epoch == 2
        await assert_said_once(world)

    run_virtual(scenario())


def test_between_two_sentences() -> None:
    async def scenario() -> None:
        world, first = await begun(SlowEngine(sentences=4, pause_ms=1000))
        await world.answer()
        await world.rest(2100)
        assert len(world.answer_to(0)) == 2
        await world.kill(first)
        engine = SlowEngine(sentences=4, pause_ms=1000)
        await world.work(engine, epoch=2)
        await world.rest(5000)
        assert engine.requests[0].said == ("Sentence 0 of turn 0.", "Sentence 1 of turn 0.")
        assert world.answer_to(0) == [f"Sentence {n} of turn 0." for n in range(4)]
        assert [s.epoch for s in world.of(LlmSentence)] == [1, 1, 2, 2]
        assert world.done(0).sentences == 4
        await assert_said_once(world)

    run_virtual(scenario())


def test_after_the_last_sentence_before_the_end_of_the_answer() -> None:
    async def scenario() -> None:
        world, first = await begun(SlowEngine(sentences=2, pause_ms=1000))
        await world.answer()
        await world.rest(1900)
        await world.kill(first)
        # The predecessor's last words reach the stream, the end of its answer does not.
        late = Recorder(world.connection, service="llm")
        for index in range(2):
            late.record(
                LlmSentence(
                    **world.base(), epoch=1, turn=0, utterance_id=0, index=index, text=f"Sentence {index} of turn 0."
                )
            )
        await world.rest()
        await world.work(SlowEngine(sentences=2, pause_ms=1000), epoch=2)
        await world.rest(3000)
        assert len(world.answer_to(0)) == 2
        assert world.done(0).sentences == 2
        await assert_said_once(world)

    run_virtual(scenario())


def test_during_a_tool_that_did_not_return() -> None:
    async def scenario() -> None:
        count = Counted()
        engine = ToolEngine((count.spec(),), ({"number": 7},))
        world, first = await begun(engine)
        started = asyncio.Event()
        hanging: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def call(name: str, arguments: dict[str, Any], context: ToolContext) -> Any:
            count(Number(7), context)
            started.set()
            await hanging

        first._place.toolbox.call = call  # type: ignore[method-assign]
        await world.answer()
        await started.wait()
        assert world.answer_to(0) == ["Let me see."]
        await world.kill(first)
        await world.work(ToolEngine((count.spec(),), ({"number": 7},)), epoch=2)
        await world.rest()
        assert world.answer_to(0) == ["Let me see.", "7."]
        # Run again, because nobody knows whether it took effect, with the key by which the tool knows.
        assert count.calls == [f"{CALL_ID}-0-0"] * 2
        assert len(count.effects) == 1
        assert [c.tool_call_id for c in await world.stored(ToolCalled)] == [f"{CALL_ID}-0-0"]
        await assert_said_once(world)

    run_virtual(scenario())


def test_after_a_tool_returned() -> None:
    async def scenario() -> None:
        count = Counted()
        world, first = await begun(ToolEngine((count.spec(),), ({"number": 7}, {"number": 7}, {"number": 8})))
        returned = asyncio.Event()
        hanging = asyncio.Event()
        toolbox = first._place.toolbox
        real = toolbox.call

        async def call(name: str, arguments: dict[str, Any], context: ToolContext) -> Any:
            if context.tool_call_id.endswith("-2"):
                returned.set()
                await hanging.wait()
            return await real(name, arguments, context)

        toolbox.call = call  # type: ignore[method-assign]
        await world.answer()
        await returned.wait()
        await world.rest()
        await world.kill(first)
        assert len(count.calls) == 2
        await world.work(ToolEngine((count.spec(),), ({"number": 7}, {"number": 7}, {"number": 8})), epoch=2)
        await world.rest()
        assert world.answer_to(0) == ["Let me see.", "7 and 7 and 8."]
        assert count.calls == [f"{CALL_ID}-0-{n}" for n in range(3)]
        assert len(await world.stored(ToolCalled)) == len(await world.stored(ToolReturned)) == 3
        await assert_said_once(world)

    run_virtual(scenario())


def test_a_successor_that_decides_otherwise_makes_a_call_of_its_own() -> None:
    async def scenario() -> None:
        count = Counted()
        world, first = await begun(ToolEngine((count.spec(),), ({"number": 7}, {"number": 8})))
        hanging = asyncio.Event()
        toolbox = first._place.toolbox
        real = toolbox.call

        async def call(name: str, arguments: dict[str, Any], context: ToolContext) -> Any:
            if context.tool_call_id.endswith("-1"):
                await hanging.wait()
            return await real(name, arguments, context)

        toolbox.call = call  # type: ignore[method-assign]
        await world.answer()
        await world.kill(first)
        await world.work(ToolEngine((count.spec(),), ({"number": 9},)), epoch=2)
        await world.rest()
        assert world.answer_to(0) == ["Let me see.", "9."]
        assert count.calls == [f"{CALL_ID}-0-0", f"{CALL_ID}-0-2"]

    run_virtual(scenario())


def test_in_the_middle_of_the_banking_conversation() -> None:
    async def scenario() -> None:
        world, first = await begun()
        await world.answer()
        await world.say(1, "where is my credit card")
        await world.kill(first)
        second = await world.work(epoch=2)
        told = await world.say(2, "four two seven one")
        assert told[1] == "Your credit card was shipped on Monday."
        await world.kill(second)
        await world.work(epoch=3)
        assert (await world.say(3, "what is my balance"))[0].startswith("Your balance is")
        context = await world.context()
        assert context.last_turn == 3
        assert context.customer_data["authentication_status"] == "VERIFIED"
        assert len(await world.history()) == 7
        await assert_said_once(world)

    run_virtual(scenario())


def test_after_the_answer_before_it_was_heard() -> None:
    async def scenario() -> None:
        world, first = await begun(plays=False)
        await world.answer()
        await world.say(1, "goodbye")
        await world.kill(first)
        await world.work(epoch=2)
        await world.rest()
        assert hangups(world.commands) == 0
        world.play(utterance_of(1), 2)
        await world.rest()
        assert hangups(world.commands) == 1
        assert (await world.context()).conversation_history[-1].text.endswith("Goodbye.")
        await assert_said_once(world)

    run_virtual(scenario())


def test_a_successor_hangs_up_where_the_farewell_was_heard() -> None:
    async def scenario() -> None:
        world, first = await begun(plays=False)
        await world.answer()
        await world.say(1, "goodbye")
        await world.kill(first)
        world.play(utterance_of(1), 2)
        await world.rest()
        await world.work(epoch=2)
        await world.rest()
        assert hangups(world.commands) == 1

    run_virtual(scenario())


def test_an_interrupted_answer_is_never_completed() -> None:
    async def scenario() -> None:
        world, first = await begun(SlowEngine(sentences=4, pause_ms=1000), plays=False)
        await world.answer()
        await world.rest(2100)
        await world.kill(first)
        world.synthesise(0, 0, "Sentence 0 of turn 0.")
        await world.interrupt(0, index=0, sent_ms=200)
        await world.work(SlowEngine(sentences=4, pause_ms=1000), epoch=2)
        await world.rest(10_000)
        assert len(world.answer_to(0)) == 2
        assert not world.of(LlmDone)
        assert await world.history() == ["agent: Sentence 0"]
        await world.say(1, "hello")
        await world.rest(5000)
        assert len(world.answer_to(1)) == 4

    run_virtual(scenario())


def test_turns_that_ended_while_nobody_was_there_are_answered_in_order() -> None:
    async def scenario() -> None:
        world, first = await begun()
        await world.answer()
        await world.kill(first)
        await world.say(1, "what is my balance")
        await world.say(2, "four two seven one")
        await world.work(epoch=2)
        await world.rest()
        assert len(world.answer_to(1)) == 2
        assert world.answer_to(2)[1].startswith("Your balance")
        await assert_said_once(world)

    run_virtual(scenario())


def test_injected_lines_are_taken_over() -> None:
    async def scenario() -> None:
        world, first = await begun(FakeEngine())
        await world.answer()
        await world.send(Inject(call_id=CALL_ID, text="A good customer."))
        await world.context()
        await world.kill(first)
        engine = FakeEngine()
        await world.work(engine, epoch=2)
        await world.say(1, "hello")
        assert "A good customer." in [e.text for e in engine.requests[-1].history]
        assert "system: A good customer." in await world.history()

    run_virtual(scenario())


def test_a_zombie_says_no_more_once_it_meets_its_successors_word() -> None:
    async def scenario() -> None:
        world, first = await begun(SlowEngine(sentences=2, pause_ms=1000))
        await world.answer()
        await world.rest(3000)
        second = await world.work(FakeEngine(), epoch=2)
        # Both are alive and answer; only the successor's end of the answer is taken.
        world.recorder.record(TurnEnded(**world.base(), turn=1, why="silence", text="hello"))
        await world.rest(10_000)
        assert world.done(1).epoch == 2
        assert first._released
        reply = first._command(Inject(call_id=CALL_ID, text="hello"))
        assert reply.error == "not_owner"
        assert not second._released
        await world.say(2, "hello")
        assert world.answer_to(2) == ["Fine."]
        assert max(Counter(d.utterance_id for d in await world.stored(LlmDone)).values()) == 1

    run_virtual(scenario())


def test_a_paused_worker_that_wakes_late_shadows_nothing_of_its_successor() -> None:
    """Its next sentence has the id of one that the successor says: the record keeps what the caller heard."""

    async def scenario() -> None:
        world, first = await begun(TimedEngine((1000, "Old 0."), (3000, "Old 1."), (0, "Old 2.")))
        await world.answer()
        await world.rest()
        heard: list[Event] = []
        feed = await follow_call(
            world.connection, CALL_ID, TENANT, heard.append, names=("llm.*",), from_start=False, service="tts"
        )
        world.end_turn(1, "hello")
        await world.rest(1500)
        second = await world.work(TimedEngine((1000, "New 0."), (1000, "New 1."), (1000, "New 2.")), epoch=2)
        await world.rest(10_000)
        said = [(s.text, s.epoch) for s in await world.stored(LlmSentence) if s.utterance_id == utterance_of(1)]
        assert said == [("Old 0.", 1), ("New 1.", 2), ("New 2.", 2)]
        assert (await read_call(world.connection, CALL_ID, TENANT, ("llm.*",)))[2:] == heard
        assert first._released
        assert not second._released
        await feed.close()

    run_virtual(scenario())


def test_a_successors_context_is_not_written_over() -> None:
    async def scenario() -> None:
        world, first = await begun()
        await world.answer()
        before = await world.context()
        newer = msgspec.structs.replace(before, last_turn=9)
        assert first._keeping.context_after(newer) == newer

    run_virtual(scenario())


def test_draining_hands_over_what_is_known() -> None:
    async def scenario() -> None:
        world, first = await begun()
        await world.answer()
        await world.say(1, "where is my credit card")
        await first.release("draining")
        assert (await world.context()).last_turn == 1
        await world.work(epoch=2)
        assert (await world.say(2, digits="4271"))[1] == "Your credit card was shipped on Monday."
        assert not world.of(Failure)

    run_virtual(scenario())


def test_a_successor_without_the_store_goes_on_from_the_events() -> None:
    async def scenario() -> None:
        world, first = await begun()
        await world.answer()
        await world.say(1, "where is my credit card")
        await world.kill(first)
        engine = load_engine("scripted", settings_with().llm)
        second = await world.work(engine, epoch=2)
        broken = BrokenBucket()
        second._keeping._place = second._place._replace(contexts=broken)  # type: ignore[arg-type]
        await world.rest()
        assert broken.reads == 1
        assert (await world.say(2, digits="4271"))[1] == "Your credit card was shipped on Monday."

    run_virtual(scenario())
