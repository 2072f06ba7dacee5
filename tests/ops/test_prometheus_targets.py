"""Whom a real Prometheus asks: on Compose's network by DNS alone, on the host's network the edge, too."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bus.health import Health
from bus.pages import serve
from config.settings import MetricsSection
from ops.probe import quick
from tests.contract.test_compose_files import filled, services

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "ops" / "prometheus" / "prometheus.yml"
HOST = "docker-compose.host.yml"
NAME = "host.docker.internal"
FILE = "/tmp/callbus-edge.yml"
FOUND_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def page() -> Iterator[int]:
    """The port of something that serves figures."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"callbus_ready 1\n")

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def prometheus(folder: Path, entrypoint: list[str]) -> Iterator[int]:
    """Started as a container starts it, with its own port and places; the port of its API."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed: apt-get install --no-install-recommends prometheus")
    config = CONFIG.read_text(encoding="utf-8").replace(FILE, f"{folder}/edge.yml").replace("15s", "1s")
    port = free_port()
    config = config.replace("127.0.0.1:9090", f"127.0.0.1:{port}").replace("scrape_timeout: 10s", "scrape_timeout: 1s")
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    words = [
        word.replace("/bin/prometheus", program).replace(FILE, f"{folder}/edge.yml").replace(NAME, "127.0.0.1")
        for word in entrypoint
    ]
    flags = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*words, *flags, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, cwd=folder
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def targets(port: int) -> dict[str, str]:
    """Address -> health, of all that it asks; waits until each was asked."""
    deadline = time.monotonic() + FOUND_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=2) as answer:
                active: list[dict[str, Any]] = json.load(answer)["data"]["activeTargets"]
            found = {each["labels"]["instance"]: f"{each['labels']['job']} {each['health']}" for each in active}
            if found and all("unknown" not in health for health in found.values()):
                return found
        time.sleep(0.2)
    raise AssertionError("Prometheus asks nobody")


def test_an_edge_on_the_host_s_network_is_found(page: int, tmp_path: Path) -> None:
    entrypoint = [word.replace("$$", "$") for word in services(HOST)["prometheus"]["entrypoint"]]
    entrypoint = [word.replace("${EDGE_METRICS_PORT:-9100}", str(page)) for word in entrypoint]
    with prometheus(tmp_path, entrypoint) as port:
        assert targets(port) == {f"127.0.0.1:{page}": "edge up", f"127.0.0.1:{port}": "prometheus up"}


def test_on_compose_s_network_nothing_more_is_asked(tmp_path: Path) -> None:
    with prometheus(tmp_path, ["/bin/prometheus"]) as port:
        assert targets(port) == {f"127.0.0.1:{port}": "prometheus up"}


def test_the_edge_and_prometheus_mean_the_same_address_by_the_name() -> None:
    edge, reader = services(HOST)["edge"], services(HOST)["prometheus"]
    assert edge["extra_hosts"] == reader["extra_hosts"]
    assert [filled(each) for each in edge["extra_hosts"]] == [f"{NAME}:host-gateway"]
    assert edge["environment"]["CALLBUS_METRICS__HOST"] == NAME, "one address, not all of the machine"
    port = filled(str(edge["environment"]["CALLBUS_METRICS__PORT"]))
    assert f'"{NAME}:{port}"' in filled(reader["entrypoint"][2])
    (source,) = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["scrape_configs"][0]["file_sd_configs"]
    assert source["files"] == [FILE]
    assert f"> {FILE}\n" in reader["entrypoint"][2]


def test_pages_are_served_on_the_address_of_a_name_alone() -> None:
    """As the edge has it: [metrics] host is a name; a probe asks it by the same name."""
    port = free_port()
    close = serve(MetricsSection(host="localhost", port=port), Health("edge", "edge-1"))
    try:
        assert quick(["health", "edge"], str(port), "localhost") == 1, "it is starting"
        with socket.create_connection(("127.0.0.1", port), timeout=2), pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=2)
    finally:
        close()
