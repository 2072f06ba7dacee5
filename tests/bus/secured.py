"""A nats-server with the real nats.conf and fresh keys, and raw clients that note what they are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.client import NatsConnection, connect
from bus.identity import read_seed
from bus.server import NatsServerProcess
from config.settings import NatsSection
from ops.keys import KeyFolder
from ops.secured import SecuredFolder

CALL = "0192f0c0aaaa7bbb8cccdddddddddddd"


class Secured:
    """A running server and its keys."""

    def __init__(self, folder: Path, tls: str = "") -> None:
        self.folder = SecuredFolder(folder, tls)
        self.store = folder / "store"
        self.server = NatsServerProcess(self.store, config=self.folder.prepare(), log_file=folder / "nats-server.log")

    @property
    def keys(self) -> KeyFolder:
        return KeyFolder(self.folder.keys)

    def section(self, user: str) -> NatsSection:
        return self.folder.section(user, NatsSection(url=self.server.url))

    async def connect(self, user: str, name: str = "") -> NatsConnection:
        """As the program connects."""
        return await connect(name or f"{user}-1", self.section(user), wait=False)

    async def visit(self, user: str) -> Visitor:
        """As anybody with that user's key may connect, with a client that keeps no rules of ours."""
        visitor = Visitor()
        seed = read_seed(self.keys.seed_file(user))
        visitor.client = await nats.connect(
            self.server.url,
            nkeys_seed_str=seed,
            name=f"{user}-visitor",
            error_cb=visitor.note,
            inbox_prefix=f"_INBOX_{user}",
            allow_reconnect=False,
        )
        return visitor


class Visitor:
    """One raw client.

    Attributes:
        refused: what the server said no to.
        heard: every message of a subscription that stands.
    """

    def __init__(self) -> None:
        self.client: Client
        self.refused: list[str] = []
        self.heard: list[Msg] = []

    async def note(self, error: Exception) -> None:
        self.refused.append(str(error))

    async def _hear(self, message: Msg) -> None:
        self.heard.append(message)

    async def may_publish(self, subject: str, data: bytes = b"", reply: str = "") -> bool:
        """Whether the server takes it; its refusal comes before its next PONG."""
        before = len(self.refused)
        await self.client.publish(subject, data, reply=reply)
        await self._round_trip()
        return len(self.refused) == before

    async def may_subscribe(self, subject: str) -> bool:
        """Whether the server lets it listen; it goes on to."""
        before = len(self.refused)
        await self.client.subscribe(subject, cb=self._hear)
        await self._round_trip()
        return len(self.refused) == before

    async def _round_trip(self) -> None:
        """The first PING of nats-py goes past what waits to be sent."""
        await self.client.flush()
        await self.client.flush()

    async def settle(self) -> None:
        """Until what was asked is answered."""
        await self._round_trip()
        await asyncio.sleep(0.1)


@contextmanager
def secured_server(folder: Path, tls: str = "") -> Iterator[Secured]:
    """Running, and stopped at the end."""
    secured = Secured(folder, tls)
    with secured.server:
        yield secured
