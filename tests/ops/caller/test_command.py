"""``callbus call``: the order of steps, what is printed where, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from config.load import ConfigError
from ops.caller import (
    CallOptions,
    CallReport,
    CallScript,
    Hold,
    Outcome,
    Pause,
    PlayFile,
    PressKeys,
    Resume,
    Say,
    ScriptError,
    StepReport,
    WaitForSilence,
)
from ops.caller.recording import CallRecording
from ops.caller.report import SipResponse
from ops.commands import call as command
from tests.ops.caller.callee import tone

pytestmark = pytest.mark.unit

TARGET = "sip:bank@127.0.0.1"
LISTEN = WaitForSilence(800, 5.0)


def completed() -> CallReport:
    recording = CallRecording()
    recording.heard.put(0, tone(20))
    return CallReport(
        target=TARGET,
        transport="udp",
        outcome=Outcome.COMPLETED,
        reason="script_done",
        sip_status=200,
        responses=[SipResponse(status=180, at_ms=3.2), SipResponse(status=200, at_ms=20.0)],
        ended_by="caller",
        codec="PCMU",
        greeting_ms=120,
        steps=[StepReport(kind="say", start_ms=0, end_ms=900, answer_latency_ms=640)],
        recording=recording,
    )


class Placed:
    """Stands in for ``place_call``."""

    def __init__(self, report: CallReport | Exception) -> None:
        self.report = report
        self.script = CallScript()
        self.options = CallOptions()

    async def __call__(self, target: str, script: CallScript, *, options: CallOptions, progress: Any) -> CallReport:
        self.script, self.options = script, options
        progress(f"calling {target}")
        if isinstance(self.report, Exception):
            raise self.report
        progress(f"{self.report.outcome}: {self.report.reason}")
        return self.report


def run(monkeypatch: pytest.MonkeyPatch, report: CallReport | Exception, *arguments: str) -> tuple[Placed, Result]:
    placed = Placed(report)
    monkeypatch.setattr(command, "place_call", placed)
    return placed, CliRunner().invoke(command.call, [TARGET, *arguments])


def test_steps_run_in_the_order_of_the_command_line(monkeypatch):
    placed, result = run(
        monkeypatch, completed(), "--no-listen", "--say", "one", "--dtmf", "1", "--wait", "0.5", "--say=two",
        "--wav", "a.wav", "--hold", "2", "--dtmf", "2", "--listen", "300",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert placed.script.steps == (
        Say("one"), PressKeys("1"), Pause(0.5), Say("two"), PlayFile(Path("a.wav")), Hold(), Pause(2.0), Resume(),
        PressKeys("2"), WaitForSilence(300, 5.0),
    )  # fmt: skip


def test_it_listens_before_the_first_step_and_after_each_that_sounds(monkeypatch):
    placed, _ = run(monkeypatch, completed(), "--say", "one", "--wait", "1", "--dtmf", "2")
    assert placed.script.steps == (LISTEN, Say("one"), LISTEN, Pause(1.0), PressKeys("2"), LISTEN)


def test_without_steps_it_listens_once(monkeypatch):
    placed, _ = run(monkeypatch, completed(), "--silence", "500", "--patience", "2")
    assert placed.script.steps == (WaitForSilence(500, 2.0),)


def test_options_reach_the_call(monkeypatch):
    placed, _ = run(
        monkeypatch, completed(), "--voice", "en-us+f1", "--speed", "1.5", "--ring", "3", "--timeout", "9",
        "--codec", "PCMA", "--from", "sip:me@here",
    )  # fmt: skip
    assert placed.options == CallOptions("en-us+f1", 1.5, 3.0, 9.0, ("PCMA",), "sip:me@here")
    placed, _ = run(monkeypatch, completed())
    assert placed.options == CallOptions()


def test_report_for_people(monkeypatch):
    _, result = run(monkeypatch, completed())
    assert "completed" in result.stdout
    assert "200 after 20 ms" in result.stdout
    assert "first heard 120 ms after the answer" in result.stdout
    assert "640" in result.stdout
    assert "calling" in result.stderr
    assert "calling" not in result.stdout


def test_how_it_ended_is_said_once(monkeypatch):
    away = CallReport(target=TARGET, transport="udp", outcome=Outcome.UNANSWERED, reason="no answer within 4 s")
    _, result = run(monkeypatch, away)
    assert result.output.count("unanswered") == 1
    assert "unanswered: no answer within 4 s" in result.stdout
    _, result = run(monkeypatch, away, "--json")
    assert "unanswered: no answer within 4 s" in result.stderr


def test_report_as_json_alone_on_standard_output(monkeypatch):
    _, result = run(monkeypatch, completed(), "--json")
    facts = json.loads(result.stdout)
    assert (facts["outcome"], facts["steps"][0]["answer_latency_ms"]) == ("completed", 640)


def test_recording_is_written(monkeypatch, tmp_path):
    path = tmp_path / "out.wav"
    _, result = run(monkeypatch, completed(), "--record", str(path))
    assert path.read_bytes()[:4] == b"RIFF"
    assert "recorded in" in result.stderr


def test_recording_that_cannot_be_written(monkeypatch, tmp_path):
    _, result = run(monkeypatch, completed(), "--record", str(tmp_path / "no" / "out.wav"))
    assert result.exit_code == 1
    assert "can't be written" in result.stderr


def test_refused_is_exit_code_1_with_the_status(monkeypatch, tmp_path):
    refused = CallReport(target=TARGET, transport="udp", outcome=Outcome.REJECTED, reason="486 Busy Here")
    _, result = run(monkeypatch, refused, "--record", str(tmp_path / "out.wav"))
    assert result.exit_code == 1
    assert "rejected: 486 Busy Here" in result.stdout
    assert "nothing to record" in result.stderr


def test_a_step_that_failed_is_exit_code_1(monkeypatch):
    report = completed()
    report.steps.append(StepReport(kind="dtmf", start_ms=0, end_ms=0, ok=False, note="no telephone-events"))
    _, result = run(monkeypatch, report)
    assert result.exit_code == 1
    assert "no telephone-events" in result.stdout


@pytest.mark.parametrize("error", [ScriptError("step 1: nothing to say"), ConfigError("no voice 'xx'")])
def test_called_wrongly_is_exit_code_2(monkeypatch, error):
    _, result = run(monkeypatch, error)
    assert result.exit_code == 2
    assert str(error) in result.stderr


@pytest.mark.parametrize("arguments", [["--bogus"], ["--speed", "9"], ["--codec", "OPUS"], ["--wait", "x"], ["extra"]])
def test_bad_options_are_exit_code_2(monkeypatch, arguments):
    _, result = run(monkeypatch, completed(), *arguments)
    assert result.exit_code == 2


def test_interrupted(monkeypatch):
    placed = Placed(completed())

    def interrupt(coroutine: Any) -> None:
        coroutine.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "place_call", placed)
    monkeypatch.setattr(command.asyncio, "run", interrupt)
    assert CliRunner().invoke(command.call, [TARGET]).exit_code == 130
