"""What every command shares: how it ends, what it says when NATS is away, which NATS it takes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bus.errors import BusUnavailable, NotProvisioned
from bus.logs import get_logger
from ops import main, session
from tests.ops.conftest import Command

pytestmark = pytest.mark.unit

AWAY = ("--nats", "nats://127.0.0.1:1")


@pytest.mark.parametrize(
    "words", [("calls",), ("tail",), ("show", "last"), ("play", "last", "--wav", "x.wav"), ("provision",)]
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_nats_away_is_one_sentence_and_what_to_do(
    callbus: Command, words: tuple[str, ...], form: tuple[str, ...]
) -> None:
    result = callbus(*words, *form, *AWAY)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "NATS at nats://127.0.0.1:1 does not answer" in result.stderr
    assert "callbus up" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("url", ["nats://127.0.0.1:99999", "http://127.0.0.1", "nats://:4222", " , "])
def test_a_url_that_is_none_is_named(callbus: Command, url: str) -> None:
    result = callbus("calls", "--nats", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "write for example nats://127.0.0.1:4222" in result.stderr


def test_other_errors_of_the_bus_are_told_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    async def unprovisioned() -> None:
        raise NotProvisioned("stream", "CALLS")

    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as failed:
        session.run(unprovisioned())
    assert failed.value.code == 1
    assert "run `callbus provision`" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        session.run(interrupted())
    assert stopped.value.code == 130


def test_the_bus_speaks_on_standard_error_only(capsys: pytest.CaptureFixture[str]) -> None:
    session.log_to_stderr()
    get_logger("bus.link").warning("bus_disconnected", message="connection to NATS lost")
    said = capsys.readouterr()
    assert said.out == ""
    assert "connection to NATS lost" in said.err


def test_which_nats_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NATS_URL", "CALLBUS_NATS__URL", "CALLBUS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert session.given_nats_url() == ""
    file = tmp_path / "app.ini"
    file.write_text("[nats]\nurl = nats://elsewhere:4222\n", encoding="utf-8")
    monkeypatch.setenv("CALLBUS_CONFIG", str(file))
    assert session.given_nats_url() == "nats://elsewhere:4222"
    monkeypatch.setenv("NATS_URL", "nats://here:4222")
    assert session.given_nats_url() == "nats://here:4222"


def raising(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, ""),
        (click.ClickException("no such thing"), 1, "Error: no such thing"),
        (click.UsageError("not so"), 2, "Error: not so"),
        (main.ConfigError("[edge] sip_port = 'x'"), 2, "Error: [edge] sip_port = 'x'"),
        (SystemExit(1), 1, ""),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    monkeypatch.setattr(main, "cli", raising(error))
    monkeypatch.setattr(sys, "argv", ["callbus"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_a_wrong_setting_is_exit_code_2_for_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLBUS_EDGE__SIP_PORT", "much")
    for command in ("calls", "up", "demo", "provision"):
        monkeypatch.setattr(sys, "argv", ["callbus", command])
        with pytest.raises(SystemExit) as ended:
            main.main()
        assert ended.value.code == 2
        assert "CALLBUS_EDGE__SIP_PORT" in capsys.readouterr().err


def test_json_of_what_is_no_json() -> None:
    with pytest.raises(NotImplementedError):
        session.as_json_text(object())


def test_settings_commands(callbus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBUS_TURN__VAD_STOP_MS", "300")
    assert callbus("config", "show", "turn", "--changed").stdout.split() == [
        "turn.vad_stop_ms", "300", "CALLBUS_TURN__VAD_STOP_MS",
    ]  # fmt: skip
    rows = json.loads(callbus("config", "show", "--json", "turn").stdout)
    assert {row["section"] for row in rows} == {"turn"}
    assert "all allowed" in callbus("config", "check").stdout
    assert json.loads(callbus("config", "check", "--json").stdout)["ok"] is True
    wrong = callbus("config", "show", "turns")
    assert (wrong.exit_code, "'turns' is no section" in wrong.stderr) == (2, True)


def test_lists_as_json(callbus: Command) -> None:
    rows = json.loads(callbus("schema", "--list", "--json").stdout)
    assert {"subject": "call.<tenant>.<call>.asr.final", "type": "asr.final.v1", "speaker": "asr"} in rows
    assert "hop" in json.loads(callbus("bench", "--list", "--json").stdout)


def test_settings_pages_are_current() -> None:
    root = Path(__file__).resolve().parents[2]
    run = CliRunner().invoke
    assert run(main.cli, ["config", "document"]).stdout == (root / "docs" / "configuration.md").read_text("utf-8")
    assert run(main.cli, ["config", "sample"]).stdout == (root / "config" / "app.ini").read_text("utf-8")


def test_unavailable_while_working(capsys: pytest.CaptureFixture[str]) -> None:
    async def lost() -> None:
        await asyncio.sleep(0)
        raise BusUnavailable("the connection was lost while waiting")

    with pytest.raises(SystemExit):
        session.run(lost())
    assert "the connection was lost while waiting\nStart one" in capsys.readouterr().err


def test_the_program_is_named_as_it_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(session.sys, "argv", [str(tmp_path / ".venv" / "bin" / "callbus")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session.shutil, "which", lambda name: None)
    assert session.program_name() == ".venv/bin/callbus"
    monkeypatch.setattr(session.shutil, "which", lambda name: "/usr/bin/callbus")
    assert session.program_name() == "callbus"
