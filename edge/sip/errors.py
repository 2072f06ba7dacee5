"""The exception tree of the SIP room.

SipError
 ├─ SipDefect        the peer broke the protocol: carries the status to answer with
 ├─ SdpDefect        a session description that cannot be read
 ├─ NotAcceptable    a readable offer that we cannot take part in
 └─ UsageError       we broke the protocol
     ├─ UnknownCall  the handle's call is over
     ├─ WrongState   the call is not at the point where this can be done
     └─ BadField     a header value that would break out of its line
"""

from __future__ import annotations


class SipError(Exception):
    """Base of all errors raised by this room."""


class SipDefect(SipError):  # noqa: N818
    """A message broke the protocol. `status` 0 means: drop it without an answer."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text


class SdpDefect(SipError):  # noqa: N818
    """The session description breaks RFC 8866; the text names the line."""


class NotAcceptable(SipError):  # noqa: N818
    """The offer cannot be taken: answer with `status` and a Warning header of `warning_code` (RFC 3261 20.43)."""

    status = 488

    def __init__(self, warning_code: int, text: str) -> None:
        super().__init__(text)
        self.warning_code = warning_code
        self.text = text


class UsageError(SipError):
    """The caller of a method asked for something the protocol does not allow."""


class UnknownCall(UsageError):  # noqa: N818
    """The call is over, or the handle never was one: an answer that came too late."""


class WrongState(UsageError):  # noqa: N818
    """The call is not at the point where this can be done; the text says where it is."""


class BadField(UsageError):  # noqa: N818
    """A header of ours holds a line break: someone's text would become headers of its own."""
