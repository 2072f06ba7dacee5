"""What ``callbus health`` asks and says. It imports only what it must: a probe has one second, its start included."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from config.load import load
from config.settings import Settings
from ops.probe import ANY_HOST, STAGES, fetch, left

NATS = "nats"
ALL = "all"


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
    where, (status, body, why) = _asked(url, "/ready", deadline)
    if not status:
        return Found(ok=False, service=service, sentence=f"{service} {why}")
    try:
        answer = msgspec.json.decode(body, type=Instance)
    except msgspec.MsgspecError:
        text = f"{where} answers {status} and no health of callbus: is CALLBUS_METRICS__PORT the port of {service}?"
        return Found(ok=False, service=service, sentence=text)
    if answer.service != service:
        text = f"{where} is the page of {answer.service}, not of {service}: mend --url or CALLBUS_METRICS__PORT"
        return Found(ok=False, service=service, sentence=text, instances=[answer])
    return Found(ok=answer.ready, service=service, sentence=sentence_of([answer], service), instances=[answer])


def monitoring(url: str, deadline: float) -> Found:
    """nats-server, by its own page."""
    where, (status, body, why) = _asked(url, "/healthz", deadline)
    if status == 200:
        return Found(ok=True, service=NATS, sentence=f"nats-server at {where} is healthy")
    if status:
        with contextlib.suppress(ValueError, AttributeError):
            why = json.loads(body).get("error", "")
        why = f"says that it is not healthy (HTTP {status}): {why or 'no reason given'}; see its log"
    return Found(ok=False, service=NATS, sentence=f"nats-server {why}")


def _asked(url: str, path: str, deadline: float) -> tuple[str, tuple[int, bytes, str]]:
    parts = urlsplit(url)
    if parts.scheme != "http":
        return url, (0, b"", f"can't be asked at {url}: pages are plain http://")
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    return f"{host}:{port}", fetch(host, port, path, deadline)


def over_the_bus(service: str, settings: Settings, deadline: float) -> Found:
    """Every instance of ``service``, over NATS."""
    with _without("aiohttp", "rich"):
        from bus.service_query import Answers, ask_bus
    asked, expected = "" if service in (NATS, ALL) else service, STAGES if service == ALL else ()
    answers: Answers = ask_bus(settings, asked, service == NATS, left(deadline), expected)
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
