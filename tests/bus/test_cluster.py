"""Three nats-servers with ops/nats/cluster: the configuration, and work that goes on when one of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from bus.client import NatsConnection, connect
from bus.consume import read_call
from bus.errors import BusError
from bus.provision import apply
from bus.publish import Recorder
from bus.server import ROOT, SECURED_CONFIG, answers, nats_server_binary
from config.settings import NatsSection, StreamsSection
from ops.keys import KeyFolder
from schemas import subjects
from schemas.base import Event
from tests.bus.behaviours.worlds import until
from tests.bus.samples import CALL as CALL_ID
from tests.bus.samples import answered, sentence, short
from tests.bus.secured import CALL

pytestmark = pytest.mark.bus

T = TypeVar("T")

CLUSTER = ROOT / "ops" / "nats" / "cluster"
SECTION = StreamsSection(replicas=3, calls_max_bytes=104_857_600)
ELECTION_S = 15.0
"""Servers find a dead leader after 4 to 9 s, and that can't be tuned."""


@pytest.mark.parametrize("routes", ["routes.conf", "routes-tls.conf"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_node_is_valid(number: int, routes: str, tmp_path: Path) -> None:
    """As the containers have it: /etc/nats beside /keys."""
    folder = tmp_path / "etc" / "nats" / "cluster"
    folder.mkdir(parents=True)
    KeyFolder(tmp_path / "keys").create()
    subprocess.run([ROOT / "ops/nats/development-ca", tmp_path / "keys"], check=True, capture_output=True)
    (folder.parent / "nats.conf").write_text(SECURED_CONFIG.read_text())
    for file in CLUSTER.glob("node-*.conf"):
        (folder / file.name).write_text(file.read_text())
    (folder / "routes.conf").write_text((CLUSTER / routes).read_text().replace('"/keys/', f'"{tmp_path}/keys/'))
    command = [str(nats_server_binary()), "-t", "-c", str(folder / f"node-{number}.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    """The first of three, with the ports that the script counts from it free too."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        try:
            for offset in (0, 1, 2, 2000, 2001, 2002, 4000, 4001, 4002):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except (OSError, OverflowError):
            continue
        return port
    raise AssertionError("no nine free ports")


class Cluster:
    """Three servers of the script. ``routes_tls``: "1": with TLS between them."""

    def __init__(self, folder: Path, routes_tls: str = "") -> None:
        self.port = free_port()
        self.keys = KeyFolder(folder / "keys")
        self.keys.create()
        self._log = folder
        self._script = subprocess.Popen(
            [str(CLUSTER / "start"), str(folder)],
            env={
                **os.environ,
                "PORT": str(self.port),
                "NATS_SERVER": str(nats_server_binary()),
                "ROUTES_TLS": routes_tls,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._script.stdout is not None
        self.pids = [int(self._script.stdout.readline().split("process ")[1].rstrip(")\n")) for _ in range(3)]

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{self.port + offset}" for offset in range(3))

    def section(self, user: str) -> NatsSection:
        return NatsSection(url=self.url, nkey_file=str(self.keys.seed_file(user)))

    async def ready(self) -> None:
        async with asyncio.timeout(15):
            while not all(answers("127.0.0.1", self.port + offset) for offset in range(3)):
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        self._script.send_signal(signal.SIGTERM)
        self._script.wait(20)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    yield running
    running.stop()


async def through_elections(work: Callable[[], Awaitable[T]]) -> T:
    """What comes of ``work``, which is tried again while a stream has no leader, as services do."""
    deadline = time.monotonic() + ELECTION_S
    while True:
        try:
            return await work()
        except BusError:
            assert time.monotonic() < deadline, "no leader was elected"
            await asyncio.sleep(0.1)


async def stored(connection: NatsConnection, number: int) -> None:
    """Store one event."""
    subject = subjects.event_subject("asr.final", CALL)
    headers = {"Nats-Msg-Id": f"{CALL}:{number}"}
    await through_elections(lambda: connection.store(subject, str(number).encode(), headers, 1000))


@pytest.mark.timeout(90)
async def test_one_of_three_dies_and_nothing_is_lost(cluster: Cluster) -> None:
    await cluster.ready()
    ops = await connect("ops-1", cluster.section("ops"), wait=False)
    await through_elections(lambda: apply(ops, SECTION))
    info = await through_elections(lambda: ops.api("STREAM.INFO.CALLS"))
    assert info["config"]["num_replicas"] == 3
    assert len(info["cluster"]["replicas"]) == 2
    asr = await connect("asr-1", cluster.section("asr"), wait=False)
    got: list[str] = []
    owners = await through_elections(lambda: asr.bucket("owners"))
    await owners.watch(lambda entry: got.append(entry.key), "asr.*")
    for number in range(20):
        await stored(asr, number)
    leader = int(str(info["cluster"]["leader"]).rsplit("-", 1)[1])
    os.kill(cluster.pids[leader - 1], signal.SIGKILL)
    began = time.monotonic()
    for number in range(20, 40):
        await stored(asr, number)
    print(f"stored again after {time.monotonic() - began:.1f} s")
    await asr.ready(5000)
    await through_elections(lambda: owners.put("asr.c1", b"1"))
    await until(lambda: "asr.c1" in got, 10)
    found = [m.data async for m in asr.read(subjects.event_subject("asr.final", CALL))]
    assert [int(data) for data in found] == list(range(40)), "each once, in order"
    assert msgspec.json.decode(msgspec.json.encode(got)) == ["asr.c1"]
    await asr.close()
    await ops.close()


@pytest.mark.timeout(90)
async def test_two_workers_of_the_llm_stage_talk_into_one_call(cluster: Cluster) -> None:
    """Where a stream has replicas the server checks a fence by other code, and what is on its way to them counts."""
    await cluster.ready()
    ops = await connect("ops-1", cluster.section("ops"), wait=False)
    await through_elections(lambda: apply(ops, SECTION))
    workers = [await connect(f"llm-{epoch}", cluster.section("llm"), wait=False) for epoch in (1, 2)]
    old, new = (Recorder(worker, service="llm") for worker in workers)
    fenced: list[Event] = []
    old.on_fenced = fenced.append
    old.record(sentence(0, 1), fenced=True)
    assert await old.flush(20_000)
    await new.prepare(subjects.event_subject("llm.done", CALL_ID))
    # The same sentence at the same time: one of the two is stored, and what comes after it is the successor's.
    new.record(sentence(1, 2), fenced=True)
    old.record(sentence(1, 1), fenced=True)
    new.record(sentence(2, 2), fenced=True)
    assert await new.flush(20_000)
    for index in range(3, 20):
        old.record(sentence(index, 1), fenced=True)
        new.record(sentence(index, 2), fenced=True)
        await asyncio.sleep(0.002)
    new.record(answered(2), fenced=True)
    assert await new.flush(20_000)
    await until(lambda: fenced)
    said = await read_call(workers[0], CALL_ID, "default", ("llm.*",))
    assert short(said) == [*(f"llm.sentence:100:{index}" for index in range(20)), "llm.done:100"]
    assert [event.epoch for event in said if event not in said[:2]] == [2] * 19
    for connection in (*workers, ops):
        await connection.close()
