"""The key of the store: a new one by the steps of docs/security.md, and a wrong one, with a real nats-server."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus.errors import BusError
from bus.provision import apply, plan
from config.settings import StreamsSection
from schemas import subjects
from tests.bus.secured import CALL, Secured

pytestmark = [pytest.mark.bus, pytest.mark.timeout(60)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
SECTION = StreamsSection()
WORDS = subjects.event_subject("asr.final", CALL)


class Store:
    """A secured server whose store's key can be changed, as a person does it: by its two files."""

    def __init__(self, folder: Path) -> None:
        self.secured = Secured(folder)
        self.server = self.secured.server
        self._users = self.secured.keys.users_file
        self._conf = folder / "etc" / "nats" / "nats.conf"

    @property
    def key(self) -> str:
        return str(re.findall(r'^JETSTREAM_KEY: "(\w+)"$', self._users.read_text(), re.MULTILINE)[0])

    def set_key(self, key: str, before: str = "") -> None:
        """``before``: the key that it replaces, named to the server."""
        self._users.write_text(self._users.read_text().replace(self.key, key))
        text = re.sub(r"\n  prev_key: .*", "", self._conf.read_text())
        added = f'\n  prev_key: "{before}"' if before else ""
        self._conf.write_text(text.replace("\n  key: $JETSTREAM_KEY", f"\n  key: $JETSTREAM_KEY{added}"))

    def remove_consumers(self) -> None:
        """The command of the page, on this store."""
        (command,) = re.findall(r"^(rm -r /data/\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
        words = shlex.split(command.replace("/data", str(self.secured.store)))
        subprocess.run(["sh", "-c", " ".join(words)], check=True)

    def said(self) -> str:
        return self.server.log_file.read_text()

    def health(self) -> tuple[int, str]:
        """The page that compose asks: status, and what is wrong."""
        port = re.findall(r"Starting http monitor on \S+:(\d+)", self.said())[-1]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, str(json.load(error)["error"])

    async def fill(self, first: int, count: int) -> None:
        asr, llm = await self.secured.connect("asr"), await self.secured.connect("llm")
        for number in range(first, first + count):
            await asr.store(WORDS, b"%d" % number, {"Nats-Msg-Id": f"{CALL}:{number}"})
        await (await llm.bucket("context")).put(f"{CALL}{first}", b"said")
        await asr.close()
        await llm.close()

    async def held(self) -> tuple[list[int], int]:
        """The numbers in CALLS, and how many keys ``context`` has."""
        ops = await self.secured.connect("ops")
        numbers = [int(message.data) async for message in ops.read(WORDS)]
        keys = await (await ops.bucket("context")).keys()
        await ops.close()
        return numbers, len(keys)

    async def provision(self) -> None:
        ops = await self.secured.connect("ops")
        await apply(ops, SECTION)
        await ops.close()

    async def due(self) -> list[str]:
        ops = await self.secured.connect("ops")
        due = [f"{change.action} {change.kind} {change.name}" for change in await plan(ops, SECTION)]
        await ops.close()
        return due


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Running, provisioned, with 20 events and a key of a bucket; most streams are empty."""
    made = Store(tmp_path)
    made.server.start()
    await made.provision()
    await made.fill(0, 20)
    yield made
    made.server.close()


async def test_a_new_key_by_the_documented_steps(store: Store) -> None:
    old, new = store.key, secrets.token_hex(32)
    store.server.stop()
    store.remove_consumers()
    store.set_key(new, before=old)
    store.server.start()
    due = await store.due()
    assert "create stream CALLS" not in due and "create bucket context" not in due, "what holds something is there"
    assert store.health() == (200, ""), "else compose does not come to provisioning"
    await store.provision()
    assert await store.held() == (list(range(20)), 1)
    await store.fill(20, 20)
    store.server.stop()
    store.set_key(new)
    store.server.start()
    assert await store.due() == [], "from now on the new key alone will do"
    assert await store.held() == (list(range(40)), 2)
    store.server.stop()
    store.set_key(old)
    store.server.start()
    assert "create stream CALLS" in await store.due(), "the old key opens nothing any more"


async def test_without_taking_the_consumers_away_no_work_queue_comes_back(store: Store) -> None:
    """Why the page has that step: should nats-server mend it, this fails and the step can go."""
    old = store.key
    store.server.stop()
    store.set_key(secrets.token_hex(32), before=old)
    store.server.start()
    with pytest.raises(BusError, match="error creating store for consumer"):
        await store.provision()


async def test_a_wrong_key_is_told_and_harms_nothing_until_somebody_provisions(store: Store) -> None:
    right = store.key
    store.server.stop()
    store.set_key(secrets.token_hex(32))
    store.server.start()
    assert "Error decrypting our stream metafile: unable to recover keys" in store.said()
    status, why = store.health()
    assert (status, "could not be recovered" in why) == (503, True), "compose does not provision such a server"
    assert "create stream CALLS" in await store.due()
    store.server.stop()
    store.set_key(right)
    store.server.start()
    assert store.health() == (200, "")
    assert await store.held() == (list(range(20)), 1)
    assert await store.due() == []


async def test_who_provisions_with_a_wrong_key_loses_the_store(store: Store) -> None:
    """Why the page warns, and why compose asks the whole page of health before it provisions."""
    right = store.key
    store.server.stop()
    store.set_key(secrets.token_hex(32))
    store.server.start()
    await store.provision()
    store.server.stop()
    store.set_key(right)
    store.server.start()
    assert "create stream CALLS" in await store.due()
