"""What ``callbus health`` asks and says. It imports only what it must: a probe has one second, its start included."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from config.load import load
from config.settings import Settings

STAGES = ("edge", "asr", "llm", "tts")
NATS = "nats"
ALL = "all"
LEAST_S = 0.25
"""What is left for asking, however long the start took."""
ANSWER_BYTES = 65_536
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class Instance(msgspec.Struct, kw_only=True):
    """One process, as it answered. ``ok``: it lives; ``ready``: it takes work; ``why``: what is wrong."""

    service: str
    instance: str = ""
    ok: bool = False
    ready: bool = False
    why: str = ""


class Found(msgspec.Struct, kw_only=True):
    """The answer of the command."""

    ok: bool
    service: str
    sentence: str
    instances: list[Instance] = []


class Page(NamedTuple):
    """What an HTTP page said; ``status`` 0: nothing came, and ``why`` says why."""

    status: int
    body: bytes = b""
    why: str = ""


def time_left_s(timeout_ms: int) -> float:
    """Of ``timeout_ms`` since this process was started."""
    return max(LEAST_S, timeout_ms / 1000 - process_age_s())


def process_age_s() -> float:
    """Seconds since the system started this process; 0 where it does not tell."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def check(service: str, url: str, left_s: float) -> Found:
    """Ask, within ``left_s``. Raises ``config.load.ConfigError``."""
    deadline = time.monotonic() + left_s
    settings = load()
    if url.startswith(("http://", "https://")):
        return monitoring(url, deadline) if service == NATS else of_page(service, url, deadline)
    if service in STAGES and settings.metrics.port and not url:
        section = settings.metrics
        host = ANY_HOST.get(section.host, section.host)
        found = of_page(service, f"http://{f'[{host}]' if ':' in host else host}:{section.port}", deadline)
        if not found.instances or found.instances[0].service == service:
            return found
        # The page is that of another process of this machine.
    if url:
        settings = msgspec.structs.replace(settings, nats=msgspec.structs.replace(settings.nats, url=url))
    return over_the_bus(service, settings, deadline)


def of_page(service: str, url: str, deadline: float) -> Found:
    """One process, by its page /ready."""
    page = fetch(url, "/ready", deadline)
    where = urlsplit(url).netloc
    if page.status == 0:
        return Found(ok=False, service=service, sentence=f"{service} {page.why}")
    try:
        answer = msgspec.json.decode(page.body, type=Instance)
    except msgspec.MsgspecError:
        text = (
            f"{where} answers {page.status} and no health of callbus: is CALLBUS_METRICS__PORT the port of {service}?"
        )
        return Found(ok=False, service=service, sentence=text)
    if answer.service != service:
        text = f"{where} is the page of {answer.service}, not of {service}: mend --url or CALLBUS_METRICS__PORT"
        return Found(ok=False, service=service, sentence=text, instances=[answer])
    return Found(ok=answer.ready, service=service, sentence=sentence_of([answer], service), instances=[answer])


def monitoring(url: str, deadline: float) -> Found:
    """nats-server, by its own page."""
    page = fetch(url, "/healthz", deadline)
    where = urlsplit(url).netloc
    if page.status == 200:
        return Found(ok=True, service=NATS, sentence=f"nats-server at {where} is healthy")
    why = page.why
    if page.status:
        with contextlib.suppress(ValueError, AttributeError):
            why = json.loads(page.body).get("error", "")
        why = f"says that it is not healthy (HTTP {page.status}): {why or 'no reason given'}; see its log"
    return Found(ok=False, service=NATS, sentence=f"nats-server {why}")


def fetch(url: str, path: str, deadline: float) -> Page:
    """GET, by a plain socket: the HTTP client of the library takes longer to import than the answer to come."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return Page(0, why=f"can't be asked at {url}: pages are plain http://")
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    where = f"{host}:{port}"
    received = b""
    try:
        with socket.create_connection((host, port), timeout=left(deadline)) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {where}\r\n\r\n".encode())
            while len(received) < ANSWER_BYTES:
                connection.settimeout(left(deadline))
                part = connection.recv(ANSWER_BYTES)
                if not part:
                    break
                received += part
    except TimeoutError:
        return Page(0, why=f"does not answer at {where} in time: its process is stopped, or the machine is overloaded; "
                    "restart it if this stays")  # fmt: skip
    except ConnectionRefusedError:
        return Page(0, why=f"is not there: nothing listens at {where}; start it, or see in its log why it ended")
    except OSError as error:
        return Page(0, why=f"can't be asked at {where}: {error.strerror or error}")
    head, _, body = received.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not status or not status[0].isdigit():
        return Page(0, why=f"answers no HTTP at {where}: is that its port of the pages?")
    return Page(int(status[0]), body)


def left(deadline: float) -> float:
    """Seconds, never 0: a socket would take that for "do not wait"."""
    return max(0.001, deadline - time.monotonic())


def over_the_bus(service: str, settings: Settings, deadline: float) -> Found:
    """Every instance of ``service``, over NATS."""
    with _without("aiohttp", "rich"):
        from bus.service_query import Answers, ask_bus
    answers: Answers = ask_bus(settings, "" if service in (NATS, ALL) else service, service == NATS, left(deadline))
    if answers.why:
        return Found(
            ok=False, service=service, sentence=answers.why, instances=[Instance(service=NATS, why=answers.why)]
        )
    if service == NATS:
        return Found(ok=True, service=NATS, sentence=f"nats-server works: {answers.jetstream}")
    heard = [msgspec.convert(each, Instance, strict=False) for each in answers.heard]
    if service != ALL:
        return Found(
            ok=any(each.ready for each in heard), service=service, sentence=sentence_of(heard, service), instances=heard
        )
    wanted = [(stage, [each for each in heard if each.service == stage]) for stage in STAGES]
    missing = [Instance(service=stage, why=sentence_of([], stage)) for stage, there in wanted if not there]
    rows = [Instance(service=NATS, ok=True, ready=True), *heard, *missing]
    bad = [stage for stage, there in wanted if not any(each.ready for each in there)]
    text = f"take no work: {', '.join(bad)}" if bad else "every service takes work"
    return Found(ok=not bad, service=ALL, sentence=text, instances=rows)


def sentence_of(instances: list[Instance], service: str) -> str:
    """What these instances of one service amount to."""
    if not instances:
        return f"no {service} answers on NATS: start one, or see in its log why it does not come"
    if len(instances) == 1:
        (one,) = instances
        return f"{service} {one.instance} takes work" if one.ready else one.why or f"{service} takes no work"
    ready = sum(each.ready for each in instances)
    text = f"{ready} of {len(instances)} {service} take work"
    return "; ".join([text, *(f"{each.instance}: {each.why}" for each in instances if not each.ready)])


def table_lines(found: Found) -> list[str]:
    """For people."""
    rows = [
        (each.service, each.instance or "-", "ready" if each.ready else "NOT READY", each.why)
        for each in sorted(found.instances, key=lambda each: (NATS, *STAGES).index(each.service))
    ]
    width = max((len(row[1]) for row in rows), default=0)
    lines = [f"{service:5}  {instance:{width}}  {state:9}  {why}".rstrip() for service, instance, state, why in rows]
    return [*lines, found.sentence]


@contextlib.contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Packages that others import where they find them, and that no probe needs: half of its time."""
    hidden: dict[str, Any] = {name: None for name in packages if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
