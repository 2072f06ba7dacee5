# ruff: noqa: N818  (names say what is so: a store is unavailable, a write is stale)
"""What can go wrong on the bus. Every error says what was wrong and how to mend it.

::

    BusError
    ├── BusUnavailable     no connection to the server, or it was lost while waiting
    ├── BusTimeout         connected, but no answer in time
    ├── NoResponders       nobody listens on the subject: known at once
    ├── StoreUnavailable   not known to be stored: retry with the same dedupe id
    ├── StoreRefused       the stream will never take this message: never retry
    │   └── StaleWrite     somebody else wrote the subject since: the writer has lost its ownership
    ├── RevisionConflict   a KV key is not at the expected revision: read again, decide again
    ├── NotProvisioned     stream, consumer or bucket does not exist: run `callbus provision`
    └── DecodeError        bytes that are not the message their subject promises
"""

from __future__ import annotations


class BusError(Exception):
    """Base of every error that the bus raises."""


class BusUnavailable(BusError):
    """There is no connection to the server now, or it broke while an answer was due."""


class BusRefused(BusError):
    """The server is there, but does not let this user in, or is not to be trusted; the text says what to do."""


class BusTimeout(BusError):
    """The server or the other side gave no answer within the deadline."""


class NoResponders(BusError):
    """Nobody listens on the subject of a request."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody listens on {subject!r}; is the service that answers there running?")
        self.subject = subject


class StoreUnavailable(BusError):
    """The stream gave no word that the message is stored. Retry with the same ``Nats-Msg-Id``: it is stored once."""


class StoreRefused(BusError):
    """The stream refuses this message for good. ``code``: the server's error number (nats-server errors.json)."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class StaleWrite(StoreRefused):
    """The subject or stream moved on since the writer last saw it (server errors 10070, 10071 and 10164)."""


class RevisionConflict(BusError):
    """The key is not at the expected revision."""

    def __init__(self, bucket: str, key: str, expected: int) -> None:
        wanted = f"revision {expected}" if expected else "absent"
        super().__init__(f"key {key!r} of bucket {bucket!r} is not {wanted} any more; read it again and decide again")
        self.bucket = bucket
        self.key = key
        self.expected = expected


class NotProvisioned(BusError):
    """Something that ``bus.topology`` declares is not on the server."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} does not exist on this NATS server; run `callbus provision`")
        self.kind = kind
        self.name = name


class DecodeError(BusError):
    """A message whose bytes are not what its subject promises; the text names the defect, never the content."""
