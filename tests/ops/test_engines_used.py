"""Which engines did a call's work."""

from __future__ import annotations

import msgspec
import pytest

from config.settings import Settings
from ops.callview import view_of
from ops.engines_used import EnginesUsed, count_engine, idle_engines, used_text
from ops.hearing import EventGoal
from ops.judging import judge_events
from schemas.asr import AsrFinal
from schemas.llm import LlmDone
from schemas.tts import TtsStarted
from tests.schemas.samples import SAMPLES

pytestmark = pytest.mark.unit


def sample(event_type: type, **changes: object) -> object:
    found = next(each for each in SAMPLES if type(each) is event_type)
    return msgspec.structs.replace(found, **changes)


def used_by(*pairs: tuple[type, str]) -> EnginesUsed:
    used: EnginesUsed = {}
    for event_type, engine in pairs:
        count_engine(used, sample(event_type, engine=engine))  # type: ignore[arg-type]
    return used


def test_each_stage_by_what_it_gave() -> None:
    used = used_by(
        (AsrFinal, "vosk"), (LlmDone, "openai"), (LlmDone, "openai"), (LlmDone, "scripted"), (TtsStarted, "espeak")
    )
    assert used_text(used) == "asr vosk, llm openai 2 + scripted 1, tts espeak"


def test_what_names_no_engine_counts_for_none() -> None:
    assert used_by((LlmDone, "")) == {}
    assert used_text({}) == ""


def settings(**engines: str) -> Settings:
    chosen = Settings()
    for stage, engine in engines.items():
        section = msgspec.structs.replace(getattr(chosen, stage), engine=engine)
        chosen = msgspec.structs.replace(chosen, **{stage: section})
    return chosen


def test_an_engine_that_did_nothing_is_named() -> None:
    used = used_by((LlmDone, "scripted"), (TtsStarted, "espeak"))
    assert idle_engines(used, settings()) == []
    assert idle_engines(used, settings(llm="openai")) == ["llm: scripted stood in for openai, which did nothing"]


def test_one_that_did_some_of_it_is_not_idle() -> None:
    used = used_by((LlmDone, "openai"), (LlmDone, "scripted"))
    assert idle_engines(used, settings(llm="openai")) == []


def test_a_class_of_ones_own_has_any_name() -> None:
    assert idle_engines(used_by((TtsStarted, "mine")), settings(tts="package.module:Voice")) == []
    assert idle_engines(used_by((TtsStarted, "pipecat:CartesiaTTSService")), settings(tts="pipecat")) == []


def test_a_call_in_which_another_stood_in_is_no_goal_reached_by_the_events() -> None:
    goal = EventGoal(turns=0, answers=1, failures=0, ended=("agent_hung_up",))
    findings = judge_events(view_of([]), goal, ["llm: scripted stood in for openai, which did nothing"])
    assert findings[-1] == (False, "llm: scripted stood in for openai, which did nothing")
