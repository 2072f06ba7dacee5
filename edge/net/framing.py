"""Cuts a SIP byte stream into messages (RFC 3261 section 18.3), and sees keep-alives (RFC 5626 section 4.4.1). Pure."""

from __future__ import annotations

import re

MAX_HEADER_BYTES = 65_536
MAX_BODY_BYTES = 65_536

_CONTENT_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class StreamFramer:
    """Feed bytes as they arrive, take whole messages.

    Attributes:
        pings: double CRLFs seen since the last :meth:`take_pings`; each wants one CRLF back.
        broken: why the stream can't be followed any further; empty while all is well. What was whole before the
            defect, and the header block with the defect, have been returned: the user agent may still refuse it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._pings = 0
        self.broken = ""

    @property
    def pending(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._buffer)

    def take_pings(self) -> int:
        """Keep-alives to answer, counted once."""
        pings, self._pings = self._pings, 0
        return pings

    def feed(self, data: bytes) -> list[bytes]:
        """Messages that ``data`` completes, in order. Nothing after ``broken`` was set."""
        messages: list[bytes] = []
        if self.broken:
            return messages
        self._buffer += data
        while not self.broken:
            self._strip_keepalives()
            message = self._next()
            if message is None:
                break
            messages.append(message)
        return messages

    def _strip_keepalives(self) -> None:
        count = 0
        while self._buffer.startswith(b"\r\n", count):
            count += 2
        if count:
            self._pings += count // 4
            # An odd CRLF may be the first half of a ping: it waits for the next bytes.
            keep = 2 if count % 4 and len(self._buffer) == count else 0
            del self._buffer[: count - keep]

    def _next(self) -> bytes | None:
        if self._buffer.startswith(b"\r\n") or not self._buffer:
            return None
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                self.broken = f"header block over {MAX_HEADER_BYTES} bytes"
                self._buffer.clear()
            return None
        head = bytes(self._buffer[: end + 4])
        length = self._body_length(head)
        if self.broken:
            self._buffer.clear()
            return head
        if len(self._buffer) < len(head) + length:
            return None
        message = bytes(self._buffer[: len(head) + length])
        del self._buffer[: len(message)]
        return message

    def _body_length(self, head: bytes) -> int:
        """Content-Length of a header block; 0 where it has none (then there is no telling a body from the next)."""
        values = set(_CONTENT_LENGTH.findall(head))
        if not values:
            return 0
        value = values.pop()
        if values or not value.isdigit():
            self.broken = "Content-Length is not one number"
            return 0
        if len(value) > 9 or int(value) > MAX_BODY_BYTES:
            self.broken = f"body over {MAX_BODY_BYTES} bytes"
            return 0
        return int(value)
