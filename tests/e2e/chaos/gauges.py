"""The page of metrics of a worker, read again and again while a call runs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from ops.supervisor import MODULES
from tests.e2e.system import HOST

INTERVAL_S = 0.05
FIRST_PORT, PORTS = 20_000, 9_000
_asked = itertools.count()
CLOSED, HALF_OPEN, OPEN = 0, 1, 2


class Reading(NamedTuple):
    """One engine at one time. ``at``: of the event loop."""

    at: float
    state: int
    errors: int
    failovers: int


class Gauges:
    """What the page has said so far of one engine; a reading is kept where it differs from the one before."""

    def __init__(self, url: str, stage: str, engine: str) -> None:
        self.readings: list[Reading] = []
        self._url = url
        self._labels = {"stage": stage, "engine": engine}

    @property
    def states(self) -> list[int]:
        """The breaker's states, one after the other."""
        states = [reading.state for reading in self.readings]
        return [state for number, state in enumerate(states) if number == 0 or states[number - 1] != state]

    def opened(self) -> tuple[Reading, Reading] | None:
        """The last reading before the breaker was open for the first time, and the first one of that."""
        for before, after in itertools.pairwise(self.readings):
            if before.state == CLOSED and after.state == OPEN:
                return before, after
        return None

    async def read_forever(self) -> None:
        """Read until cancelled."""
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(self._url) as response:
                    self._take(await response.text())
                await asyncio.sleep(INTERVAL_S)

    def _take(self, page: str) -> None:
        state, errors, failovers = 0, 0, 0
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if not self._labels.items() <= sample.labels.items():
                    continue
                if sample.name == "callbus_engine_breaker_state":
                    state = int(sample.value)
                elif sample.name == "callbus_engine_errors_total":
                    errors += int(sample.value)
                elif sample.name == "callbus_engine_failovers_total":
                    failovers += int(sample.value)
        reading = Reading(asyncio.get_running_loop().time(), state, errors, failovers)
        if not self.readings or self.readings[-1][1:] != reading[1:]:
            self.readings.append(reading)


@asynccontextmanager
async def watching(port: int, stage: str, engine: str) -> AsyncIterator[Gauges]:
    """Reads the page of the worker of ``stage``, where the first process of the system has ``port``."""
    gauges = Gauges(f"http://{HOST}:{port + list(MODULES).index(stage)}/metrics", stage, engine)
    task = asyncio.create_task(gauges.read_forever())
    try:
        yield gauges
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody uses at the moment, each time others.

    The system gives none of these to whoever takes any port, as the calls do that are up at the same time.
    """
    for _ in range(1000):
        first = FIRST_PORT + (os.getpid() * 61 + next(_asked)) * count % PORTS
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind((HOST, port))
            return first
    raise AssertionError(f"no {count} free ports in a row")
