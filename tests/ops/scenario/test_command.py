"""``callbus scenario``: verdicts, exit codes, and what stands under a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.commands.scenario import scenario
from tests.ops.scenario.files import QUESTION, write

pytestmark = pytest.mark.unit

WRONG = QUESTION.replace("A question is", "Nothing is").replace("within_ms = 600", "within_ms = 100")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(scenario, [str(argument) for argument in arguments])


def test_what_passes_is_one_line_and_a_sum(tmp_path: Path) -> None:
    result = call("run", write(tmp_path, QUESTION))
    assert result.exit_code == 0
    assert "pass  A question is answered" in result.output
    assert "end of turn    1 passed" in result.output
    assert "1 scenario, 0 failed, 0 skipped" in result.output


def test_what_fails_is_told_with_what_happened_around_it(tmp_path: Path) -> None:
    write(tmp_path, QUESTION, "good.toml")
    write(tmp_path, WRONG, "wrong.toml")
    result = call("run", tmp_path)
    assert result.exit_code == 1
    assert "FAIL  Nothing is answered" in result.output
    assert "expected turn.ended within 100 ms after 'question end'" in result.output
    assert "> caller: 'question' begins" in result.output
    assert "turn.ended  turn=1  why='semantic'  text='where is my card'" in result.output
    assert "playout.started  utterance_id=0" not in result.output, "the greeting is far away from the failure"
    assert "end of turn    1 passed  1 failed" in result.output


def test_filter_chooses_by_title_rule_and_path(tmp_path: Path) -> None:
    write(tmp_path, QUESTION, "good.toml")
    write(tmp_path, WRONG, "wrong.toml")
    assert call("run", tmp_path, "--filter", "QUESTION IS").exit_code == 0
    assert call("run", tmp_path, "--filter", "wrong.toml").exit_code == 1
    nothing = call("run", tmp_path, "--filter", "elephant")
    assert nothing.exit_code == 1
    assert "elephant" in nothing.stderr


def test_verbose_tells_everything(tmp_path: Path) -> None:
    output = call("run", write(tmp_path, QUESTION), "--verbose").output
    assert "0  call.answered" in output
    assert "call.ended  reason='caller_hung_up'" in output


def test_json_is_json_alone(tmp_path: Path) -> None:
    write(tmp_path, QUESTION, "a.toml")
    write(tmp_path, WRONG, "b.toml")
    told = json.loads(call("run", tmp_path, "--json").stdout)
    assert [(each["title"], each["passed"]) for each in told] == [
        ("A question is answered", True),
        ("Nothing is answered", False),
    ]
    assert "events" not in told[0]
    (whole,) = json.loads(call("run", tmp_path / "a.toml", "--json", "--verbose").stdout)
    assert whole["events"][0]["name"] == "call.answered"
    assert set(whole["steps"]) == {"question"}


def test_what_is_for_sip_is_not_run_in_virtual_time(tmp_path: Path) -> None:
    result = call("run", write(tmp_path, "runs = ['sip']\n" + QUESTION))
    assert result.exit_code == 1
    assert "none of these scenarios runs in the way 'virtual'" in result.stderr


def test_recordings_that_are_not_here_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLBUS_TEST_SPEECH", raising=False)
    result = call("run", write(tmp_path, QUESTION.replace('say = "where is my card"', "wav = 'speech:yes.wav'")))
    assert result.exit_code == 0
    assert "skip  A question is answered" in result.output
    assert "CALLBUS_TEST_SPEECH" in result.output


def test_a_mistake_in_a_file_is_exit_code_two(tmp_path: Path) -> None:
    result = call("run", write(tmp_path, QUESTION.replace("turn.ended", "turn.endd")))
    assert result.exit_code == 2
    assert "is 'turn.ended' meant?" in result.stderr


def test_recordings_are_kept_of_real_calls_only(tmp_path: Path) -> None:
    result = call("run", write(tmp_path, QUESTION), "--record", tmp_path)
    assert result.exit_code == 2
    assert "--record needs --sip" in result.stderr


def test_check_names_every_mistake_of_every_file(tmp_path: Path) -> None:
    assert call("check", write(tmp_path, QUESTION, "good.toml")).output == "1 scenario, no mistakes\n"
    write(tmp_path, QUESTION.replace("turn.ended", "turn.endd"), "bad.toml")
    write(tmp_path, "title =", "worse.toml")
    result = call("check", tmp_path)
    assert result.exit_code == 1
    assert "bad.toml: [[expect]] number 1, event" in result.stderr
    assert "worse.toml: it is no TOML" in result.stderr
    told = json.loads(call("check", tmp_path, "--json").stdout)
    assert told["scenarios"] == 3
    assert len(told["mistakes"]) == 2


def test_list(tmp_path: Path) -> None:
    write(tmp_path, QUESTION)
    assert call("list", tmp_path).output.split("  ")[0] == "end of turn"
    (row,) = json.loads(call("list", tmp_path, "--json").stdout)
    assert row["side"] == "must answer"


def test_an_empty_folder(tmp_path: Path) -> None:
    for command in ("run", "list", "check"):
        result = call(command, tmp_path)
        assert result.exit_code == 2
        assert "no scenario lies in this folder" in result.stderr
