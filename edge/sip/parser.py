"""Bytes -> message, strictly: what breaks the RFC becomes a `SipDefect` that says what to answer and why.

RFC 4475 is the measure. Where it leaves a choice between repair and refusal we refuse, so that two parsers along the
way of a call cannot read the same bytes differently.
"""

from __future__ import annotations

from edge.sip.errors import SipDefect
from edge.sip.grammar import (
    CALL_ID,
    FIELD_NAME,
    FOLD,
    REQUEST_LINE,
    SIP_DATE,
    SIP_VERSION,
    STATUS_LINE,
)
from edge.sip.headers import bad
from edge.sip.message import Headers, Message, Request, Response

DEFAULT_MAX_BYTES = 65_535
DEFAULT_MAX_FIELDS = 256
MAX_VIAS = 70
"""As many hops as Max-Forwards usually allows."""

SINGLE_VALUED = (
    ("call-id", "Call-ID"),
    ("cseq", "CSeq"),
    ("from", "From"),
    ("to", "To"),
    ("max-forwards", "Max-Forwards"),
    ("content-length", "Content-Length"),
    ("content-type", "Content-Type"),
)
"""Headers that a message has at most once (section 7.3.1; RFC 4475 sections 3.3.8 and 3.3.9)."""


class Malformed(SipDefect):
    """A message that breaks the protocol, with as much of the request as could be read (None: nothing to answer)."""

    def __init__(self, defect: SipDefect, request: Request | None) -> None:
        super().__init__(defect.status if request is not None else 0, defect.reason, defect.text)
        self.request = request


def parse_message(
    data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES, max_fields: int = DEFAULT_MAX_FIELDS
) -> Request | Response:
    """Read one datagram, or one message cut out of a stream. Bytes after the body are ignored (section 18.3).

    Raises:
        Malformed: status 0 where it must be dropped: a response, an ACK, something that is not SIP at all.
    """
    # RFC 3261 section 7.5: empty lines before the start-line are ignored.
    head, separator, rest = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    lines = FOLD.sub(" ", head.decode("utf-8", "surrogateescape")).split("\r\n")
    if not separator and lines[-1] == "":
        lines.pop()
    if not lines or not lines[0]:
        raise Malformed(bad("empty message"), None)
    message = _started(lines[0])
    partial = _answerable(message)
    try:
        _read_headers(message, lines[1 : max_fields + 1])
        if len(data) > max_bytes:
            raise SipDefect(513, "Message Too Large", f"message over {max_bytes} bytes")
        if len(lines) > max_fields + 1:
            raise SipDefect(513, "Message Too Large", f"more than {max_fields} header fields")
        _check_start_line(message, lines[0])
        _check_headers(message)
        _read_body(message, rest, bool(separator))
    except SipDefect as defect:
        if partial is not None and partial.headers.get("via") is None:
            # Without a Via there is no way back (section 8.2.6.2).
            partial = None
        raise Malformed(defect, partial) from None
    return message


def _started(line: str) -> Request | Response:
    words = line.split()
    if len(words) >= 2 and SIP_VERSION.match(words[-1]) and FIELD_NAME.match(words[0]):
        return Request(words[0], " ".join(words[1:-1]), Headers())
    status = STATUS_LINE.match(line)
    if status:
        return Response(0, status["reason"] or "", Headers())
    raise Malformed(bad("start-line is neither a request's nor a response's"), None)


def _answerable(message: Message) -> Request | None:
    """An ACK is never answered (section 17.1.1.3), neither is a response."""
    return message if isinstance(message, Request) and message.method != "ACK" else None


def _read_headers(message: Message, lines: list[str]) -> None:
    defect: SipDefect | None = None
    for number, line in enumerate(lines, start=2):
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or not FIELD_NAME.match(name):
            defect = defect or bad(f"line {number} is not a header field")
        elif "\r" in value or "\n" in value:
            defect = defect or bad(f"bare CR or LF in line {number}")
        else:
            message.headers.add(name, value.strip(" \t"))
    if defect:
        raise defect


def _check_start_line(message: Message, line: str) -> None:
    if isinstance(message, Request):
        match = REQUEST_LINE.match(line)
        if match is None:
            raise bad("malformed Request-Line: blanks or <> where none may be")
        if match["version"] != "2.0":
            raise SipDefect(505, "Version Not Supported", "SIP version is not 2.0")
        if message.target.headers:
            # RFC 3261 section 19.1.1, table: headers are not allowed in a Request-URI (RFC 4475 section 3.1.2.11).
            raise bad("Request-URI with escaped headers")
        return
    assert isinstance(message, Response)
    match = STATUS_LINE.match(line)
    assert match is not None
    if match["version"] != "2.0":
        raise bad("SIP version is not 2.0")
    if len(match["status"]) != 3 or not 100 <= int(match["status"]) <= 699:
        raise bad("status code is not one of 100 to 699")
    message.status = int(match["status"])


def _check_headers(message: Message) -> None:
    """Everything that both roles rely on is read once here, so that later accessors cannot fail."""
    headers = message.headers
    for key, name in SINGLE_VALUED:
        if headers.count(key) > 1:
            raise bad(f"more than one {name} header")
    if not CALL_ID.match(message.call_id):
        raise bad("malformed Call-ID")
    if len(message.vias) > MAX_VIAS:
        raise bad(f"more than {MAX_VIAS} Via hops")
    cseq = message.cseq
    for address, name in ((message.sender, "From"), (message.recipient, "To")):
        if "tag" in address.parameters and not address.tag:
            raise bad(f"empty tag in {name}")
    # Read for their errors; the values stay with the message.
    _ = message.contacts
    if any(not route.bracketed or not route.uri.is_sip for route in message.record_routes):
        raise bad("Record-Route that is not a SIP URI in <>")
    if isinstance(message, Request):
        if cseq.method != message.method:
            raise bad("method in CSeq differs from the Request-Line's")
        max_forwards = headers.get("max-forwards")
        if max_forwards is not None and not (max_forwards.isascii() and max_forwards.isdigit()):
            raise bad("malformed Max-Forwards")
        date = headers.get("date")
        if date is not None and not SIP_DATE.match(date):
            raise bad("malformed Date, or a zone other than GMT")


def _read_body(message: Message, rest: bytes, ended: bool) -> None:
    if not ended:
        raise bad("header section does not end with an empty line")
    length = message.headers.get("content-length")
    if length is None:
        # RFC 3261 section 18.3: over UDP the body then runs to the end of the packet.
        message.body = rest
        return
    if not (length.isascii() and length.isdigit()):
        raise bad("Content-Length is not a number")
    if len(length.lstrip("0")) > 9 or int(length) > len(rest):
        raise bad("Content-Length is longer than the message")
    message.body = rest[: int(length)]
