"""Virtual time: the caller, the recogniser, the agent and the bus around the machine take as long as they say."""

from __future__ import annotations

import array
import math
from pathlib import Path
from typing import Any

import pytest

from ops.scenario.document import Faults
from ops.scenario.expectations import SeenEvent
from ops.scenario.report import Result
from ops.scenario.virtual import run_virtual
from ops.scenario.world import BUS_MS, DUPLICATE_MS, World
from schemas.base import Event
from schemas.playout import PlayoutStarted
from services.audio.wav import write_wav
from tests.ops.scenario.files import HEAD, QUESTION, scenario_of

pytestmark = pytest.mark.unit

FAIL = "[[expect]]\nevent = 'turn.away'\nwithin_ms = 1\n"


def run(folder: Path, text: str, expect: str = "[[never]]\nevent = 'tool.called'\n") -> Result:
    return run_virtual(scenario_of(folder, HEAD + text + expect), {})


def times(result: Result, name: str, **fields: Any) -> list[int]:
    return [event.at_ms for event in result.events if event.name == name and fields.items() <= event.fields.items()]


def texts(result: Result, name: str) -> list[str]:
    return [event.fields["text"] for event in result.events if event.name == name]


def silent_agent(more: str = "") -> str:
    return f"[agent]\nsays = ['Hi.', 'Thanks.']\n{more}\n"


SAY = "[[caller]]\nname = 'a'\nwhen = 'call begins'\nafter_ms = 2000\n"


# The caller.


def test_words_are_recognised_one_by_one(tmp_path: Path) -> None:
    result = run(tmp_path, silent_agent() + SAY + "say = 'where is my card'\n")
    assert result.steps["a"] == (2000, 3200)
    assert texts(result, "asr.partial") == ["where", "where is", "where is my", "where is my card"]
    for number, at_ms in enumerate(times(result, "asr.partial"), start=1):
        assert 0 <= at_ms - (2000 + 300 * number + 100) <= 20
    assert texts(result, "asr.final") == ["where is my card"]


def test_a_pause_in_what_is_said_is_silence(tmp_path: Path) -> None:
    result = run(tmp_path, silent_agent() + SAY + "say = 'one... [pause 900] two'\n")
    assert result.steps["a"] == (2000, 3500)
    assert len(times(result, "vad.started")) == 2
    assert texts(result, "turn.ended") == ["one two"]


def test_what_is_heard_may_be_something_else(tmp_path: Path) -> None:
    result = run(tmp_path, silent_agent() + SAY + "mumble_ms = 900\nhears = 'blah blah'\n")
    assert texts(result, "turn.ended") == ["blah blah"]
    result = run(tmp_path, silent_agent() + SAY + "say = 'I want a cart'\nhears = 'I want a card'\n")
    assert texts(result, "turn.ended") == ["I want a card"]


def test_noise_is_no_voice_and_a_cough_is(tmp_path: Path) -> None:
    assert times(run(tmp_path, SAY + "noise_ms = 1000\n"), "vad.started") == []
    assert len(times(run(tmp_path, SAY + "cough_ms = 300\n"), "vad.started")) == 1


def test_a_recording_is_voice_where_it_is_loud(tmp_path: Path) -> None:
    tone = array.array("h", (int(8000 * math.sin(n / 3)) for n in range(8000))).tobytes()
    write_wav(tmp_path / "two.wav", tone + bytes(len(tone)) + tone, 8000)
    result = run(tmp_path, silent_agent() + SAY + "wav = 'two.wav'\nhears = 'one two three'\n")
    assert len(times(result, "vad.started")) == 2
    assert 4968 <= result.steps["a"].end_ms <= 5032


def test_keys_come_one_by_one(tmp_path: Path) -> None:
    result = run(tmp_path, silent_agent() + SAY + "keys = '42#'\nkey_gap_ms = 300\n")
    assert times(result, "dtmf.in") == [2000, 2300, 2600]
    assert result.steps["a"] == (2000, 2700)
    assert times(result, "turn.ended", digits="42") == [2602]


def test_on_hold_no_audio_comes(tmp_path: Path) -> None:
    result = run(tmp_path, silent_agent() + SAY + "hold_ms = 1500\n")
    assert times(result, "call.held", held=True) == [2000]
    assert times(result, "call.held", held=False) == [3500]


def test_steps_wait_for_the_agent(tmp_path: Path) -> None:
    steps = (
        "[[caller]]\nname = 'over'\nwhen = 'agent speaks'\nafter_ms = 100\nnoise_ms = 50\n"
        "[[caller]]\nname = 'then'\nwhen = 'agent silent'\nafter_ms = 500\nwait_ms = 10\n"
        "[[caller]]\nname = 'now'\nafter_ms = 30\nhang_up = true\n"
    )
    result = run(tmp_path, "[agent]\nsays = ['Hello there.']\n" + steps)
    (began,), (ended,) = times(result, "playout.started"), times(result, "playout.finished")
    assert result.steps["over"].begin_ms == began + 100
    assert result.steps["then"].begin_ms == ended + 500
    assert times(result, "call.ended", reason="caller_hung_up") == [ended + 540]


def test_an_agent_that_never_speaks_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    steps = "[[caller]]\nname = 'a'\nwhen = 'agent speaks'\nwait_ms = 10\n"
    result = run(tmp_path, "[settings.turn]\naway_ms = 0\n[agent]\nsays = ['']\n" + steps)
    assert result.failures == ("the caller never came to 'a': it waited for 'agent speaks' in vain",)
    assert result.duration_ms < 120_000


def test_the_caller_lingers_as_long_as_told(tmp_path: Path) -> None:
    result = run(tmp_path, "linger_ms = 700\n" + silent_agent() + "[[caller]]\nwhen = 'agent silent'\nwait_ms = 1\n")
    (ended,) = times(result, "playout.finished")
    assert 700 <= result.duration_ms - ended <= 732


# The agent.


def test_the_agent_speaks_at_the_pace_of_its_text(tmp_path: Path) -> None:
    result = run(tmp_path, "[agent]\nsays = ['Hello. How are you?']\n[[caller]]\nwait_ms = 10\n")
    assert times(result, "tts.started") == [52, 52]
    assert times(result, "playout.started") == [60]
    (done, _) = [event for event in result.events if event.name == "tts.done"]
    assert done.fields["duration_ms"] == 60 * len("Hello.")
    assert times(result, "playout.finished") == [60 + 60 * len("Hello.How are you?") - 20]


def test_the_last_text_repeats_and_times_too(tmp_path: Path) -> None:
    steps = "".join(f"[[caller]]\nname = '{n}'\nwhen = 'agent silent'\nafter_ms = 100\nkeys = '{n}#'\n" for n in (1, 2))
    result = run(tmp_path, "[agent]\nsays = ['Hi.', 'Yes.']\nanswer_ms = [50, 400]\n" + steps)
    assert texts(result, "llm.sentence") == ["Hi.", "Yes.", "Yes."]
    for ended, heard in zip(times(result, "turn.ended"), times(result, "tts.started")[1:], strict=True):
        assert heard - ended == BUS_MS + 400


def test_a_silent_turn_has_no_answer_and_a_mute_one_no_audio(tmp_path: Path) -> None:
    keys = "[[caller]]\nwhen = 'agent silent'\nkeys = '1#'\n"
    assert times(run(tmp_path, silent_agent("silent_turns = [1]") + keys), "llm.done", turn=1) == []
    mute = run(tmp_path, silent_agent("mute_turns = [1]") + keys)
    assert len(times(mute, "llm.done", turn=1)) == 1
    assert times(mute, "tts.started", turn=1) == []


def test_an_empty_text_is_an_answer_without_a_sentence(tmp_path: Path) -> None:
    keys = "[[caller]]\nwhen = 'agent silent'\nkeys = '1#'\n[[caller]]\nwait_ms = 20000\n"
    result = run(tmp_path, "[settings.turn]\naway_ms = 0\n[agent]\nsays = ['Hi.', '']\n" + keys)
    assert len(times(result, "llm.done", turn=1, sentences=0)) == 1
    assert times(result, "failure") == []


# The bus.


def heard_through(faults: Faults, count: int) -> list[int]:
    world, heard = World(faults), list[int]()
    world.follow(lambda event: heard.append(world.now_ms), faulty=True)
    for number in range(count):
        world.at(100 * number, lambda: world.say(PlayoutStarted, utterance_id=0, media_time_ms=0) and None)
    world.run(lambda: False, 10_000)
    return heard


def test_what_is_said_is_heard_a_moment_later() -> None:
    assert heard_through(Faults(), 2) == [BUS_MS, 100 + BUS_MS]


def test_events_can_be_lost_and_repeated() -> None:
    assert heard_through(Faults(drop=("playout.started#1",)), 2) == [100 + BUS_MS]
    assert heard_through(Faults(drop=("playout.started",)), 2) == []
    assert heard_through(Faults(duplicate=("playout.started#2",)), 2) == [BUS_MS, 102, 102 + DUPLICATE_MS]
    assert heard_through(Faults(drop=("playout.paused",)), 1) == [BUS_MS]


def test_what_was_lost_on_the_way_was_said_all_the_same() -> None:
    world, at_once = World(Faults(drop=("playout.started",))), list[Event]()
    world.follow(at_once.append, at_once=True)
    world.say(PlayoutStarted, utterance_id=0, media_time_ms=0)
    assert world.events == [SeenEvent("playout.started", 0, {"utterance_id": 0, "media_time_ms": 0})]
    assert len(at_once) == 1


def test_time_stops_at_its_limit_and_when_it_is_over() -> None:
    world, done = World(), list[int]()
    for at_ms in (10, 20, 30):
        world.at(at_ms, lambda at_ms=at_ms: done.append(at_ms))  # type: ignore[misc]
    world.run(lambda: bool(done), 100)
    assert done == [10]
    world.run(lambda: False, 25)
    assert (done, world.now_ms) == ([10, 20], 20)


# A run.


def test_what_is_expected_in_vain_fails(tmp_path: Path) -> None:
    result = run(tmp_path, "[[caller]]\nwait_ms = 10\n", FAIL)
    assert not result.passed
    assert result.failures == ("expected turn.away within 1 ms; none came",)


def test_a_setting_of_the_environment_that_is_wrong_is_a_failure(tmp_path: Path) -> None:
    result = run_virtual(scenario_of(tmp_path, QUESTION), {"CALLBUS_TURN__INTERRUPTION": "perhaps"})
    assert "CALLBUS_TURN__INTERRUPTION" in result.failures[0]


def test_settings_of_the_environment_count(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, QUESTION)
    assert run_virtual(scenario, {}).passed
    fixed = {"CALLBUS_TURN__ENDPOINTING": "fixed", "CALLBUS_TURN__ENDPOINTING_FIXED_MS": "1500"}
    assert "the first such event came at" in run_virtual(scenario, fixed).failures[0]
