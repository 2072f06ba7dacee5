"""Three nats-servers with TLS on their routes (ops/nats/cluster/routes-tls.conf), and who is not let in there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.client import NatsConnection, connect
from bus.provision import apply
from bus.server import ROOT, nats_server_binary
from config.settings import StreamsSection
from schemas import subjects
from tests.bus.secured import CALL
from tests.bus.test_cluster import CLUSTER, Cluster, stored, through_elections

pytestmark = [pytest.mark.bus, pytest.mark.timeout(90)]

SECTION = StreamsSection(replicas=3, calls_max_bytes=104_857_600)
TLS_BLOCK = "  tls {"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("cluster"), routes_tls="1")
    yield running
    running.stop()


def monitored(cluster: Cluster, number: int, page: str) -> dict[str, Any]:
    """A page of the monitoring port of one of the servers, numbered from 0."""
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.port + 4000 + number}/{page}", timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def knocked(cluster: Cluster, certificate: str = "", authority: Path | None = None, tls: str = "TLSv1_3") -> bytes:
    """What a route of the first server answers to whoever shows this certificate (below keys/), or none."""
    keys = cluster.keys.folder
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority or keys / "ca" / "ca.pem")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[tls]
    if certificate:
        context.load_cert_chain(keys / f"{certificate}.pem", keys / f"{certificate}.key")
    with (
        socket.create_connection(("127.0.0.1", cluster.port + 2000), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="nats-1") as wrapped,
    ):
        assert wrapped.recv(4096).startswith(b"INFO "), "TLS comes first: nothing is said in the clear"
        wrapped.sendall(b'CONNECT {"user":"route","pass":"guessed","verbose":false}\r\n')
        return wrapped.recv(4096)


async def provisioned(cluster: Cluster) -> NatsConnection:
    """A connection of ops, once the three have a leader and every stream is made."""
    await cluster.ready()
    ops = await connect("ops-1", cluster.section("ops"), wait=False)
    # A question that comes before there is a leader is never answered: short ones find the first moment.
    await through_elections(lambda: ops.api("STREAM.NAMES", timeout_ms=200))
    await through_elections(lambda: apply(ops, SECTION))
    return ops


async def caught_up(ops: NatsConnection) -> bool:
    """Whether both replicas of each stream have all of it."""
    for name in (await ops.api("STREAM.NAMES"))["streams"]:
        replicas = (await ops.api(f"STREAM.INFO.{name}"))["cluster"].get("replicas", [])
        if len(replicas) != 2 or not all(replica["current"] for replica in replicas):
            return False
    return True


async def until_caught_up(ops: NatsConnection) -> None:
    async with asyncio.timeout(20):
        while not await through_elections(lambda: caught_up(ops)):
            await asyncio.sleep(0.1)


async def stop(pid: int) -> None:
    """End a process that the script has started, and wait for it: it writes its store to the last."""
    os.kill(pid, signal.SIGTERM)
    async with asyncio.timeout(20):
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                await asyncio.sleep(0.05)


@contextlib.contextmanager
def started_anew(cluster: Cluster, number: int) -> Iterator[None]:
    """One of the servers, stopped, numbered from 1: with an empty store and a key of its own; ended at the end."""
    folder = cluster.keys.folder.parent
    shutil.rmtree(folder / f"store-{number}")
    users = cluster.keys.users_file
    text = users.read_text(encoding="utf-8")
    users.write_text(re.sub(r'(JETSTREAM_KEY: )"\w+"', rf'\1"{secrets.token_hex(32)}"', text), encoding="utf-8")
    port = cluster.port + number - 1
    words = [
        "-c", f"{folder}/etc/nats/cluster/local-{number}.conf", "-a", "127.0.0.1", "-p", port, "-m", port + 4000,
        "-sd", f"{folder}/store-{number}", "-l", f"{folder}/nats-{number}-anew.log",
    ]  # fmt: skip
    process = subprocess.Popen([str(nats_server_binary()), *map(str, words)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


async def test_three_servers_keep_one_stream_over_tls(cluster: Cluster) -> None:
    ops = await provisioned(cluster)
    asr = await connect("asr-1", cluster.section("asr"), wait=False)
    await stored(asr, 1)
    await until_caught_up(ops)
    for number in range(3):
        here = monitored(cluster, number, "varz")["cluster"]
        assert (here["tls_required"], here["tls_verify"]) == (True, True)
        assert {route["remote_name"] for route in monitored(cluster, number, "routez")["routes"]} == {
            f"callbus-{other + 1}" for other in range(3) if other != number
        }
    await asr.close()
    await ops.close()


def test_a_stranger_is_turned_away(cluster: Cluster, tmp_path: Path) -> None:
    asyncio.run(cluster.ready())
    with pytest.raises(ssl.SSLError, match="certificate required"):
        knocked(cluster)
    with pytest.raises(ssl.SSLError):
        knocked(cluster, "tls/route", tls="TLSv1_2")
    subprocess.run([ROOT / "ops/nats/development-ca", tmp_path], check=True, capture_output=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        knocked(cluster, "tls/route", authority=tmp_path / "ca" / "ca.pem")
    assert b"Authorization Violation" in knocked(cluster, "tls/route"), "the password is asked for as well"


async def test_a_server_gets_a_key_of_its_own_for_its_store(cluster: Cluster) -> None:
    """The steps of docs/security.md for a new key, on one of three servers; the others have its streams meanwhile."""
    ops = await provisioned(cluster)
    asr = await connect("asr-1", cluster.section("asr"), wait=False)
    await stored(asr, 2)
    await until_caught_up(ops)
    await stop(cluster.pids[2])
    with started_anew(cluster, 3):
        await stored(asr, 3)
        await until_caught_up(ops)
        subject = subjects.event_subject("asr.final", CALL)
        assert [int(message.data) async for message in asr.read(subject)][-2:] == [2, 3]
        await asr.close()
        await ops.close()


def test_but_for_tls_both_files_say_the_same() -> None:
    plain, tls = (
        [line for line in (CLUSTER / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        for name in ("routes.conf", "routes-tls.conf")
    )
    begin = tls.index(TLS_BLOCK)
    assert plain == tls[:begin] + tls[tls.index("  }", begin) + 1 :]
