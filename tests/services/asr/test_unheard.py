"""Speech that no engine can transcribe: how such a turn ends, and what is as before once an engine hears again."""

from __future__ import annotations

import pytest

from schemas.failure import Failure
from schemas.llm import ListenFor
from schemas.turn import TurnEnded, TurnInterrupted
from services.asr.runs import HEARS_MENU
from services.asr.turn import values as v
from tests.services.asr.ears import relay
from tests.services.asr.engines import BrokenEngine
from tests.services.asr.harness import Line
from tests.services.asr.test_failover_call import Counter
from tests.services.asr.test_machine import Script

pytestmark = pytest.mark.unit

DEAF = v.Final(0, "", 0.0, failed=True, down=True)


async def ended_after(line: Line, milliseconds: int = 600) -> TurnEnded:
    await line.edge.speak(milliseconds)
    await line.edge.hush(1000)
    return (await line.events(TurnEnded))[-1]


async def test_where_all_engines_are_down_the_turn_is_unheard_and_the_next_one_is_as_before() -> None:
    line = Line()
    await line.edge.open()
    first, second = Counter("a", 0), Counter("b", 0)
    await line.call(engine=relay(first, second))
    ended = await ended_after(line)
    assert (ended.turn, ended.why, ended.text, ended.confidence) == (1, "unheard", "", 0.0)
    (failure,) = await line.events(Failure)
    assert (failure.code, failure.stage, failure.turn) == ("stage_down", "asr", 1)
    assert failure.caller_hears == HEARS_MENU
    second.fails.clear()
    ended = await ended_after(line)
    assert (ended.turn, ended.why, ended.text[:7]) == (2, "silence", "frames:")


async def test_an_engine_that_is_alone_is_deaf_from_its_second_failure_in_a_row_on() -> None:
    line = Line()
    await line.edge.open()
    await line.call(engine=BrokenEngine())
    whys = [(await ended_after(line)).why for _ in range(3)]
    assert whys == ["timeout", "unheard", "unheard"]


async def test_one_key_ends_a_turn_where_one_is_expected() -> None:
    line = Line()
    await line.edge.open()
    first = Counter("a", 0)
    await line.call(engine=relay(first, Counter("b", 0)))
    assert (await ended_after(line)).why == "unheard"
    line.edge.listen_for(1, ListenFor(phrases=("yes",), digits=1))
    line.edge.play(100)
    await line.edge.hush(200)
    line.edge.press("2")
    await line.edge.hush(100)
    ended = (await line.events(TurnEnded))[-1]
    assert (ended.turn, ended.why, ended.digits) == (2, "dtmf", "2")
    assert [event.utterance_id for event in await line.events(TurnInterrupted)] == [100], "a key stops the menu"


def test_a_sound_over_the_agent_that_nobody_can_hear_is_a_noise_unless_it_stops_the_agent() -> None:
    script = Script()
    script.give(v.PlayoutBegan(100))
    script.speak(300)
    script.hush(600)
    script.give(DEAF)
    assert script.said(v.EndTurn) == []
    assert [resumed.why for resumed in script.said(v.Resume)] == ["noise"]  # type: ignore[union-attr]
    script.speak(800)
    script.hush(600)
    script.give(DEAF._replace(run=1))
    assert script.end().why == "unheard"


def test_words_of_another_part_and_keys_are_an_answer() -> None:
    script = Script()
    script.speak(20_200)
    script.give(v.Final(0, "where is my card"))
    script.hush(600)
    script.give(DEAF._replace(run=1))
    assert (script.end().why, script.end().text) == ("silence", "where is my card")
    script = Script()
    script.give(v.Expect(1))
    script.speak(400)
    script.give(v.Key("1", script.now_ms))
    script.give(DEAF)
    assert (script.end().why, script.end().digits) == ("dtmf", "1")


def test_a_monologue_that_nobody_could_hear_is_unheard() -> None:
    script = Script(monologue_limit_ms=2000)
    script.speak(2400)
    script.give(DEAF)
    assert script.end().why == "unheard"
