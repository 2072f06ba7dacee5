"""Ask the processes on the bus how they are, and JetStream whether it works: what a probe needs, within its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec

from bus import logs
from bus.client import NatsConnection, connect
from bus.errors import BusError
from bus.interface import Message
from bus.micro import HEALTH, PREFIX
from config.settings import LogSection, Settings

QUIET_S = 0.12
"""Nobody new has answered for so long, and everybody has said how he is: those are all."""
ANSWER_S = 1.25
"""Who is expected and has not answered is waited for so long: a process that is busy still answers within a second."""
CLOSE_S = 0.2


class Answers(NamedTuple):
    """``heard``: what each process's endpoint ``health`` said. ``why``: why nobody could be asked; empty: it went."""

    heard: list[dict[str, Any]]
    jetstream: str = ""
    why: str = ""


def ask_bus(
    settings: Settings, service: str, jetstream: bool, timeout_s: float, expected: Collection[str] = ()
) -> Answers:
    """All instances of ``service`` (empty: of all services), or JetStream alone. Takes ``timeout_s`` at most.

    ``expected``: services that somebody should answer of.
    """
    logs.configure(LogSection(level="error", format="human"), "callbus", "callbus")
    return asyncio.run(_ask(settings, service, jetstream, timeout_s, expected))


async def _ask(
    settings: Settings, service: str, jetstream: bool, timeout_s: float, expected: Collection[str]
) -> Answers:
    deadline = asyncio.get_running_loop().time() + timeout_s
    connection: NatsConnection | None = None
    try:
        async with asyncio.timeout_at(deadline):
            connection = await connect("callbus-cli", settings.nats, wait=False)
            if jetstream:
                return Answers([], jetstream=_told_of(await connection.api("INFO", timeout_ms=int(timeout_s * 1000))))
        return Answers(await Round(connection, service, expected).run(deadline))
    except TimeoutError:
        what = "JetStream does not answer in time" if connection else "it can't be connected to in time"
        return Answers([], why=f"nats-server at {settings.nats.url.rpartition('@')[2]}: {what}; is it running, and not "
                       "overloaded?")  # fmt: skip
    except BusError as error:
        return Answers([], why=str(error))
    finally:
        if connection is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.close(0), CLOSE_S)


def _told_of(info: dict[str, Any]) -> str:
    streams = info.get("streams", 0)
    text = f"JetStream answers and holds {streams} streams"
    return text if streams else f"{text}; run `callbus provision`"


class Round:
    """One question to everybody: who is there, and then each one how he is."""

    def __init__(self, connection: NatsConnection, service: str, expected: Collection[str] = ()) -> None:
        self._connection = connection
        self._expected = frozenset(expected)
        self._subject = f"{PREFIX}.PING.{service}" if service else f"{PREFIX}.PING"
        self._there: set[str] = set()
        self._heard: dict[str, dict[str, Any]] = {}
        self._nobody = False
        self._changed = asyncio.Event()

    async def run(self, deadline: float) -> list[dict[str, Any]]:
        reply = self._connection.open_ask(self._on_ping)
        self._connection.publish(self._subject, b"", reply=reply)
        loop = asyncio.get_running_loop()
        patience = loop.time() + ANSWER_S
        while not self._nobody and (left_s := deadline - loop.time()) > 0:
            complete = bool(self._there) and len(self._heard) == len(self._there)
            services = {name.partition(" ")[0] for name in self._there}
            quiet_s = QUIET_S if self._expected <= services else max(QUIET_S, patience - loop.time())
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), min(left_s, quiet_s) if complete else left_s)
            except TimeoutError:
                break
        self._connection.close_reply(reply)
        silent = [
            {"service": name.partition(" ")[0], "instance": name.partition(" ")[2], "why": "it does not say how it is"}
            for name in self._there - self._heard.keys()
        ]
        return [*(self._heard[name] for name in sorted(self._heard)), *silent]

    def _on_ping(self, message: Message) -> None:
        if message.headers.get("Status") == "503":
            self._nobody = True
        else:
            body = msgspec.json.decode(message.data)
            name = f"{body['name']} {body['id']}"
            self._there.add(name)
            reply = self._connection.open_ask(lambda answer: self._on_health(name, answer))
            self._connection.publish(f"{body['name']}.{body['id']}.{HEALTH}", b"", reply=reply)
        self._changed.set()

    def _on_health(self, name: str, message: Message) -> None:
        if message.data:
            self._heard[name] = {**msgspec.json.decode(message.data), "service": name.partition(" ")[0]}
        else:
            self._there.discard(name)
        self._changed.set()
