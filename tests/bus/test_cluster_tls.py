"""Three nats-servers with TLS on their routes (ops/nats/cluster/routes-tls.conf), and who is not let in there."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.client import connect
from bus.provision import apply
from bus.server import ROOT
from config.settings import StreamsSection
from schemas import subjects
from tests.bus.secured import CALL
from tests.bus.test_cluster import CLUSTER, Cluster, through_elections

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


async def test_three_servers_keep_one_stream_over_tls(cluster: Cluster) -> None:
    await cluster.ready()
    ops = await connect("ops-1", cluster.section("ops"), wait=False)
    await through_elections(lambda: apply(ops, SECTION))
    subject = subjects.event_subject("asr.final", CALL)
    asr = await connect("asr-1", cluster.section("asr"), wait=False)
    await through_elections(lambda: asr.store(subject, b"hello", {"Nats-Msg-Id": f"{CALL}:1"}, 1000))

    async def caught_up() -> bool:
        info = await ops.api("STREAM.INFO.CALLS")
        return (
            all(replica["current"] for replica in info["cluster"]["replicas"]) and len(info["cluster"]["replicas"]) == 2
        )

    async with asyncio.timeout(10):
        while not await through_elections(caught_up):
            await asyncio.sleep(0.05)
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


def test_but_for_tls_both_files_say_the_same() -> None:
    plain, tls = (
        [line for line in (CLUSTER / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        for name in ("routes.conf", "routes-tls.conf")
    )
    begin = tls.index(TLS_BLOCK)
    assert plain == tls[:begin] + tls[tls.index("  }", begin) + 1 :]
