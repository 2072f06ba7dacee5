"""The life of one connection: first contact, loss, return, end. It never gives up, and says what it waits for.

Below it stands ``bus.wire`` (nats-py), above it ``bus.client`` (what the rest of the program sees).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from bus.errors import BusError, BusRefused, BusUnavailable
from bus.identity import explained, options_of, user_of
from bus.logs import get_logger
from bus.wire import CONNECTION_LOST, Wire
from config.settings import NatsSection

log = get_logger(__name__)

PING_INTERVAL_S = 1
"""With two unanswered pings allowed a frozen server is noticed within 3 s; nats-py's default takes minutes."""

UNANSWERED_PINGS = 2
CONNECT_TIMEOUT_S = 2
WATCH_S = 1.0
SAY_AGAIN_S = 5.0
SHUT_S = 0.5
FORBIDDEN = "permissions violation"
SCHEMES = ("nats", "tls", "ws", "wss")


class Link:
    """One NATS client and what is known about its state.

    Attributes:
        forbidden: the server's words when it last refused this user a subject; empty: it never did.
    """

    def __init__(self, name: str, settings: NatsSection) -> None:
        self.name = name
        self.user = user_of(settings, name)
        self.inbox_prefix = f"_INBOX_{self.user}"
        self.url = ", ".join(_without_secrets(url) for url in _urls(settings))
        self.wire = Wire()
        self.closed = False
        self.listener_errors = 0
        self.forbidden = ""
        self._settings = settings
        self._opened = False
        self._waiting: set[asyncio.Future[Any]] = set()
        self._waking: set[asyncio.Future[None]] = set()
        self._lost: list[Callable[[], None]] = []
        self._back: list[Callable[[], None]] = []
        self._watch: asyncio.Task[None] | None = None
        self._failures = 0
        self._refusal = ""
        self._says_so = False
        self._lost_at = time.monotonic()
        self._said_at = 0.0

    @property
    def connected(self) -> bool:
        return self._opened and not self.closed and bool(self.wire.is_connected)

    async def open(self, wait: bool) -> None:
        """Connect.

        Raises:
            BusUnavailable: ``wait`` is false and no server answers.
            BusRefused: ``wait`` is false and the server does not let this user in, or can't be trusted.
            BusError: a key or certificate can't be used.
        """
        self._says_so = wait
        options = options_of(self._settings)
        self.wire.requires_tls = "tls" in options
        connecting = asyncio.get_running_loop().create_task(
            self.wire.connect(
                servers=_urls(self._settings),
                name=self.name,
                error_cb=self._guard(self._on_error),
                disconnected_cb=self._guard(self._on_lost),
                reconnected_cb=self._guard(self._on_back),
                max_reconnect_attempts=-1,
                reconnect_time_wait=self._settings.reconnect_wait_ms / 1000,
                connect_timeout=CONNECT_TIMEOUT_S,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=UNANSWERED_PINGS,
                inbox_prefix=self.inbox_prefix,
                **options,
            )
        )
        try:
            await self._first_contact(connecting, wait)
        except BaseException:
            connecting.cancel()
            await self.close()
            raise
        self._opened = self._says_so = True
        self.wire.harden_socket()
        self._watch = asyncio.get_running_loop().create_task(self._keep_alive(), name="bus-watch")

    def on_disconnected(self, listener: Callable[[], None]) -> None:
        self._lost.append(listener)

    def on_reconnected(self, listener: Callable[[], None]) -> None:
        self._back.append(listener)

    def forget_listener(self, listener: Callable[[], None]) -> None:
        self._lost = [known for known in self._lost if known != listener]
        self._back = [known for known in self._back if known != listener]

    async def ready(self, timeout_ms: float) -> None:
        """Wait until connected.

        Raises:
            BusUnavailable: not within ``timeout_ms``, or closed.
        """
        if self.connected:
            return
        if self.closed or not self._opened:
            raise BusUnavailable(f"the connection {self.name!r} is closed")
        back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waking.add(back)
        try:
            await asyncio.wait([back], timeout=max(timeout_ms, 0) / 1000)
        finally:
            self._waking.discard(back)
        if not self.connected:
            raise BusUnavailable(f"NATS at {self.url} does not answer; is nats-server running there?")

    async def within(self, awaited: asyncio.Future[Any], timeout_ms: float) -> Any:
        """The result of a future.

        The future is left alone on time-out: nats-py sets the result of a late PONG without looking whether it may,
        and the exception would end its read loop.

        Raises:
            TimeoutError: not within ``timeout_ms``.
            BusUnavailable: the connection was lost meanwhile; known at once.
        """
        self._waiting.add(awaited)
        try:
            done, _ = await asyncio.wait([awaited], timeout=max(timeout_ms, 0) / 1000)
        finally:
            self._waiting.discard(awaited)
        if not done:
            raise TimeoutError
        return awaited.result()

    async def close(self) -> None:
        """End the client whatever state it is in. Takes a second at most, raises nothing."""
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
        self._fail(f"the connection {self.name!r} is closed")
        for back in self._waking:
            if not back.done():
                back.set_result(None)
        self.wire.discard_pending()  # under uvloop, writing to the lost transport raises
        closing = asyncio.get_running_loop().create_task(self._end())
        await asyncio.wait([closing], timeout=SHUT_S)
        if not closing.done():
            self.wire.cut()
            closing.cancel()
            await asyncio.wait([closing], timeout=SHUT_S)
        await self.wire.cancel_tasks()

    async def _end(self) -> None:
        try:
            await self.wire.close()
        except Exception as error:
            log.debug("bus_close_failed", message=f"nats-py could not close in order: {error!r}")

    async def _first_contact(self, connecting: asyncio.Task[None], wait: bool) -> None:
        servers = len(_urls(self._settings))
        while not connecting.done():
            await asyncio.wait([connecting], timeout=0.05)
            if not wait and not connecting.done() and self._failures >= servers:
                if self._refusal:
                    raise BusRefused(f"NATS at {self.url} can't be used: {self._refusal}")
                raise BusUnavailable(f"NATS at {self.url} does not answer; is nats-server running there?")
        try:
            connecting.result()
        except Exception as error:
            raise BusUnavailable(f"can't connect to NATS at {self.url}: {error}") from error

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            if self.wire.stuck:
                log.error("bus_stuck", message=f"a task of the connection to NATS at {self.url} died; connecting anew")
                self.wire.revive()

    def _guard(self, callback: Callable[..., None]) -> Callable[..., Awaitable[None]]:
        """A callback for nats-py. One that raised would end its read loop or its reconnecting, without a word."""

        async def guarded(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:
                self.listener_errors += 1
                text = f"{callback.__name__} of the connection failed"
                log.error("bus_callback_failed", message=text, exc_info=error)

        return guarded

    def _on_error(self, error: Exception) -> None:
        self._failures += 1
        if FORBIDDEN in str(error).lower():
            self.forbidden = str(error)
        why = "" if self.connected else explained(error, self._settings, self.user)
        self._refusal = why or self._refusal
        now = time.monotonic()
        if self.closed or not self._says_so or isinstance(error, CONNECTION_LOST) or now - self._said_at < SAY_AGAIN_S:
            return
        self._said_at = now
        reason = str(error) or type(error).__name__
        if self.connected:
            log.warning("bus_error", message=f"NATS at {self.url} says: {reason}{_hint(reason, self.user)}")
        elif why:
            log.error("bus_refused", message=f"NATS at {self.url} can't be used: {why}; trying again until it can")
        else:
            away_s = now - self._lost_at
            text = f"NATS at {self.url} does not answer for {away_s:.0f} s ({reason}); trying again until it does"
            log.warning("bus_unreachable", message=text)

    def _on_lost(self) -> None:
        if self.closed:
            return
        self._lost_at = time.monotonic()
        self.wire.discard_pending()
        log.warning("bus_disconnected", message=f"connection to NATS at {self.url} lost; connecting anew")
        self._fail(f"the connection to NATS at {self.url} was lost while waiting")
        self._tell(self._lost)

    def _on_back(self) -> None:
        self.wire.harden_socket()
        away_ms = (time.monotonic() - self._lost_at) * 1000
        log.info("bus_reconnected", message=f"connected to NATS at {self.url} again after {away_ms:.0f} ms")
        for back in self._waking:
            if not back.done():
                back.set_result(None)
        self._tell(self._back)

    def _fail(self, why: str) -> None:
        for waiting in list(self._waiting):
            if not waiting.done():
                waiting.set_exception(BusUnavailable(why))

    def _tell(self, listeners: list[Callable[[], None]]) -> None:
        for listener in list(listeners):
            try:
                listener()
            except Exception:
                self.listener_errors += 1
                log.exception("bus_listener_failed", message="a listener for the state of the connection failed")


def _hint(reason: str, user: str) -> str:
    return f"; user {user!r} lacks this right (docs/security.md)" if FORBIDDEN in reason.lower() else ""


def _urls(settings: NatsSection) -> list[str]:
    """Raises ``BusError`` where one is no URL of a NATS server."""
    urls = [url.strip() for url in settings.url.split(",") if url.strip()]
    for url in urls:
        if not _allowed(url):
            raise BusError(f"{url!r} is no URL of a NATS server; write for example nats://127.0.0.1:4222")
    if not urls:
        raise BusError("[nats] url is empty; write for example nats://127.0.0.1:4222")
    return urls


def _allowed(url: str) -> bool:
    try:
        parts = urlsplit(url if "//" in url else f"nats://{url}")
        return parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _without_secrets(url: str) -> str:
    parts = urlsplit(url if "//" in url else f"nats://{url}")
    return f"{parts.scheme}://{parts.hostname}:{parts.port or 4222}"
