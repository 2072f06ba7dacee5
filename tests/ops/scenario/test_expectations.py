"""The judge: a wrong expectation of each kind is found, and said in words that name the times."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.scenario.expectations import SeenEvent, StepTimes, check
from schemas.subjects import EVENT_BY_NAME
from tests.ops.scenario.files import HEAD, scenario_of

pytestmark = pytest.mark.unit

STEPS = {"cough": StepTimes(5000, 5120)}
CALLER = "[[caller]]\nname = 'cough'\ncough_ms = 120\n"
RESUMED = {"turn": 1, "utterance_id": 0}
EVENTS = (
    SeenEvent("turn.resumed", 2000, {**RESUMED, "why": "silence"}),
    SeenEvent("playout.paused", 5400, {"utterance_id": 0, "media_time_ms": 5400}),
    SeenEvent("turn.resumed", 7000, {**RESUMED, "why": "noise"}),
    SeenEvent("turn.ended", 9000, {"turn": 1, "why": "semantic", "text": "Where's my card?"}),
    SeenEvent("turn.ended", 12000, {"turn": 2, "why": "dtmf", "digits": "42"}),
)


def judge(folder: Path, text: str) -> list[str]:
    return check(scenario_of(folder, HEAD + CALLER + text), EVENTS, STEPS)


PASSING = {
    "in time": "[[expect]]\nevent='turn.resumed'\nafter='cough end'\nwithin_ms=1880\n",
    "not before": "[[expect]]\nevent='turn.resumed'\nafter='cough end'\nnot_before_ms=1880\n",
    "at some time": "[[expect]]\nevent='turn.ended'\n",
    "from the begin of the call": "[[expect]]\nevent='turn.resumed'\nwithin_ms=2000\n",
    "after an event": "[[expect]]\nevent='turn.ended'\nafter='event turn.ended#2'\nwithin_ms=0\n",
    "with fields": "[[expect]]\nevent='turn.resumed'\nafter='cough'\nfields={why='noise', utterance_id=0}\n",
    "text as it sounds": "[[expect]]\nevent='turn.ended'\nfields={text='wheres my card'}\n",
    "so many": "[[expect]]\nevent='turn.ended'\ncount=2\n",
    "never": "[[never]]\nevent='turn.interrupted'\n",
    "never with fields": "[[never]]\nevent='turn.ended'\nfields={why='silence'}\n",
    "never before": "[[never]]\nevent='turn.ended'\nuntil='cough end + 3880'\n",
    "never between": "[[never]]\nevent='turn.ended'\nafter='event turn.ended + 1'\nuntil='event turn.ended#2'\n",
    "never after what never came": "[[never]]\nevent='turn.ended'\nafter='event turn.away'\n",
    "what the caller said": "[outcome]\ncaller_said=['wheres my card', '42']\nagent_heard=[]\ninterrupted=[]\n",
}

FAILING = {
    "too late": (
        "[[expect]]\nevent='turn.resumed'\nafter='cough end'\nwithin_ms=900\n",
        "expected turn.resumed within 900 ms after 'cough end' (at 5120 ms); the first such event came at 7000 ms",
    ),
    "too early": (
        "[[expect]]\nevent='turn.resumed'\nafter='cough end'\nnot_before_ms=2000\nwithin_ms=3000\n",
        "expected turn.resumed between 2000 and 3000 ms after 'cough end' (at 5120 ms); "
        "it came at 7000 ms, 120 ms too early",
    ),
    "too early, any time": (
        "[[expect]]\nevent='turn.ended'\nnot_before_ms=9500\n",
        "expected turn.ended not before 9500 ms; it came at 9000 ms, 500 ms too early",
    ),
    "never came": ("[[expect]]\nevent='turn.away'\n", "expected turn.away; none came"),
    "came before": (
        "[[expect]]\nevent='playout.paused'\nafter='event turn.ended'\n",
        "expected playout.paused after 'event turn.ended' (at 9000 ms); "
        "none came from there on, the last one came at 5400 ms",
    ),
    "other fields": (
        "[[expect]]\nevent='turn.resumed'\nafter='cough'\nfields={why='backchannel'}\n",
        "expected turn.resumed with why 'backchannel' after 'cough' (at 5000 ms); "
        "the first turn.resumed from there on came at 7000 ms with why 'noise'",
    ),
    "other text": (
        "[[expect]]\nevent='turn.ended'\nfields={text='where is my cat'}\n",
        'the first turn.ended from there on came at 9000 ms with text "Where\'s my card?"',
    ),
    "a point that never was": (
        "[[expect]]\nevent='turn.ended'\nafter='event turn.away#2'\n",
        "expected turn.ended after 'event turn.away#2'; that point was never reached",
    ),
    "too many": (
        "[[expect]]\nevent='turn.ended'\ncount=1\n",
        "expected turn.ended exactly 1 times; 2 came, at 9000, 12000 ms",
    ),
    "too few": (
        "[[expect]]\nevent='turn.ended'\nafter='event turn.ended#2'\ncount=2\n",
        "exactly 2 times; 1 came, at 12000 ms",
    ),
    "came though never": (
        "[[never]]\nevent='turn.ended'\nafter='cough'\n",
        "turn.ended must never come after 'cough' (at 5000 ms); it came at 9000 ms with why 'semantic'",
    ),
    "came before the limit": (
        "[[never]]\nevent='turn.ended'\nuntil='event turn.ended#2'\n",
        "turn.ended must never come before 'event turn.ended#2' (at 12000 ms); it came at 9000 ms",
    ),
    "never, until what never came": (
        "[[never]]\nevent='turn.ended'\nafter='cough'\nuntil='event turn.away'\n",
        "turn.ended must never come after 'cough' (at 5000 ms); it came at 9000 ms",
    ),
    "the caller said other words": (
        "[outcome]\ncaller_said=['where is my cat', '42']\n",
        "expected that the caller said ['where is my cat', '42']; the context has [\"Where's my card?\", '42']",
    ),
    "the agent was not heard": (
        "[outcome]\nagent_heard=['Hello.']\n",
        "expected that the caller heard of the agent ['Hello.']; the context has []",
    ),
    "no line was cut": ("[outcome]\ninterrupted=[true]\n", "expected interrupted lines [True]; the context has []"),
}


@pytest.mark.parametrize("case", PASSING)
def test_what_holds_passes(case: str, tmp_path: Path) -> None:
    assert judge(tmp_path, PASSING[case]) == []


@pytest.mark.parametrize("case", FAILING)
def test_what_does_not_hold_is_found(case: str, tmp_path: Path) -> None:
    text, wanted = FAILING[case]
    (failure,) = judge(tmp_path, text)
    assert wanted in failure


def test_a_step_that_never_came(tmp_path: Path) -> None:
    text = HEAD + "[[caller]]\nname='cough'\nwhen='agent speaks'\ncough_ms=5\n[[never]]\nevent='failure'\n"
    assert check(scenario_of(tmp_path, text), EVENTS, {}) == [
        "the caller never came to 'cough': it waited for 'agent speaks' in vain"
    ]


def test_what_was_heard_is_folded_as_in_a_call(tmp_path: Path) -> None:
    sentence = {"turn": 0, "utterance_id": 0, "index": 0, "text": "Good morning to you."}
    words = [
        {"text": word, "start_ms": 500 * n, "end_ms": 500 * n + 500}
        for n, word in enumerate(["Good", "morning", "to", "you."])
    ]
    events = [
        SeenEvent("llm.sentence", 10, sentence),
        SeenEvent(
            "tts.done",
            20,
            {"turn": 0, "utterance_id": 0, "index": 0, "frames": 100, "duration_ms": 2000, "words": words},
        ),
        SeenEvent("playout.flushed", 1300, {"utterance_id": 0, "media_time_ms": 1300, "index": 0, "sent_ms": 1200}),
    ]
    assert set(EVENT_BY_NAME) >= {event.name for event in events}
    outcome = "[outcome]\nagent_heard=['Good morning']\ninterrupted=[true]\n"
    assert check(scenario_of(tmp_path, HEAD + CALLER + outcome), events, STEPS) == []
    (failure,) = check(scenario_of(tmp_path, HEAD + CALLER + outcome.replace("morning", "morning to")), events, STEPS)
    assert "the context has ['Good morning']" in failure
