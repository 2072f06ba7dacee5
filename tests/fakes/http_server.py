"""A web server on the loopback whose handlers notice when the other side goes away."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web


class Received(NamedTuple):
    """A request: ``body`` is its JSON, ``peer`` the address of the client's connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    peer: tuple[str, int]


class HttpServer:
    """Records the last requests.

    Args:
        keeps: connections are kept for the next request; where not, each has a task for as long as its request lasts.

    Attributes:
        gone: set when a client closed its connection in the middle of an answer.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self.requests: deque[Received] = deque(maxlen=32)
        self.gone = asyncio.Event()
        self.port = 0

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        application = web.Application(middlewares=[self._recorded])
        application.add_routes(self.routes())
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def bodies(self, path: str) -> list[Any]:
        """What was sent to a path, in order."""
        return [each.body for each in self.requests if each.path == path]

    @web.middleware
    async def _recorded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        self.requests.append(Received(request.method, request.path, dict(request.headers), body, peer))
        try:
            response: web.StreamResponse = await handler(request)
        except (asyncio.CancelledError, ConnectionResetError):
            self.gone.set()
            raise
        if not response.prepared:
            self.opened(response)
        return response

    def opened(self, response: web.StreamResponse) -> web.StreamResponse:
        """A response that is about to be sent."""
        if not self._keeps:
            response.force_close()
        return response


def cut(request: web.Request) -> None:
    """Break the connection, without a word."""
    assert request.transport is not None
    request.transport.close()
