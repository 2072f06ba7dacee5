"""nats-py's client with its traps closed. The only file that touches what nats-py keeps private.

``tests/bus/test_wire_contract.py`` fails where a new nats-py changes anything used here (written against 2.16.0).

What is different from ``nats.aio.client.Client``:

* **Sending is synchronous.** A command is appended to nats-py's own pending list, behind the SUBs that stand there, and
  the flusher is woken once per burst; :meth:`Wire.send_now` writes to the socket at once. Nothing is sent, and nothing
  kept for later, while the connection is away.
* **Receiving is direct.** A subscription made by :meth:`Wire.attach` calls its plain function out of the read loop: no
  queue, no task, no second wake-up per message.
* **A broken connection is cut, not closed politely.** Closing waits for buffered bytes, which a frozen server or a
  partition never takes (nats.py issue 671).
* **Every error of the server leads to a new attempt.** Upstream, an ``-ERR`` other than stale or permissions closes the
  client for good, unlimited reconnects or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client

from bus.identity import NoTlsError
from bus.interface import Headers, Message

USER_TIMEOUT_MS = 3000
"""Unacknowledged bytes, or a full window, this long: the kernel breaks the connection (Linux TCP_USER_TIMEOUT)."""

BUFFER_LIMIT_BYTES = 4 * 1024 * 1024
"""More than this unsent: the server does not read; live data would only grow old in the buffer."""

_HEADER_LINE = b"NATS/1.0\r\n"
_NEWLINES = str.maketrans({"\r": " ", "\n": " "})
_CHECKED_LIMIT = 20_000

CONNECTION_LOST = (nats_errors.UnexpectedEOF, nats_errors.StaleConnectionError)
"""Errors that only say what ``disconnected_cb`` says too."""

Direct = Callable[[Message], None]


class Wire(Client):  # type: ignore[misc]
    """One NATS client. Callbacks given to ``connect`` must not raise; ``bus.client`` sees to that."""

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[int, Direct] = {}
        self._checked: set[str] = set()
        self._heads: dict[tuple[str, int], bytes] = {}
        self.requires_tls = False

    # --- sending -----------------------------------------------------------------------------------------------------

    def command(self, subject: str, data: bytes, headers: Headers | None = None, reply: str = "") -> bytes:
        """The bytes of one PUB or HPUB.

        Raises:
            ValueError: a subject with white space or empty tokens, or more bytes than the server takes.
        """
        if not headers:
            self._check(subject, len(data))
            return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data)
        lines = "".join([f"{key}: {value.translate(_NEWLINES)}\r\n" for key, value in headers.items()])
        block = _HEADER_LINE + lines.encode() + b"\r\n"
        size = len(block)
        self._check(subject, size + len(data))  # the server counts headers too, and cuts the connection for one byte
        sizes = b"%d %d" % (size, size + len(data))
        return b"HPUB %b %b %b\r\n%b%b\r\n" % (subject.encode(), reply.encode(), sizes, block, data)

    def block(self, messages: Iterable[tuple[str, bytes]]) -> tuple[bytes, int]:
        """The bytes of many PUBs and their number. First lines are kept: live audio repeats subject and size."""
        parts: list[bytes] = []
        add, heads = parts.append, self._heads
        for subject, data in messages:
            add(heads.get((subject, len(data))) or self._head(subject, len(data)))
            add(data)
        add(b"")
        return b"\r\n".join(parts), len(parts) // 2

    def send(self, command: bytes) -> bool:
        """Queue a command; it leaves with this turn of the event loop. False: dropped, away or full."""
        if not self.is_connected or self._pending_data_size > BUFFER_LIMIT_BYTES:
            return False
        self._pending.append(command)
        self._pending_data_size += len(command)
        if self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
        return True

    def send_now(self, commands: bytes) -> bool:
        """Write commands, and whatever waits before them, to the socket in one piece. False: dropped."""
        if not self.is_connected or self.unsent_bytes > BUFFER_LIMIT_BYTES:
            return False
        self._pending.append(commands)
        self._transport.write(b"".join(self._pending))
        self.discard_pending()
        return True

    def ping(self) -> asyncio.Future[Any]:
        """A future that is done once the server has read everything sent so far.

        nats-py's own ``flush`` writes its PING past what waits in the pending list. The future must not be cancelled.
        """
        pong: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self.send_now(b"PING\r\n")
        return pong

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait in nats-py's list and in the socket's buffer."""
        writer = getattr(self._transport, "_io_writer", None)
        waiting = writer.transport.get_write_buffer_size() if writer is not None else 0
        return int(self._pending_data_size + waiting)

    def discard_pending(self) -> None:
        """Forget what was not sent; subscriptions are sent anew by the reconnect itself."""
        self._pending: list[bytes] = []
        self._pending_data_size = 0

    # --- receiving ---------------------------------------------------------------------------------------------------

    async def attach(self, subject: str, handler: Direct, queue: str = "") -> int:
        """Subscribe; ``handler`` runs in the read loop and must not raise. The number is for :meth:`detach`."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()  # its presence spares a task
        number: int = self._sid + 1
        self._direct[number] = handler
        subscription = await self.subscribe(subject, queue=queue, future=future)
        if subscription._id != number:
            raise RuntimeError("nats-py numbered a subscription unexpectedly; see tests/bus/test_wire_contract.py")
        return number

    async def detach(self, number: int) -> None:
        """Unsubscribe."""
        self._direct.pop(number, None)
        subscription = self._subs.get(number)
        if subscription is not None and not self.is_closed and not self.is_draining:
            with contextlib.suppress(nats_errors.Error):
                await subscription.unsubscribe()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self._direct.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        parsed: Headers = {}
        if headers:
            parsed = {str(getattr(k, "value", k)): v for k, v in (await self._process_headers(headers) or {}).items()}
        # The server does not look whether a subject is UTF-8; an exception here would end the read loop.
        handler(Message(subject.decode(errors="replace"), data, parsed, reply.decode(errors="replace")))

    # --- trouble -----------------------------------------------------------------------------------------------------

    @property
    def unanswered_pings(self) -> int:
        return int(self._pings_outstanding)

    def harden_socket(self) -> None:
        """Make the kernel give up on a peer that takes nothing; to be repeated after each reconnect."""
        writer = getattr(self._transport, "_io_writer", None)
        raw = writer.get_extra_info("socket") if writer is not None else None
        if raw is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def cut(self) -> None:
        """Break the connection at once, with whatever is unsent."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    @property
    def stuck(self) -> bool:
        """Whether a task of nats-py that should run has died: nothing would ever be received, or reconnected, again."""
        if self.is_closed or self.is_draining:
            return False
        task = self._reading_task if self.is_connected else self._reconnection_task
        return task is not None and bool(task.done())

    def revive(self) -> None:
        """Connect anew, from whatever state."""
        self.discard_pending()
        self.cut()
        self._status = Client.RECONNECTING
        self._ps.reset()
        self._reconnection_task = asyncio.get_running_loop().create_task(self._attempt_reconnect())

    async def cancel_tasks(self) -> None:
        """End every task of the client, whatever state it is in: the last resort of closing."""
        tasks = [self._reading_task, self._ping_interval_task, self._flusher_task, self._reconnection_task]
        running = [task for task in tasks if task is not None and not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=0.5)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # Before a word is sent: upstream goes on in the clear where a server, or somebody before it, offers no TLS.
        if self.requires_tls and initial_connection and not info.get("tls_required"):
            raise NoTlsError
        await super()._process_info(info, initial_connection)

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None and writer.get_extra_info("sslcontext") is not None:
            # Upstream goes over to TLS without a word to the protocol, which then makes asyncio warn at every end.
            writer.transport.get_protocol()._over_ssl = True

    async def _process_op_err(self, e: Exception) -> None:
        if not (self.is_closed or self.is_reconnecting):
            self.discard_pending()
            self.cut()
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        text = err_msg.strip().strip("'")
        error = nats_errors.Error(f"nats: {text}")
        self._err = error
        await self._error_cb(error)
        if "permissions violation" not in text.lower():
            await self._process_op_err(error)

    def _head(self, subject: str, size: int) -> bytes:
        self._check(subject, size)
        if len(self._heads) > _CHECKED_LIMIT:
            self._heads.clear()
        head = self._heads[subject, size] = b"PUB %b  %d" % (subject.encode(), size)
        return head

    def _check(self, subject: str, size: int) -> None:
        if subject not in self._checked:
            self._check_subject(subject)
        if size > self._max_payload:
            raise ValueError(f"{size} bytes on {subject!r} are over the server's limit of {self._max_payload}")

    def _check_subject(self, subject: str) -> None:
        if not subject or any(c.isspace() for c in subject) or not all(subject.split(".")):
            raise ValueError(f"{subject!r} is no subject: tokens between dots, no white space")
        if len(self._checked) > _CHECKED_LIMIT:
            self._checked.clear()
        self._checked.add(subject)
