"""Requests and responses: header lines kept as they came, typed values beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property

from edge.sip.errors import SipDefect
from edge.sip.grammar import COMPACT_FORMS, MEDIA_TYPE
from edge.sip.headers import (
    CSeq,
    NameAddress,
    Uri,
    Via,
    bad,
    parse_cseq,
    parse_name_address,
    parse_uri,
    parse_via,
    split_list,
)

DEFAULT_MAX_FORWARDS = 70
SDP_TYPE = "application/sdp"

REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "Version Not Supported",
    513: "Message Too Large",
    603: "Decline",
}
"""Reason phrases of RFC 3261 section 21 for what we send."""


_USUAL_NAMES = (
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Max-Forwards",
    "Content-Type",
    "Content-Length",
    "Record-Route",
    "Route",
    "Allow",
    "Supported",
    "Server",
    "User-Agent",
)
_KEYS = {name: name.lower() for name in _USUAL_NAMES}


_LENGTH_NAMES = frozenset({"Content-Length", "content-length", "l", "L"})


def _key(name: str) -> str:
    """The long name in lower case."""
    known = _KEYS.get(name)
    if known is not None:
        return known
    lowered = name.lower()
    return COMPACT_FORMS.get(lowered, lowered)


class Headers:
    """Header fields in order. Lookups take the long name in lower case; compact forms are found under it."""

    __slots__ = ("_fields", "_values")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: list[tuple[str, str]] = list(fields)
        self._values: dict[str, list[str]] | None = None
        """Values by key, made at the first lookup: what we only send is never looked up."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def get(self, key: str) -> str | None:
        """The first value; None where there is none."""
        values = (self._values or self._index()).get(key)
        return values[0] if values else None

    def all(self, key: str) -> list[str]:
        """All values, one per line."""
        return (self._values or self._index()).get(key, [])

    def elements(self, key: str) -> list[str]:
        """All values of a header that takes a list, over all its lines (section 7.3.1)."""
        return [element for value in self.all(key) for element in split_list(value)]

    def tokens(self, key: str) -> list[str]:
        """Option tags and the like: lower case, empty elements left out."""
        return [element.lower() for element in self.elements(key) if element]

    def count(self, key: str) -> int:
        """Number of lines."""
        return len(self.all(key))

    def add(self, name: str, value: str) -> None:
        """Append a line."""
        self._fields.append((name, value))
        if self._values is not None:
            self._values.setdefault(_key(name), []).append(value)

    def replace_first(self, key: str, value: str) -> None:
        """Give the first line of that name another value; it must be there."""
        index = next(index for index, (name, _) in enumerate(self._fields) if _key(name) == key)
        self._fields[index] = (self._fields[index][0], value)
        self._values = None

    def _index(self) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for name, value in self._fields:
            key = _KEYS.get(name) or _key(name)
            if key in values:
                values[key].append(value)
            else:
                values[key] = [value]
        self._values = values
        return values


class Message:
    """What requests and responses share. The typed accessors raise `SipDefect` on values that break the RFC."""

    def __init__(self, headers: Headers, body: bytes) -> None:
        self.headers = headers
        self.body = body

    def _required(self, key: str, name: str) -> str:
        value = self.headers.get(key)
        if value is None:
            raise bad(f"no {name} header")
        return value

    @cached_property
    def vias(self) -> list[Via]:
        """All hops, the sender of this message first."""
        self._required("via", "Via")
        return [parse_via(element) for element in self.headers.elements("via")]

    @cached_property
    def sender(self) -> NameAddress:
        """The From header."""
        return parse_name_address(self._required("from", "From"), "From")

    @cached_property
    def recipient(self) -> NameAddress:
        """The To header."""
        return parse_name_address(self._required("to", "To"), "To")

    @cached_property
    def cseq(self) -> CSeq:
        """The CSeq header."""
        return parse_cseq(self._required("cseq", "CSeq"))

    @cached_property
    def call_id(self) -> str:
        """The Call-ID header, compared byte by byte (section 8.1.1.4)."""
        return self._required("call-id", "Call-ID")

    @cached_property
    def contacts(self) -> list[NameAddress]:
        """Contact headers; `*` of an unregistration is left out."""
        return [
            parse_name_address(element, "Contact") for element in self.headers.elements("contact") if element != "*"
        ]

    @cached_property
    def record_routes(self) -> list[NameAddress]:
        """Record-Route headers in the order of the message."""
        return [parse_name_address(element, "Record-Route") for element in self.headers.elements("record-route")]

    @property
    def content_type(self) -> str:
        """Media type in lower case without parameters; empty where there is none."""
        match = MEDIA_TYPE.match(self.headers.get("content-type") or "")
        return f"{match[1]}/{match[2]}".lower() if match else ""

    def _start_line(self) -> str:
        raise NotImplementedError

    def serialise(self) -> bytes:
        """The bytes for the wire; Content-Length is set here and nowhere else."""
        lines = [self._start_line()]
        lines += [f"{name}: {value}" for name, value in self.headers if name not in _LENGTH_NAMES]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


class Request(Message):
    """A request."""

    def __init__(self, method: str, uri: str, headers: Headers, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri

    @cached_property
    def target(self) -> Uri:
        """The Request-URI."""
        return parse_uri(self.uri, "the Request-URI")

    def mark_source(self, host: str, port: int) -> None:
        """Note in the top Via where the request came from (section 18.2.1, RFC 3581 section 4)."""
        marked = self.vias[0].with_source(host, port)
        if marked != self.vias[0]:
            elements = split_list(self.headers.get("via") or "")
            self.headers.replace_first("via", ", ".join([str(marked), *elements[1:]]))
            self.vias[0] = marked

    def mark_source_if_readable(self, host: str, port: int) -> None:
        """The same for a request that broke the protocol: its Via may be what is broken."""
        with suppress(SipDefect):
            self.mark_source(host, port)

    def _start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0"


class Response(Message):
    """A response."""

    def __init__(self, status: int, reason: str, headers: Headers, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.status = status
        self.reason = reason

    @property
    def retry_after_s(self) -> int | None:
        """Seconds of Retry-After (section 20.33); None where absent or absurd."""
        digits = (self.headers.get("retry-after") or "").partition("(")[0].partition(";")[0].strip()
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 8 else None

    def _start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"


def response_to(
    request: Request, status: int, *, reason: str = "", to_tag: str = "", headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """A response without body, as section 8.2.6.2 builds it: Via, From, To, Call-ID, CSeq as they came.

    Works on a request that could not be read to the end as well: what is missing is left out.
    """
    fields = [("Via", value) for value in request.headers.all("via")]
    for name in ("From", "To", "Call-ID", "CSeq"):
        value = request.headers.get(name.lower())
        if value is not None:
            fields.append((name, f"{value};tag={to_tag}" if name == "To" and to_tag else value))
    fields += headers
    return Response(status, reason or REASONS.get(status, "Unknown"), Headers(fields))
