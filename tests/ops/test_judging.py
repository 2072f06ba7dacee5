"""By what a demonstration is judged, and what the events must show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from config.load import load
from ops.callview import CallView, view_of
from ops.commands.demo import DEMOS
from ops.hearing import Demonstration, EventGoal, Utterance, Verdict, load_demonstration
from ops.judging import (
    Decision,
    Judgement,
    answered_turns,
    contributions,
    decide,
    judge_events,
    judgement_lines,
    sentences_heard,
)
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, EndedBy
from schemas.failure import Failure
from schemas.llm import LlmSentence
from schemas.playout import PlayoutMark, PlayoutStarted
from schemas.turn import TurnEnded
from tests.ops.recorded import CALL_ID, EPOCH_US, call_events

pytestmark = pytest.mark.unit

GOAL = EventGoal(turns=2, answers=1, failures=0, ended=("agent_hung_up", "caller_hung_up"))
ALL = Decision(listen=True, by_events=True, why="piper speaks")


@pytest.fixture(scope="module")
def bank() -> Demonstration:
    return load_demonstration(DEMOS / "bank.toml")


def at(ms: int, **rest: Any) -> dict[str, Any]:
    return {"call_id": CALL_ID, "tenant": "default", "at_us": EPOCH_US + ms * 1000, **rest}


def call(turns: list[tuple[int, int, int]], *more: Event, reason: str = "caller_hung_up") -> CallView:
    """A call of turns: (spoken from ms, to ms, sentences of the answer that were heard)."""
    events: list[Event] = [
        CallOffered(**at(-20), edge="edge-1"),
        CallAnswered(**at(0), edge="edge-1", codec="PCMU", media_epoch_us=EPOCH_US),
    ]
    for turn, (start, end, heard) in enumerate(turns, start=1):
        events.append(
            TurnEnded(**at(end + 500), turn=turn, why="silence", text="words", speech_start_ms=start, speech_end_ms=end)
        )
        of = {"utterance_id": turn * 100}
        events.append(PlayoutStarted(**at(end + 600, **of), media_time_ms=end + 600))
        for index in range(heard):
            events.append(LlmSentence(**at(end + 550, **of), turn=turn, index=index, text="Yes."))
            events.append(PlayoutMark(**at(end + 900 + index, **of), index=index, media_time_ms=end + 900 + index))
    ended = CallEnded(
        **at(60_000), edge="edge-1", result=CallResult.COMPLETED if reason != "media_timeout" else CallResult.FAILED,
        reason=reason, ended_by=EndedBy.CALLER, duration_ms=60_000,
    )  # fmt: skip
    return view_of([*events, *more, *([ended] if reason else [])])


GOOD = [(3000, 4000, 2), (12_000, 13_000, 1), (20_000, 21_000, 1)]


def wrong(view: CallView) -> list[int]:
    """Numbers of the findings that say no: understood, answered, failures, ended."""
    return [number for number, finding in enumerate(judge_events(view, GOAL)) if not finding.ok]


def test_a_conversation_reaches_the_goal() -> None:
    assert wrong(call(GOOD)) == []
    assert wrong(call(GOOD, reason="agent_hung_up")) == []


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (lambda: call(GOOD[:1]), [0]),
        (lambda: call([*GOOD[:2], (20_000, 21_000, 0)]), [1]),
        (lambda: call([(3000, 4000, 0), *GOOD[1:]]), [1]),
        (lambda: call(GOOD, Failure(**at(9000), code="engine_failed", stage="tts")), [2]),
        (lambda: call(GOOD, reason="media_timeout"), [3]),
        (lambda: call(GOOD, reason=""), [3]),
        (lambda: call([], reason=""), [0, 3]),
    ],
    ids=["once", "last unanswered", "first unanswered", "a failure", "media timeout", "not ended", "nothing"],
)
def test_what_is_missing_is_found(make: Callable[[], CallView], numbers: list[int]) -> None:
    assert wrong(make()) == numbers


def test_the_recorded_call_of_the_other_tests() -> None:
    findings = judge_events(view_of(call_events()), GOAL)
    assert [finding.ok for finding in findings] == [True, False, False, True]
    assert "bus_disconnected" in findings[2].text


def test_a_caller_who_goes_on_speaking_has_said_one_thing() -> None:
    cut_in_two = call([(3000, 4000, 0), (5000, 6000, 1), (14_000, 15_000, 1)])
    assert [[turn.turn for turn in turns] for turns in contributions(cut_in_two)] == [[1, 2], [3]]
    assert wrong(cut_in_two) == []
    assert answered_turns(cut_in_two, GOAL) == (2, 2)
    waited = call([(3000, 4000, 0), (12_000, 13_000, 1), (20_000, 21_000, 1)])
    assert len(contributions(waited)) == 3
    assert wrong(waited) == [1]


def test_fillers_are_no_answer() -> None:
    filler = LlmSentence(**at(4600, utterance_id=100), turn=1, index=0, text="One moment.", filler=True)
    mark = PlayoutMark(**at(5500, utterance_id=100), index=0, media_time_ms=5500)
    assert sentences_heard(call([(3000, 4000, 0), *GOOD[1:]], filler, mark), 1) == 0


@pytest.mark.parametrize(
    ("given", "by_events", "why"),
    [
        ({}, False, ""),
        ({"CALLBUS_ASR__ENGINE": "vosk"}, False, ""),
        ({"CALLBUS_LLM__ENGINE": "llama_cpp"}, True, "llama_cpp answers in words of its own"),
        ({"CALLBUS_TTS__ENGINE": "piper"}, True, "voice of piper"),
        ({"CALLBUS_LLM__AGENT": "shop"}, True, "the agent shop"),
        ({"CALLBUS_LLM__AGENT": "/agents/bank.toml"}, False, ""),
    ],
)
def test_by_itself_the_audio_decides_where_it_can(
    given: dict[str, str], by_events: bool, why: str, bank: Demonstration
) -> None:
    found = decide("auto", load(given), bank)
    assert (found.listen, found.by_events) == (True, by_events)
    assert why in found.why
    both = decide("auto", load({"CALLBUS_LLM__ENGINE": "openai", "CALLBUS_TTS__ENGINE": "kokoro"}), bank)
    assert both.why == "openai answers in words of its own, and the recogniser may not understand the voice of kokoro"


def test_whoever_is_asked_for_decides(bank: Demonstration) -> None:
    settings = load({"CALLBUS_LLM__ENGINE": "openai"})
    assert decide("audio", settings, bank)[:2] == (True, False)
    assert decide("events", load({}), bank)[:2] == (False, True)


def test_the_verdict_says_who_decided() -> None:
    heard = Verdict((Utterance(1500, "how can i help you"),), ("goodbye",))
    events = judge_events(call(GOOD), GOAL)
    lines = judgement_lines(Judgement(ALL, heard, events))
    assert "   1.50 s  how can i help you" in lines
    assert "judged by the audio: 1 phrase(s) of the goal not heard" in lines
    assert "judged by the events, which decide: piper speaks" in lines
    assert lines[-1] == "GOAL REACHED: every turn was answered; what was said, nobody judged"
    bad = judgement_lines(Judgement(ALL, heard._replace(missing=()), judge_events(call(GOOD[:1]), GOAL)))
    assert "judged by the audio: goal reached" in bad
    assert any(line.startswith("  NOT  the caller was understood 1 times") for line in bad)
    assert bad[-1] == "GOAL NOT REACHED"


def test_without_a_listener_the_events_stand_alone() -> None:
    judgement = Judgement(Decision(False, True, "as --judge says"), None, judge_events(call(GOOD), GOAL))
    assert judgement.reached
    assert judgement_lines(judgement)[0] == "judged by the events, which decide: as --judge says"


def test_the_audio_alone_says_what_was_not_heard() -> None:
    decision = Decision(True, False, "")
    assert judgement_lines(Judgement(decision, Verdict((), ("goodbye",)), ()))[-2:] == [
        "NOT HEARD: goodbye",
        "GOAL NOT REACHED",
    ]
    assert judgement_lines(Judgement(decision, Verdict((), ()), ()))[-1].startswith("GOAL REACHED: the caller heard")
    assert not Judgement(decision, None, ()).reached


def test_the_goal_of_the_bank_fits_to_its_sentences(bank: Demonstration) -> None:
    assert bank.name == "bank"
    assert bank.events.turns <= len(bank.say)
