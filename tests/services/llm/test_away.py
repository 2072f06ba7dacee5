"""A caller who says nothing is asked, and let go in the end; whoever owns the call by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.control import Hangup, Say
from schemas.llm import APOLOGY_PART, UTTERANCES_PER_TURN, LlmDone, LlmSentence, NextStep, utterance_of
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted
from services.llm import farewell
from services.llm.call import LlmCall
from services.llm.engines.scripted import create
from tests.fakes.virtual import run_virtual
from tests.services.llm.engines import FakeEngine, TimedEngine, TransferEngine
from tests.services.llm.harness import CALL_ID, World, hangups, settings_with

pytestmark = pytest.mark.unit

ASKED = "Are you still there?"
AGENT = """
[agent]
name = "short"
start = "welcome"
give_up = "bye"
fillers = ["Hm."]
away = "Hello?"
away_goodbye = "Too quiet."
[intents.end]
phrases = ["goodbye"]
go = "bye"
[states.welcome]
say = ["Hi."]
listen = ["end"]
[states.bye]
say = ["Bye."]
hang_up = true
"""
GOODBYE = ["I can not hear you any more.", "Goodbye."]


async def begun(engine: FakeEngine | None = None, *, plays: bool = True, **llm: Any) -> tuple[World, LlmCall]:
    world = World(plays=plays)
    await world.begin()
    call = await world.work(engine or TimedEngine((0, "Answer {turn}.")), settings=settings_with(**llm))
    await world.answer()
    return world, call


def beside(world: World) -> list[tuple[int, str]]:
    return [(s.utterance_id, s.text) for s in world.of(LlmSentence) if s.utterance_id % 100]


def test_asked_twice_and_let_go() -> None:
    async def scenario() -> None:
        world, _ = await begun()
        await world.away(0)
        await world.away(1)
        assert beside(world) == [(1, ASKED), (2, ASKED)]
        assert hangups(world.commands) == 0
        assert (await world.history())[-2:] == [f"agent: {ASKED}"] * 2
        await world.away(2, last=True)
        assert beside(world)[2:] == [(3, text) for text in GOODBYE]
        (hangup,) = world.commands
        assert isinstance(hangup, Hangup)
        assert hangup.reason == "caller_away"
        assert [done.then for done in world.of(LlmDone)][-1] is NextStep.HANG_UP

    run_virtual(scenario())


def test_it_belongs_to_the_current_turn_and_changes_nothing() -> None:
    async def scenario() -> None:
        world, _ = await begun()
        await world.say(1, "hello")
        state = world.done(1).listen_for
        await world.away(0, turn=1)
        assert beside(world) == [(101, ASKED)]
        assert world.of(LlmDone)[-1].listen_for == state
        assert await world.say(2, "yes I am") == ["Answer 2."]

    run_virtual(scenario())


def test_the_same_news_twice_and_old_news_are_let_pass() -> None:
    async def scenario() -> None:
        world, call = await begun()
        await world.away(1)
        await world.away(1)
        await world.away(0)
        assert beside(world) == [(1, ASKED)]
        assert call.conversation.asked == {1: 1}

    run_virtual(scenario())


def test_a_caller_who_spoke_meanwhile_is_answered_and_not_asked() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((2000, "Answer {turn}.")), filler_ms=0)
        world.end_turn(1, "hello")
        await world.rest(500)
        early = world.base() | {"at_us": world.clock.now_us() - 600_000}
        world.recorder.record(TurnAway(**early, turn=0, number=0, last=True))
        await world.rest(3000)
        assert world.answer_to(1) == ["Answer 1."]
        assert beside(world) == []
        assert hangups(world.commands) == 0

    run_virtual(scenario())


@pytest.mark.parametrize("interrupted", [True, False])
def test_who_speaks_into_the_goodbye_is_listened_to(interrupted: bool) -> None:
    async def scenario() -> None:
        world, _ = await begun(plays=False)
        world.play(0, 1)
        await world.away(0, last=True)
        assert len(beside(world)) == 2
        if interrupted:
            world.recorder.record(TurnInterrupted(**world.base(), turn=1, utterance_id=1))
            await world.rest(farewell.HEARD_DEADLINE_MS * 2)
            assert hangups(world.commands) == 0
        assert await world.say(1, "wait I am here") == ["Answer 1."]
        world.play(1, 2)
        await world.rest(farewell.HEARD_DEADLINE_MS * 2)
        assert hangups(world.commands) == 0

    run_virtual(scenario())


def test_a_goodbye_that_is_never_played_ends_the_call_in_time() -> None:
    async def scenario() -> None:
        world, _ = await begun(plays=False)
        await world.away(0, last=True)
        assert hangups(world.commands) == 0
        await world.rest(farewell.HEARD_DEADLINE_MS)
        assert hangups(world.commands) == 1

    run_virtual(scenario())


def test_after_a_refused_transfer_the_caller_is_let_go_too() -> None:
    async def scenario() -> None:
        world, _ = await begun(TransferEngine())
        await world.rest(2000)
        assert len(world.commands) == 1
        await world.away(0, last=True)
        assert hangups(world.commands) == 1

    run_virtual(scenario())


def test_an_answer_on_its_way_comes_first() -> None:
    async def scenario() -> None:
        world, _ = await begun(TimedEngine((1000, "Answer {turn}.")))
        world.end_turn(1, "hello")
        await world.away(0, turn=1)
        await world.rest(2000)
        assert [s.utterance_id for s in world.of(LlmSentence)] == [0, 100, 101]

    run_virtual(scenario())


class TestWithoutWords:
    def test_an_empty_question_says_nothing(self) -> None:
        async def scenario() -> None:
            world, _ = await begun(away_text=" ")
            await world.away(0)
            assert beside(world) == []

        run_virtual(scenario())

    def test_an_empty_goodbye_hangs_up(self) -> None:
        async def scenario() -> None:
            world, _ = await begun(away_goodbye="")
            await world.away(0, last=True)
            (hangup,) = world.commands
            assert (beside(world), hangup.reason) == ([], "caller_away")

        run_virtual(scenario())

    def test_after_the_apology_of_a_stuck_turn_there_is_still_an_id_for_questions(self) -> None:
        """The edge plays nothing of this turn that is older than the apology."""

        async def scenario() -> None:
            world, _ = await begun(TimedEngine((60_000, "Late.")), filler_ms=0)
            world.end_turn(1, "hello")
            await world.apologise(1)
            await world.away(0, turn=1)
            (question,) = beside(world)
            assert question[0] > utterance_of(1, APOLOGY_PART)

        run_virtual(scenario())

    def test_a_turn_without_ids_left_lets_a_silent_caller_go_without_a_word(self) -> None:
        """What was to be said by command waits for the next turn."""

        async def scenario() -> None:
            world, _ = await begun(TimedEngine((0, "Answer.")), filler_ms=0)
            world.end_turn(1, "hello")
            world.synthesise(utterance_of(1, UTTERANCES_PER_TURN - 1), 0, "The last id.")
            await world.away(0, turn=1)
            assert (await world.send(Say(call_id=CALL_ID, text="We close soon."))).ok
            await world.away(1, last=True, turn=1)
            assert [command.reason for command in world.commands] == ["caller_away"]
            assert not [said for said in beside(world) if said[1] == "We close soon."]

        run_virtual(scenario())


class TestSuccessors:
    def test_nobody_is_asked_twice_for_one_silence(self) -> None:
        async def scenario() -> None:
            world, first = await begun()
            await world.away(0)
            await world.kill(first)
            await world.work(TimedEngine((0, "Answer.")), epoch=2)
            await world.rest(2000)
            assert beside(world) == [(1, ASKED)]
            await world.away(1)
            assert beside(world) == [(1, ASKED), (2, ASKED)]

        run_virtual(scenario())

    def test_a_silence_that_nobody_saw_is_asked_after(self) -> None:
        async def scenario() -> None:
            world, first = await begun()
            await world.kill(first)
            await world.away(0)
            await world.away(1)
            await world.work(TimedEngine((0, "Answer.")), epoch=2)
            await world.rest()
            assert beside(world) == [(1, ASKED)]
            await world.say(1, "yes")
            assert world.answer_to(1) == ["Answer."]

        run_virtual(scenario())

    def test_a_goodbye_that_was_begun_is_ended(self) -> None:
        async def scenario() -> None:
            world, first = await begun()
            await world.kill(first)
            await world.away(0, last=True)
            # The predecessor's first sentence reaches the stream, the rest does not.
            sentence = LlmSentence(
                **world.base(), epoch=1, turn=0, utterance_id=utterance_of(0, 1), index=0, text=GOODBYE[0], away=0
            )
            world.recorder.record(sentence)
            await world.rest()
            await world.work(TimedEngine((0, "Answer.")), epoch=2)
            await world.rest()
            assert beside(world) == [(1, text) for text in GOODBYE]
            assert [command.reason for command in world.commands] == ["caller_away"]

        run_virtual(scenario())

    def test_a_successor_hangs_up_where_the_goodbye_was_heard(self) -> None:
        async def scenario() -> None:
            world, first = await begun(plays=False)
            world.play(0, 1)
            await world.away(0, last=True)
            await world.kill(first)
            world.play(1, 2)
            await world.rest()
            assert hangups(world.commands) == 0
            await world.work(TimedEngine((0, "Answer.")), epoch=2)
            await world.rest()
            assert [command.reason for command in world.commands] == ["caller_away"]

        run_virtual(scenario())


def test_the_agents_own_words(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(AGENT)

    async def scenario() -> None:
        engine = create(settings_with(agent=str(path)).llm)
        assert engine.manners.fillers == ("Hm.",)
        world, _ = await begun(engine)  # type: ignore[arg-type]
        await world.away(0)
        await world.away(1, last=True)
        assert beside(world) == [(1, "Hello?"), (2, "Too quiet.")]
        assert hangups(world.commands) == 1

    run_virtual(scenario())


def test_the_turns_end_is_the_callers_word() -> None:
    """What was said since the silence was found ends it, whatever number the turn has."""

    async def scenario() -> None:
        world, call = await begun()
        await world.kill(call)
        await world.away(0, last=True)
        world.recorder.record(TurnEnded(**world.base(), turn=1, why="silence", text="hello"))
        await world.rest()
        await world.work(TimedEngine((0, "Answer.")), epoch=2)
        await world.rest()
        assert (world.answer_to(1), beside(world), hangups(world.commands)) == (["Answer."], [], 0)

    run_virtual(scenario())
