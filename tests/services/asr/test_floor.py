"""What a call's turn policy asks of other stages: holds, apologies, questions; and what a successor makes of it."""

from __future__ import annotations

import asyncio

import pytest

from bus.clock import settle
from config.settings import TurnSection
from schemas.asr import AsrPreflight
from schemas.control import Flush, GiveUp, Pause, Resume, Say
from schemas.failure import Failure
from schemas.llm import ToolCalled
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted, TurnMeasured, TurnResumed, TurnStarted
from services.asr.turn import values as v
from services.asr.turn.machine import Start, TurnMachine
from services.asr.turn_models.instant import InstantModel
from tests.services.asr.engines import ScriptedEngine
from tests.services.asr.harness import Line

pytestmark = pytest.mark.unit

FIXED = {"endpointing": "fixed"}


async def heard(line: Line) -> None:
    """Give a thread of the pool its time to answer."""
    for _ in range(200):
        await asyncio.sleep(0.001)
        await settle(2)


async def test_an_answer_close_to_its_end_is_answered_even_by_a_listeners_word() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("okay"))
    line.edge.play(0)
    await line.edge.speak(300)
    line.edge.paused(0, remaining_ms=400)
    await line.edge.hush(700)

    assert [event.text for event in await line.events(TurnEnded)] == ["okay"]
    assert [type(command) for command in line.edge.commands] == [Pause, Flush]


async def test_the_same_word_far_from_the_end_is_no_turn_and_none_is_announced() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("okay"))
    line.edge.play(0)
    await line.edge.speak(300)
    line.edge.paused(0, remaining_ms=4000)
    await line.edge.hush(700)

    assert not await line.events(TurnEnded)
    assert not await line.events(TurnStarted)
    assert [event.why for event in await line.events(TurnResumed)] == ["backchannel"]


async def test_under_confirm_first_nothing_is_held() -> None:
    line = Line(turn=TurnSection(interruption="confirm", endpointing="fixed"))
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.speak(480)
    assert not line.edge.commands
    await line.edge.speak(100)
    assert [type(command) for command in line.edge.commands] == [Flush]


async def test_a_successor_takes_back_the_pause_of_a_worker_that_died() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.speak(300)
    line.edge.paused(0)
    await settle()
    line.kill()
    await line.edge.hush(100)
    await line.call(epoch=2, engine=ScriptedEngine(""))
    await line.edge.hush(3000)

    assert [type(command) for command in line.edge.commands] == [Pause, Resume]
    assert len(await line.events(TurnResumed)) == 1


async def test_a_listeners_word_is_not_answered_by_a_successor_either() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("mm-hm"))
    line.edge.play(0)
    await line.edge.speak(300)
    line.edge.paused(0)
    await line.edge.hush(700)
    line.kill()
    await line.call(epoch=2)
    await line.edge.hush(4000)

    assert not await line.events(TurnEnded)


async def test_a_caller_who_says_nothing_is_asked_and_then_left() -> None:
    line = Line(turn=TurnSection(away_ms=2000, away_prompts=1, **FIXED))
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.hush(500)
    line.edge.played(0)
    await line.edge.hush(2100)
    [asked] = await line.events(TurnAway)
    assert (asked.number, asked.last, asked.turn) == (0, False, 1)
    line.kill()
    await line.call(epoch=2)
    await line.edge.hush(2200)

    assert [(event.number, event.last) for event in await line.events(TurnAway)] == [(0, False), (1, True)]


async def test_silence_on_hold_and_on_a_line_without_frames() -> None:
    line = Line(turn=TurnSection(away_ms=2000, **FIXED))
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.hush(100)
    line.edge.played(0)
    line.edge.hold(True)
    await line.edge.pause(5000)
    assert not await line.events(TurnAway)
    line.edge.hold(False)
    await line.edge.pause(1900)
    assert not await line.events(TurnAway)
    await line.edge.pause(400)
    assert len(await line.events(TurnAway)) == 1


async def test_an_llm_stage_without_a_sign_is_apologised_for_once_and_ends_the_call_the_second_time() -> None:
    line = Line(turn=TurnSection(stuck_llm_ms=1000, **FIXED))
    await line.edge.open()
    await line.call(engine=ScriptedEngine("hello"))
    line.edge.play(0)
    line.edge.played(0)
    await line.edge.speak(600)
    await line.edge.hush(1700)

    [failure] = await line.events(Failure)
    assert (failure.code, failure.turn) == ("turn_stuck", 1)
    assert "llm" in failure.detail
    [say] = [command for command in line.edge.commands if isinstance(command, Say)]
    assert say.utterance_id == 150
    await line.edge.speak(600)
    await line.edge.hush(1700)
    assert [type(command) for command in line.edge.commands] == [Say, GiveUp]
    assert len(await line.events(Failure)) == 2


async def test_a_sentence_that_is_never_spoken_names_tts() -> None:
    line = Line(turn=TurnSection(stuck_tts_ms=1000, **FIXED))
    await line.edge.open()
    await line.call(engine=ScriptedEngine("hello"))
    line.edge.play(0)
    line.edge.played(0)
    await line.edge.speak(600)
    await line.edge.hush(600)
    line.edge.sentence(100)
    await line.edge.hush(1200)

    [failure] = await line.events(Failure)
    assert "tts" in failure.detail
    assert not line.edge.commands


async def test_words_that_stand_still_are_a_preflight() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("where is my card", partials=True))
    await line.edge.speak(1800)
    await line.edge.hush(300)

    assert [event.text for event in await line.events(AsrPreflight)][-1] == "where is my card"
    assert not await line.events(TurnEnded)


@pytest.mark.parametrize(("sure", "ended_after_ms"), [(1.0, 320), (0.05, 3020)])
async def test_the_turn_model_shortens_or_lengthens_patience(sure: float, ended_after_ms: int) -> None:
    line = Line(turn=TurnSection())
    line.turn_model = InstantModel(sure)
    await line.edge.open()
    await line.call(engine=ScriptedEngine("hello"))
    await line.edge.speak(800)
    await line.edge.hush(240)
    await heard(line)
    await line.edge.hush(ended_after_ms - 300)
    assert not await line.events(TurnEnded)
    await line.edge.hush(80)

    assert [event.why for event in await line.events(TurnEnded)] == ["semantic"]


async def test_each_turn_is_measured_once_also_across_a_takeover() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=ScriptedEngine("hello", "again"))
    line.edge.play(0)
    line.edge.played(0)
    for _ in range(2):
        await line.edge.speak(600)
        await line.edge.hush(700)
    assert [event.turn for event in await line.events(TurnMeasured)] == [1]
    line.kill()
    await line.call(epoch=2)
    line.edge.end()

    assert [event.turn for event in await line.events(TurnMeasured)] == [1, 2]


async def test_an_interruption_is_said_once_by_whoever_owns_the_call() -> None:
    line = Line()
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.speak(300)
    line.edge.paused(0)
    line.kill()
    await line.call(epoch=2)
    await line.edge.speak(600)

    assert [event.utterance_id for event in await line.events(TurnInterrupted)] == [0]
    assert [type(command) for command in line.edge.commands].count(Flush) == 1


async def test_two_stuck_turns_in_a_row_end_the_call_also_across_a_takeover() -> None:
    line = Line(turn=TurnSection(stuck_llm_ms=1000, **FIXED))
    await line.edge.open()
    await line.call(engine=ScriptedEngine("hello"))
    line.edge.play(0)
    line.edge.played(0)
    await line.edge.speak(600)
    await line.edge.hush(1700)
    line.kill()
    await line.call(epoch=2, engine=ScriptedEngine("hello"))
    await line.edge.speak(600)
    await line.edge.hush(1700)

    assert [type(command) for command in line.edge.commands] == [Say, GiveUp]


@pytest.mark.parametrize("answer", ["late", "none"])
async def test_a_successor_forgives_a_stuck_turn_that_was_answered_after_all(answer: str) -> None:
    line = Line(turn=TurnSection(stuck_llm_ms=1000, stuck_tts_ms=500, **FIXED))
    await line.edge.open()
    await line.call(engine=ScriptedEngine("hello", "hello"))
    line.edge.play(0)
    line.edge.played(0)
    await line.edge.speak(600)
    await line.edge.hush(600)
    line.edge.sentence(100)
    await line.edge.hush(700)
    if answer == "late":
        line.edge.play(100)
        line.edge.played(100)
    await settle()
    line.kill()
    await line.call(epoch=2, engine=ScriptedEngine("hello"))
    await line.edge.speak(600)
    await line.edge.hush(1700)

    assert len(await line.events(Failure)) == 2
    assert [type(command) for command in line.edge.commands] == ([Say] if answer == "late" else [GiveUp])


@pytest.mark.parametrize("successor", [False, True])
async def test_an_answer_that_breaks_off_after_its_first_sentence_is_stuck_too(successor: bool) -> None:
    line = Line(turn=TurnSection(stuck_llm_ms=1000, **FIXED))
    await line.edge.open()
    await line.call(engine=ScriptedEngine("hello"))
    line.edge.play(0)
    line.edge.played(0)
    await line.edge.speak(600)
    await line.edge.hush(600)
    line.edge.sentence(100)
    line.edge.play(100)
    await line.edge.hush(3000)
    assert not await line.events(Failure), "the agent speaks"
    line.edge.mark(100, 0)
    if successor:
        line.kill()
        await line.call(epoch=2)
    await line.edge.hush(1500)

    [failure] = await line.events(Failure)
    assert "llm" in failure.detail
    assert [type(command) for command in line.edge.commands] == [Say]


async def test_an_answer_that_was_heard_to_its_end_is_awaited_no_more() -> None:
    machine = TurnMachine(TurnSection(stuck_llm_ms=1000, endpointing="fixed"), Start(awaited_turn=1, turn=2))
    machine.handle(v.Sentence(100, 0), 0)
    machine.handle(v.PlayoutBegan(100), 0)
    machine.handle(v.Marked(100, 0), 500)
    assert machine.deadline_ms == 1500
    machine.handle(v.PlayoutEnded(100), 900)
    assert not [command for command in machine.handle(v.Tick(), 9000) if isinstance(command, v.Stuck)]


async def test_a_tool_is_a_sign_of_life() -> None:
    line = Line(turn=TurnSection(stuck_llm_ms=1000, **FIXED))
    await line.edge.open()
    await line.call(engine=ScriptedEngine("hello"))
    line.edge.play(0)
    line.edge.played(0)
    await line.edge.speak(600)
    await line.edge.hush(600)
    for number in range(3):
        called = ToolCalled(turn=1, tool_call_id=f"c-{number}", name="look_up", epoch=1, **line.edge.base())
        line.edge.recorder.record(called)
        await line.edge.hush(900)
    assert not await line.events(Failure)
    await line.edge.hush(300)
    assert [event.code for event in await line.events(Failure)] == ["turn_stuck"]


async def test_a_successor_says_no_second_goodbye() -> None:
    line = Line(turn=TurnSection(away_ms=1000, away_prompts=0, **FIXED))
    await line.edge.open()
    await line.call()
    line.edge.play(0)
    await line.edge.hush(100)
    line.edge.played(0)
    await line.edge.hush(1200)
    line.kill()
    await line.call(epoch=2)
    await line.edge.hush(3000)

    assert [event.last for event in await line.events(TurnAway)] == [True]


def test_words_of_old_audio_do_not_hold_the_agent() -> None:
    machine = TurnMachine(TurnSection(endpointing="fixed"))
    machine.handle(v.PlayoutBegan(100), 0)
    commands: list[v.Command] = []
    for start in range(0, 320, 32):
        commands += machine.handle(v.Heard(0.95, start, start + 32, stale=True), start + 32)
    commands += machine.handle(v.Partial(0, "where is my card"), 320)
    assert not [command for command in commands if isinstance(command, v.Pause | v.Interrupt)]
    commands = machine.handle(v.Heard(0.95, 320, 352), 352)
    assert [command for command in commands if isinstance(command, v.Interrupt)]
