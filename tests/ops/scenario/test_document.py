"""Scenario files: what they say is read, and every mistake is named with its table, its key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.scenario.document import load_scenario, load_scenarios, settings_of
from ops.scenario.grammar import Phrase, Reference, parse_reference, parse_say
from ops.scenario.mistakes import ScenarioError
from tests.ops.scenario.files import CALLER, EXPECT, HEAD, QUESTION, scenario_of, write

pytestmark = pytest.mark.unit


def test_a_file_is_read(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, QUESTION + '[settings.turn]\nendpointing = "fixed"\naway_ms = 0\n')
    assert scenario.title == "A question is answered"
    assert scenario.runs == ("virtual",)
    (step,) = scenario.caller
    assert (step.name, step.action, step.level, step.when) == ("question", "say", -20.0, "agent silent")
    turn = settings_of(scenario, {}).turn
    assert (turn.endpointing, turn.away_ms, turn.vad_start_ms) == ("fixed", 0, 200)


def test_steps_without_a_name_are_numbered(tmp_path: Path) -> None:
    scenario = scenario_of(
        tmp_path,
        HEAD + "[[caller]]\nwait_ms = 5\n[[caller]]\nkeys = '1'\n[[never]]\nevent = 'failure'\nafter = 'step 2'\n",
    )
    assert [step.name for step in scenario.caller] == ["step 1", "step 2"]


def test_the_environment_counts_below_the_scenario(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, QUESTION + "[settings.turn]\nvad_stop_ms = 300\n")
    turn = settings_of(scenario, {"CALLBUS_TURN__VAD_STOP_MS": "400", "CALLBUS_TURN__VAD_START_MS": "150"}).turn
    assert (turn.vad_stop_ms, turn.vad_start_ms) == (300, 150)


def test_the_mistakes_of_all_tables_are_named_at_once(tmp_path: Path) -> None:
    text = (
        "side = 'must obey'\nrule = 'x'\ntitel = 'y'\n[agent]\nsays = 'Hello'\n[[caller]]\nsay = 'x'\n"
        "[[caller]]\nsya = 'x'\n[[caller]]\nwhen = 'never'\n[[never]]\nevent = 5\n"
    )
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write(tmp_path, text))
    begins = [
        "the file side = 'must obey' is not", "the file has no key 'titel'", "[agent] says = 'Hello' is not",
        "[[caller]] number 2, has no key 'sya'", "[[caller]] number 3, when = 'never'", "[[never]] number 1, event = 5",
    ]  # fmt: skip
    assert len(caught.value.mistakes) == len(begins)
    for mistake, begin in zip(caught.value.mistakes, begins, strict=True):
        assert mistake.startswith(begin), mistake


STEP = "[[caller]]\nname = 'a'\n"
MISTAKES = {
    "no such key": (QUESTION + "sya = 1\n", "[[expect]] number 1, has no key 'sya'", "its keys are event, after"),
    "a close key": (HEAD + "[[caller]]\nsya = 'x'\n", "[[caller]] number 1, has no key 'sya' (is 'say' meant?)", ""),
    "no such table": (QUESTION + "[agnet]\n", "the file has no key 'agnet' (is 'agent' meant?)", ""),
    "missing key": ("title = 'x'\nrule = 'y'\n" + CALLER + EXPECT, "the file lacks the key 'side'", "'must wait'"),
    "wrong side": (
        QUESTION.replace("must answer", "must obey"),
        "the file side = 'must obey' is not allowed",
        "one of 'must interrupt', 'must not interrupt', 'must wait', 'must answer'",
    ),
    "wrong type": (
        HEAD + "[[caller]]\ncough_ms = 'long'\n" + EXPECT,
        "[[caller]] number 1, cough_ms = 'long' is not allowed",
        "a whole number from 1 to 600000",
    ),
    "negative": (HEAD + "[[caller]]\ncough_ms = -3\n", "cough_ms = -3 is not allowed", "from 1 to 600000"),
    "wrong way": ("runs = ['telepathy']\n" + QUESTION, "[runs] entry 1 = 'telepathy'", "one of 'virtual', 'sip'"),
    "wrong keys": (HEAD + "[[caller]]\nkeys = '12x'\n", "keys = '12x' is not allowed", "0-9*#A-D"),
    "no caller": (HEAD + "[[never]]\nevent = 'failure'\n", "[[caller]] is missing", "wait_ms"),
    "no action": (
        HEAD + STEP + EXPECT,
        "[[caller]] number 1 ('a'), exactly one action",
        "it has none; actions are say",
    ),
    "two actions": (
        HEAD + STEP + "say = 'x'\nkeys = '1'\n" + EXPECT,
        "exactly one action is needed, it has say and keys",
        "actions are say, wav",
    ),
    "nothing said": (HEAD + STEP + "say = ' [pause 300]'\n" + EXPECT, "say: there are no words in it", "wait_ms"),
    "level of a wait": (
        HEAD + STEP + "wait_ms = 5\nlevel_dbfs = -3\n",
        "level_dbfs: wait_ms makes no sound",
        "say, wav",
    ),
    "no such recording": (HEAD + STEP + "wav = 'none.wav'\n" + EXPECT, "wav: there is no file", "none.wav"),
    "the same name twice": (QUESTION + CALLER, "[[caller]] number 2 ('question'), name: another step", ""),
    "a name that is a reference": (
        HEAD + "[[caller]]\nname = 'a end'\nwait_ms = 5\n",
        "may not begin with 'event '",
        "",
    ),
    "after the end": (
        HEAD + "[[caller]]\nhang_up = true\n" + CALLER + EXPECT,
        "hang_up: nothing can follow",
        "last step",
    ),
    "nothing expected": (HEAD + CALLER, "nothing is expected", "[[expect]], [[never]] or [outcome]"),
    "no such event": (
        QUESTION.replace("turn.ended", "turn.endd"),
        "[[expect]] number 1, event: there is no event 'turn.endd' (is 'turn.ended' meant?)",
        "events are asr.final",
    ),
    "no such field": (
        QUESTION + "fields = { whi = 'x' }\n",
        "[[expect]] number 1, fields: turn.ended has no field 'whi' (is 'why' meant?)",
        "its fields are turn, why",
    ),
    "no such label": (
        QUESTION.replace("question end", "qestion end"),
        "[[expect]] number 1, after: no step is named 'qestion' (is 'question' meant?)",
        "there are question",
    ),
    "no such event in a reference": (
        QUESTION.replace("question end", "event turn.endd#2"),
        "[[expect]] number 1, there is no event 'turn.endd'".replace("1, ", "1, after: "),
        "",
    ),
    "until of never": (
        QUESTION + "[[never]]\nevent = 'failure'\nuntil = 'answer'\n",
        "[[never]] number 1, until: no step is named 'answer'",
        "",
    ),
    "window upside down": (QUESTION + "not_before_ms = 700\n", "within_ms = 600 lies before not_before_ms = 700", ""),
    "no such section": (
        QUESTION + "[settings.turns]\nx = 1\n",
        "[settings.turns] x: [turns] is no section",
        "there are: nats, log",
    ),
    "no such setting": (
        QUESTION + "[settings.turn]\ninteruption = 'off'\n",
        "[settings.turn] interuption: [turn] interuption is no setting",
        "interruption_min_ms",
    ),
    "wrong setting": (
        QUESTION + "[settings.turn]\ninterruption = 'never'\n",
        "[settings.turn] interruption: [turn] interruption = 'never' is not allowed",
        "one of pause, confirm, off",
    ),
    "a fault that is none": (QUESTION + "[faults]\ndrop = ['playout.begun']\n", "[faults] drop: there is no event", ""),
    "a fault without number": (
        QUESTION + "[faults]\nduplicate = ['playout.started#x']\n",
        "[faults] duplicate: 'playout.started#x'",
        "a number from 1 on",
    ),
    "an outcome of two lengths": (
        QUESTION + "[outcome]\nagent_heard = ['a']\ninterrupted = [true, false]\n",
        "[outcome] interrupted has 2 entries and agent_heard 1",
        "",
    ),
    "no agent file": (QUESTION + "[agent]\nfile = 'none.toml'\n", "[agent] file: there is no file", "none.toml"),
    "no time to answer": (QUESTION + "[agent]\nanswer_ms = []\n", "[agent] answer_ms: the list is empty", ""),
    "no such noise": (
        QUESTION + "[background]\nnoise = 'blue'\n",
        "[background] noise: there is no file",
        "white, pink",
    ),
    "no TOML": ("title = \n", "it is no TOML", "line 1"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named(case: str, tmp_path: Path) -> None:
    text, what, allowed = MISTAKES[case]
    with pytest.raises(ScenarioError) as caught:
        scenario_of(tmp_path, text)
    assert what in str(caught.value)
    assert allowed in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "one.toml"))


def test_every_mistake_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario_of(
            tmp_path, QUESTION.replace("turn.ended", "x").replace("question end", "y") + "[settings.z]\na = 1\n"
        )
    assert len(caught.value.mistakes) == 3


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ScenarioError, match="can't be read"):
        load_scenario(Path("/nowhere/at/all.toml"))
    with pytest.raises(ScenarioError, match="no such file or folder"):
        load_scenarios(Path("/nowhere/at/all"))


def test_a_folder_is_read_in_order_without_its_agents(tmp_path: Path) -> None:
    for name in ("b/two.toml", "a/one.toml", "c.toml"):
        write(tmp_path, QUESTION, name)
    write(tmp_path, "no scenario", "agents/talker.toml")
    paths = [scenario.path.relative_to(tmp_path).as_posix() for scenario in load_scenarios(tmp_path)]
    assert paths == ["a/one.toml", "b/two.toml", "c.toml"]


def test_a_folder_without_scenarios_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no scenario lies in this folder"):
        load_scenarios(tmp_path)


def test_recordings_need_the_folder_that_holds_them(tmp_path: Path) -> None:
    text = HEAD + "[[caller]]\nname = 'question'\nwav = 'speech:clips/yes.wav'\n" + EXPECT
    scenario = scenario_of(tmp_path, text)
    assert "CALLBUS_TEST_SPEECH" in scenario.lacks({})
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "yes.wav").touch()
    environment = {"CALLBUS_TEST_SPEECH": str(tmp_path)}
    scenario = load_scenario(write(tmp_path, text), environment)
    assert scenario.lacks(environment) == ""
    assert scenario.file("speech:clips/yes.wav", environment) == tmp_path / "clips" / "yes.wav"
    with pytest.raises(ScenarioError, match="CALLBUS_TEST_SPEECH with 'speech:' before it"):
        load_scenario(write(tmp_path, text.replace("yes", "no")), environment)


def test_office_noise_needs_it_too(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, QUESTION + "[background]\nnoise = 'office'\n")
    assert scenario.lacks({}) != ""
    assert scenario_of(tmp_path, QUESTION + "[background]\nnoise = 'white'\n").lacks({}) == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Reference()),
        ("cough", Reference(label="cough")),
        ("the long cough end", Reference(label="the long cough", end=True)),
        ("cough end + 300", Reference(label="cough", end=True, offset_ms=300)),
        ("cough - 20", Reference(label="cough", offset_ms=-20)),
        ("event turn.ended", Reference(event="turn.ended")),
        ("event turn.ended#2 + 5", Reference(event="turn.ended", number=2, offset_ms=5)),
    ],
)
def test_points_of_time(text: str, wanted: Reference) -> None:
    assert parse_reference(text) == wanted


def test_pauses_in_what_is_said() -> None:
    assert parse_say("my number is... [pause 700] four two.") == (
        Phrase("my number is", 700, True),
        Phrase("four two", 0, False),
    )
    assert parse_say("[pause 300] hello") == (Phrase("", 300, False), Phrase("hello", 0, False))
