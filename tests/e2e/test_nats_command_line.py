"""docs/inspect.md: every command of the ``nats`` command line in it works, and prints what the page shows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from ops.session import offered_calls
from ops.supervisor import Supervisor
from tests.contract.documented import all_commands
from tests.e2e.nats_page import Shown, not_there, shown
from tests.e2e.system import INSTANT, running_system

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("nats") is None, reason="the nats command line (natscli) is not on the PATH"),
]

LIVE_SECTIONS = ("Watch calls live", "The way of a command")
OPS_SECTIONS = (
    "Replay a call at its original speed", "The way of a command", "Keep a copy of everything", "Erase one call",
)  # fmt: skip
"""What the user ``inspect`` may not do; the page says how ``ops`` does it."""
LIVE_S = 14
"""Longer than the caller's first turn takes."""
REPLAY_S = 6
CALL_S = 60
ERASING = "Erase one call"
BEGINS = ("nats consumer add", "nats req", "nats sub --stream")
"""Beginnings of commands that need nothing of those before them in their section."""


class Shell:
    """Runs the page's commands against one system, as somebody who has just read the page would."""

    def __init__(self, supervisor: Supervisor, folder: Path, call_id: str) -> None:
        self.call_id = call_id
        self.ran: list[str] = []
        self._url = supervisor.nats_url
        self._folder = folder
        # The settings of whoever runs the test are not touched, and those of the page are used: no NATS_URL.
        without = {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}
        self._environment = {**without, "XDG_CONFIG_HOME": str(folder / "config"), "HOME": str(folder)}

    async def run(self, each: Shown, seconds: float) -> str:
        """Its output, after it ended or ``seconds``; what the page shows must be in it."""
        context = " --context callbus-ops" if each.section in OPS_SECTIONS and each.command.startswith("nats") else ""
        command = re.sub(r"\bCALL\b", self.call_id, each.command).replace("nats://127.0.0.1:4222", self._url)
        command += context
        # SIGINT is Ctrl-C, and -k for what does not listen to it.
        line = f"timeout -k 2 -s INT {seconds} {command}" if each.endless else command
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", line, env=self._environment, cwd=self._folder, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), seconds + 20)
        text = out.decode(errors="replace")
        self.ran.append(each.command)
        nothing_there = "no message found" in text and not each.output
        assert process.returncode in ((0, 124) if each.endless else (0,)) or nothing_there, f"{each.command}: {text}"
        missing = not_there(each.output, text, self.call_id)
        assert not missing, f"{each.command} prints no line like {missing[0]!r}, but:\n{text[:6000]}"
        return text


@contextlib.asynccontextmanager
async def a_call(supervisor: Supervisor) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The call of README, by its own command; its id, and the caller's process."""
    caller = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.main", "call", f"sip:bank@127.0.0.1:{supervisor.sip_port}",
        "--say", "where is my credit card", "--dtmf", "4271",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(15):
            while not (calls := [call async for call in offered_calls(supervisor.connection)]):
                await asyncio.sleep(0.1)
        yield calls[0].call_id, caller
    finally:
        if caller.returncode is None:
            caller.kill()
        await caller.communicate()


async def as_ops(supervisor: Supervisor, folder: Path) -> Client:
    """A plain client that is the user ``ops``."""
    seed = folder / "keys" / "ops" / "ops.nk"
    return await nats.connect(supervisor.nats_url, nkeys_seed=str(seed), inbox_prefix="_INBOX_ops")


async def recording(supervisor: Supervisor, folder: Path, call_id: str) -> bytes:
    """The caller's audio as it is stored, read with a plain client."""
    client = await as_ops(supervisor, folder)
    try:
        stream = client.jetstream()
        subject = f"call.default.{call_id}.rec.in"
        held = (await stream.stream_info("CALLS", subjects_filter=subject)).state.subjects or {}
        reader = await stream.subscribe(subject, ordered_consumer=True)
        return b"".join([(await reader.next_msg(timeout=5)).data[16:] for _ in range(held[subject])])
    finally:
        await client.close()


async def left_of(supervisor: Supervisor, folder: Path, call_id: str) -> list[str]:
    """Subjects and keys that still hold something of a call."""
    client = await as_ops(supervisor, folder)
    try:
        stream = client.jetstream()
        found = []
        for name in ("CALLS", "HISTORY", "CALLS_TTS"):
            state = (await stream.stream_info(name, subjects_filter=f"call.*.{call_id}.>")).state
            found += sorted(state.subjects or {})
        for name in ("calls", "context"):
            with contextlib.suppress(nats.js.errors.KeyNotFoundError):
                found.append((await (await stream.key_value(name)).get(call_id)).key)
        return found
    finally:
        await client.close()


def in_rows(page: list[Shown]) -> list[list[Shown]]:
    """What is asked after a call, in rows that can be run beside each other: a section, or a part of it."""
    rows: list[list[Shown]] = []
    for each in page:
        if each.section in ("Connect", *LIVE_SECTIONS, ERASING):
            continue
        if not rows or rows[-1][-1].section != each.section or each.command.startswith(BEGINS):
            rows.append([])
        rows[-1].append(each)
    return rows


async def look(shell: Shell, row: list[Shown]) -> None:
    """A row of commands, one after the other."""
    for each in row:
        if each.command.startswith("sox") and shutil.which("sox") is None:
            continue
        begun = time.monotonic()
        text = await shell.run(each, REPLAY_S if "eplay" in each.section else 10)
        if each.command.startswith("nats consumer next"):
            assert "playout.finished" in text and "call.ended" not in text, "not at the original speed"
            assert time.monotonic() - begun >= REPLAY_S
        if each.command.startswith("nats service ls"):
            assert all(f"callbus {stage}" in text for stage in ("edge", "asr", "llm", "tts"))


async def test_every_command_of_the_page_works_and_prints_what_it_shows(tmp_path: Path) -> None:
    page = shown()
    live = [each for each in page if each.section in LIVE_SECTIONS]
    async with running_system(tmp_path / "data", secure="keys") as supervisor, a_call(supervisor) as (call_id, caller):
        (tmp_path / "keys").symlink_to(tmp_path / "data" / "keys")
        shell = Shell(supervisor, tmp_path, call_id)
        connect = [each for each in page if each.section == "Connect"]
        for each in connect:
            await shell.run(each, 5)
        listening = asyncio.gather(*(shell.run(each, LIVE_S) for each in live if each.endless))
        await asyncio.sleep(2)
        for each in live:
            if not each.endless:
                await shell.run(each, 10)
        await listening
        await asyncio.wait_for(caller.wait(), CALL_S)
        # The end of a call is stored behind its last word.
        await asyncio.sleep(1)
        stored = await recording(supervisor, tmp_path, call_id)
        await asyncio.gather(*(look(shell, row) for row in in_rows(page)))
        erasing = [each for each in page if each.section == ERASING]
        assert erasing
        await look(shell, erasing)
        assert await left_of(supervisor, tmp_path, call_id) == []

    unheard = {each.command for each in page} - set(shell.ran)
    assert all(command.startswith("sox") for command in unheard)
    assert (tmp_path / "caller.ulaw").read_bytes() == stored
    replayed = (tmp_path / "replayed.ulaw").read_bytes()
    assert stored.startswith(replayed)
    assert (REPLAY_S - 2) * 8000 < len(replayed) < (REPLAY_S + 0.5) * 8000
    assert len((tmp_path / "live.ulaw").read_bytes()) > (LIVE_S - 4) * 8000
    assert shutil.which("sox") is None or (tmp_path / "caller.wav").stat().st_size > len(stored)


async def test_the_nats_commands_of_other_pages_work(tmp_path: Path) -> None:
    others = {each.text: each for each in all_commands("nats") if each.words[2:] and each.page.name != "inspect.md"}
    async with running_system(tmp_path / "data", environment=INSTANT, secure="keys") as supervisor:
        (tmp_path / "keys").symlink_to(tmp_path / "data" / "keys")
        # Where a page has copied the key to.
        (tmp_path / "inspect.nk").symlink_to(tmp_path / "keys" / "inspect" / "inspect.nk")
        shell = Shell(supervisor, tmp_path, "0" * 32)
        for each in shown():
            if each.section == "Connect":
                await shell.run(each, 5)
        on_the_page = tuple(each.command for each in shown())
        for other in others.values():
            # A name without its arguments stands on the page with them.
            if any(command.startswith(f"{other.text} ") for command in on_the_page):
                continue
            await shell.run(Shown(other.page.name, shlex.join(other.words), ()), 3)
