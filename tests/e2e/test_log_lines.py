"""What four processes write in whole calls: lines by the schema, one a call and one a turn, and nothing of callers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bus.interface import Message
from config.load import load
from ops.caller import CallOptions, CallReport, CallScript, Pause, PressKeys, Say
from ops.caller.call import place_call
from ops.supervisor import MODULES, Supervisor, SystemPlan
from tests.e2e.system import FREE_PORTS, HOST, INSTANT
from tests.fakes import planted

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "log-schema.json"
PLANTED = {
    **INSTANT,
    "CALLBUS_ASR__ENGINE": "tests.fakes.planted:BadHearing",
    "CALLBUS_LLM__ENGINE": "tests.fakes.planted:BadAgent",
    "CALLBUS_TTS__ENGINE": "tests.fakes.planted:BadVoice",
    "CALLBUS_OPENAI__API_KEY": planted.API_KEY,
    "CALLBUS_LLM__PREEMPTIVE": "false",
}
SCRIPT = CallScript(
    (Pause(0.5), Say("my card"), Pause(1.5), PressKeys(planted.KEYS), Pause(2.0), Say("hello"), Pause(1.5))
)
RUBBISH = (
    f"INVITE sip:{planted.CALLER}@{HOST} SIP/2.0\r\nVia: {planted.CALLER}\r\nFrom: \"{planted.NAME}\" <sip:"
    f"{planted.CALLER}@x>\r\nCSeq: {planted.CARD}\r\n\r\n",
    f"{planted.CALLER} {planted.NAME}\r\n\r\n",
    f"MESSAGE tel:{planted.CALLER} SIP/2.0\r\nContact: {planted.NAME}\r\nContent-Length: {planted.KEYS}\r\n\r\n",
)  # fmt: skip


FORMS = ("json", "human", "google") if os.environ.get("CALLBUS_TEST_LOGS") == "all" else ("json",)
"""What takes content out comes before the form of a line; CALLBUS_TEST_LOGS=all tries every form."""


def free_row_of_ports(count: int) -> int:
    """The first of ``count`` ports in a row that are free now."""
    for first in range(21_000, 30_000, 10):
        try:
            for probe in [socket.create_server((HOST, first + place)) for place in range(count)]:
                probe.close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


@asynccontextmanager
async def system(data: Path, form: str, level: str, engines: dict[str, str]) -> AsyncIterator[tuple[Supervisor, int]]:
    port = free_row_of_ports(len(MODULES))
    pages = {"CALLBUS_METRICS__PORT": str(port)}
    written = {"CALLBUS_LOG__FORMAT": form, "CALLBUS_LOG__LEVEL": level, "CALLBUS_LOG__GOOGLE_PROJECT": "bank"}
    plan = SystemPlan(
        settings=load(pages), data=data, environment={**FREE_PORTS, **engines, **pages, **written}, drain_s=2.0
    )
    supervisor = Supervisor(plan)
    await supervisor.start()
    try:
        yield supervisor, port
    finally:
        await supervisor.stop()


async def call(supervisor: Supervisor, script: CallScript = SCRIPT) -> CallReport:
    options = CallOptions(from_uri=f"sip:{planted.CALLER}@example.org")
    return await place_call(f"sip:bank@{HOST}:{supervisor.sip_port}", script, options=options)


async def told_over_nats(supervisor: Supervisor) -> str:
    """What every process answers to ``$SRV`` and its endpoint ``health``."""
    connection, heard = supervisor.connection, []
    inbox = "_INBOX_callbus.planted"

    def take(message: Message) -> None:
        heard.append(message.data.decode())

    subscription = await connection.subscribe(inbox, take)
    for verb in ("PING", "INFO", "STATS"):
        connection.publish(f"$SRV.{verb}", b"", reply=inbox)
    await asyncio.sleep(0.3)
    ids = [json.loads(text)["id"] for text in heard if "ping_response" in text]
    for name in ids:
        connection.publish(f"{name.split('-')[0]}.{name}.health", b"", reply=inbox)
    await asyncio.sleep(0.3)
    await subscription.close()
    assert len(ids) == len(MODULES)
    assert len(heard) == 4 * len(MODULES)
    return "\n".join(heard)


def told_over_http(first: int) -> str:
    """Every page of every process."""
    found = []
    for place in range(len(MODULES)):
        for page in ("metrics", "health", "ready"):
            with urllib.request.urlopen(f"http://{HOST}:{first + place}/{page}", timeout=5) as answer:
                found.append(answer.read().decode())
    return "\n".join(found)


def logs_of(data: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((data / "logs").glob("*.log"))}


def lines_of(data: Path) -> list[dict[str, Any]]:
    texts = [text for name, text in logs_of(data).items() if name.partition("-")[0] in MODULES]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def check_schema(lines: list[dict[str, Any]]) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    for line in lines:
        faults = [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(line)]
        assert not faults, f"{faults} in {line}"


def found_in(text: str) -> list[str]:
    lower = text.lower()
    return [each for each in planted.SEARCHED if each.lower() in lower]


async def test_a_call_in_lines(tmp_path: Path) -> None:
    """A sound system at level debug: the schema, the canonical lines, and the call in every line about it."""
    async with system(tmp_path, "json", "debug", INSTANT) as (supervisor, _):
        report = await call(supervisor)
        assert report.succeeded
        await asyncio.sleep(1.0)
    lines = lines_of(tmp_path)
    check_schema(lines)
    (summary,) = [line for line in lines if line["event"] == "call_summary"]
    assert (summary["result"], summary["reason"], summary["codec"]) == ("completed", "caller_hung_up", "PCMU")
    assert summary["keys_pressed"] == len(planted.KEYS)
    assert summary["packets_received"] > 100
    turns = [line for line in lines if line["event"] == "turn_summary"]
    assert len(turns) >= 2
    assert len({line["turn"] for line in turns}) == len(turns)
    assert "dtmf" in {line["why"] for line in turns}
    assert {line["call_id"] for line in turns} == {summary["call_id"]}
    assert all(line["e2e_latency_ms"] >= 0 for line in turns if "e2e_latency_ms" in line)
    services = {line["service"] for line in lines if line["call_id"]}
    assert {"edge", "asr", "tts"} <= services
    assert not found_in("\n".join(logs_of(tmp_path).values()))


@pytest.mark.parametrize("form", FORMS)
async def test_nothing_of_a_caller_is_ever_written(tmp_path: Path, form: str) -> None:
    """Engines that quote the caller in errors, threads, callbacks, warnings and logs; rubbish on the SIP port."""
    async with system(tmp_path, form, "debug", PLANTED) as (supervisor, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for text in RUBBISH:
                stranger.sendto(text.encode(), (HOST, supervisor.sip_port))
        report = await call(supervisor)
        assert report.sip_status == 200
        await asyncio.sleep(0.5)
        answers = await told_over_nats(supervisor)
        pages = await asyncio.to_thread(told_over_http, port)
    written = logs_of(tmp_path)
    text = "\n".join(written.values())
    # The planting worked: these lines are there, and hold what stands for the content.
    for sign in ("ValueError", "RuntimeError", "a thread failed", "unhandled in the event loop", "text withheld"):
        assert sign in text, sign
    for sign in ("[number]", "[secret]", "[user]", "UserWarning: the caller is"):
        assert sign in text, sign
    assert "the request is" not in text, "what libraries say below a warning is left out"
    assert found_in(text) == []
    assert found_in(answers) == []
    assert found_in(pages) == []
    if form == "json":
        lines = lines_of(tmp_path)
        check_schema(lines)
        assert "sip_defect" in {line["event"] for line in lines}
        about_calls = [line for line in lines if line["event"] in ("engine_failed", "planted.library")]
        assert {line["service"] for line in about_calls} == {"asr", "llm"}
        assert all(line["call_id"] for line in about_calls)
    elif form == "google":
        for line in lines_of(tmp_path):
            assert {"severity", "time", "message", "serviceContext"} <= line.keys()
            assert not {"level", "timestamp", "call_id", "exception"} & line.keys()
