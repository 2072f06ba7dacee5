"""Every command of ours that a page shows is run on a running system, but for those that are listed with a reason."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ops.main import cli
from ops.supervisor import Supervisor
from tests.contract.documented import ROOT, Documented, all_commands
from tests.contract.test_documented_commands import filled, parse
from tests.e2e.peers import free_port
from tests.e2e.system import BESIDE, INSTANT, running_system
from tests.fakes.crowd import Crowd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ONLY_PARSED = {
    "demo": "a whole system of its own: test_demo.py runs it",
    "up": "a whole system of its own, which this test has already: tests/ops/test_up.py runs it",
    "dev": "it goes on until Ctrl-C and watches the source: its own tests run it",
    "call": "half a minute of a real call: test_nats_command_line.py places it",
    "models pull": "it fetches from the network: tests/ops/models run it against servers of their own",
    "bench": "minutes of measuring: its tests run it with small figures",
    "scenario ablate": "minutes: tests/ops/scenario run it on few files",
    "scenario run --sip": "systems of its own: test_scenarios.py runs it",
}
"""Beginning of a command -> why it is parsed and not run here. ``bench --list`` is run."""
MAY_FAIL = ("doctor", "models verify", "models path", "health all", "health nats")
"""Exit code 1 is an answer, too: of what a machine lacks, or that a page of the server is not served."""
UNTIL_CTRL_C = ("tail",)
GROUPS = (["scenario"], ["models"], ["config"], ["keys"])
"""Commands that only hold others."""
WITHOUT_A_BUS = ("schema", "config", "models", "scenario", "keys", "bench", "--help", "--version")
"""First words of commands that look at no running system."""
READERS = 2
"""Commands that run at once."""
MEANT_FILES = {"meter": "call.wav", "scenario": "cough.toml"}


def words_to_run(each: Documented) -> list[str]:
    """With what a reader would put in."""
    words = filled(each.words)
    if words[1:2] == ["health"]:
        # It answers within a second, come what may; a busy machine gets more.
        words += ["--timeout-ms", "20000"]
    group = words[1] if words[1:] else ""
    return [MEANT_FILES.get(group, word) if word in ("file", "FILE.wav", "FILE|DIRECTORY") else word for word in words]


def is_run(words: list[str]) -> bool:
    text = " ".join(words[1:])
    return text.startswith("bench --list") or not any(
        text == beginning or text.startswith(f"{beginning} ") for beginning in ONLY_PARSED
    )


def is_whole(words: list[str]) -> bool:
    """Whether nothing is left to be put in: a sentence may name a command without its arguments."""
    try:
        parse(words, whole=True)
    except click.UsageError:
        return False
    return words[1:2] != ["COMMAND"] and words[1:] not in GROUPS


def to_run() -> Iterator[tuple[str, list[str]]]:
    """Page and words of every command that is run, each once."""
    seen: dict[str, tuple[str, list[str]]] = {}
    for each in all_commands("callbus"):
        words = words_to_run(each)
        if words[1:] and is_whole(words) and is_run(words):
            seen.setdefault(shlex.join(words), (each.page.name, words))
    yield from seen.values()


class Reader:
    """Types commands in a folder of its own, against one system."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "NATS_URL": supervisor.nats_url, "PYTHONPATH": str(ROOT)}

    async def run(self, words: list[str]) -> tuple[int, str]:
        """Exit code and output. What goes on until Ctrl-C gets one."""
        process = await asyncio.create_subprocess_exec(
            *BESIDE, sys.executable, "-m", "ops.main", *words[1:], cwd=self._folder, env=self._environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        if tuple(words[1:]) == UNTIL_CTRL_C:
            await asyncio.sleep(3)
            process.terminate()
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(errors="replace")

    async def check(self, page: str, words: list[str]) -> None:
        """One command: its exit code, no traceback, and that it says something where it must."""
        code, out = await self.run(words)
        assert code in expected(words), f"{page}: {shlex.join(words)}: exit code {code}\n{out}"
        assert "Traceback" not in out, f"{page}: {shlex.join(words)}\n{out}"
        silent = tuple(words[1:]) == UNTIL_CTRL_C or "--changed" in words or "--events" in words
        assert out.strip() or silent, f"{page}: {shlex.join(words)} says nothing"


def expected(words: list[str]) -> tuple[int, ...]:
    text = " ".join(words[1:])
    if tuple(words[1:]) == UNTIL_CTRL_C:
        return (130, -15)
    return (0, 1) if text.startswith(MAY_FAIL) else (0,)


def test_those_that_ask_no_system_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    shutil.copy(ROOT / "tests" / "scenarios" / "false-interruption" / "cough.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = [found for found in to_run() if found[1][1] in WITHOUT_A_BUS]
    assert len(commands) >= 20
    for page, words in commands:
        # What a page names in a container lies in the test's folder: nothing is written elsewhere on the machine.
        inside = [f"container{word}" if word.startswith("/") else word for word in words[1:]]
        result = CliRunner().invoke(cli, inside)
        assert result.exit_code in expected(words), f"{page}: {shlex.join(words)}: {result.output}"
        assert result.output.strip() or "--changed" in words, f"{page}: {shlex.join(words)} says nothing"


async def check_pages(port: int) -> None:
    asked = {each.text for each in all_commands("curl") if ":9100/" in each.text}
    assert asked
    for text in sorted(asked):
        address = next(word for word in text.split() if ":9100/" in word)
        path = address.split(":9100")[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200") or answer.startswith(b"HTTP/1.0 200"), text


async def test_those_that_look_at_a_system_work(tmp_path: Path) -> None:
    """And what pages ask with curl is served, at the port that they name but for its number."""
    folder = tmp_path / "reader"
    folder.mkdir()
    commands = [found for found in to_run() if found[1][1] not in WITHOUT_A_BUS]
    assert len(commands) >= 15
    port = free_port(socket.SOCK_STREAM)
    environment = {**INSTANT, "CALLBUS_METRICS__PORT": str(port)}
    async with running_system(tmp_path / "data", environment=environment) as supervisor:
        await check_pages(port)
        crowd = Crowd()
        await crowd.start(1, supervisor.sip_port)
        await asyncio.sleep(2.5)
        crowd.callers[0].speak(40)
        await asyncio.sleep(3.0)
        await crowd.stop()
        await asyncio.sleep(1.0)
        reader = Reader(supervisor, folder)
        # A recording is there before it is read; the rest does not disturb each other.
        first = [found for found in commands if found[1][1] in ("play", "provision")]
        for page, words in first:
            await reader.check(page, words)
        rest = iter([found for found in commands if found not in first])

        async def work() -> None:
            for page, words in rest:
                await reader.check(page, words)

        await asyncio.gather(*(work() for _ in range(READERS)))


def test_only_what_can_not_be_run_here_is_not() -> None:
    """Each exception names commands that a page shows, and there are no others."""
    named = [" ".join(words_to_run(each)[1:]) for each in all_commands("callbus") if each.words[1:]]
    for beginning in ONLY_PARSED:
        assert any(text == beginning or text.startswith(f"{beginning} ") for text in named), beginning
