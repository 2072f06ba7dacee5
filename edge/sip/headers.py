"""Header values with a structure: parsed from text, written back as text.

Every `parse_*` raises `SipDefect` (400) that names the header at fault and never repeats its content.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from edge.sip.errors import SipDefect
from edge.sip.grammar import (
    ABSOLUTE_URI,
    BARE_ADDRESS,
    CSEQ,
    LIST_MARK,
    MAGIC_COOKIE,
    NAME_ADDRESS,
    PARAMETER,
    SIP_URI,
    VIA,
)

DEFAULT_PORT = 5060
MAX_SEQUENCE = 2**32 - 1
"""RFC 3261 section 8.1.1.5: 32 bits. Ours stay below 2**31, others' upper half is taken as well."""

REMEMBERED = 1024
MAX_REMEMBERED = 256
"""So many addresses of so many characters are kept parsed."""

Parameters = dict[str, str | None]
"""Names in lower case, in order; None: a parameter without a value."""


def bad(text: str) -> SipDefect:
    """A 400 that says what is wrong."""
    return SipDefect(400, "Bad Request", text)


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI as it stood on the wire, with the parts of a SIP URI where it is one."""

    text: str
    scheme: str
    """Lower case."""
    user: str = ""
    """As written, %-escapes kept: `sips%3Auser` is not `sips:user` (RFC 4475 section 3.1.1.3)."""
    host: str = ""
    """Without the brackets of IPv6; empty for schemes other than sip and sips."""
    port: int | None = None
    parameters: str = ""
    """`;name=value` pieces as written."""
    headers: str = ""

    @property
    def is_sip(self) -> bool:
        """sip or sips."""
        return self.scheme in ("sip", "sips")

    @property
    def user_name(self) -> str:
        """The user for people and number plans: %-escapes resolved, `;` parameters of a number left out."""
        if self.scheme == "tel":
            return unquote(self.text[4:].partition(";")[0])
        return unquote(self.user.partition(";")[0] or self.user)

    def parameter(self, name: str) -> str | None:
        """Value of a URI parameter, "" for a flag; None where absent."""
        for piece in self.parameters.split(";")[1:]:
            key, _, value = piece.partition("=")
            if unquote(key).lower() == name:
                return unquote(value)
        return None


def parse_uri(text: str, header: str) -> Uri:
    """Read any URI; `header` names the place for the error.

    Raises:
        SipDefect: it breaks RFC 3261 section 25.1.
    """
    match = SIP_URI.match(text)
    if match:
        host, port = match["host"], match["port"]
        if port and not 0 < int(port) <= 65_535:
            raise bad(f"port out of range in the URI of {header}")
        return Uri(
            text,
            match["scheme"].lower(),
            match["user"] or "",
            host.strip("[]"),
            int(port) if port else None,
            match["parameters"],
            match["headers"] or "",
        )
    other = ABSOLUTE_URI.match(text)
    if other and other["scheme"].lower() not in ("sip", "sips"):
        return Uri(text, other["scheme"].lower())
    raise bad(f"malformed URI in {header}")


def parse_parameters(text: str, header: str) -> Parameters:
    """Read `;name=value;flag` up to the end of the text."""
    parameters: Parameters = {}
    position, end = 0, len(text.rstrip(" \t"))
    while position < end:
        match = PARAMETER.match(text, position)
        if match is None:
            raise bad(f"malformed or empty parameter in {header}")
        parameters.setdefault(match["name"].lower(), match["value"])
        position = match.end()
    return parameters


@dataclass(frozen=True, slots=True)
class NameAddress:
    """From, To, Contact, Route, Record-Route: a URI, perhaps with a display name and header parameters."""

    text: str
    """The whole value as written."""
    uri: Uri
    display: str
    """Unquoted; empty where there is none."""
    parameters: Parameters
    """Never changed: the value is shared."""
    bracketed: bool
    """Whether the URI stood in <>."""

    @property
    def tag(self) -> str:
        """The tag of From and To (section 19.3); empty where there is none."""
        return self.parameters.get("tag") or ""


def parse_name_address(text: str, header: str) -> NameAddress:
    """Read name-addr or addr-spec with parameters."""
    # The requests of a call repeat the same few addresses; long ones would make the memory a gift to strangers.
    return _recent(text, header) if len(text) <= MAX_REMEMBERED else _parse_name_address(text, header)


def _parse_name_address(text: str, header: str) -> NameAddress:
    text = text.strip(" \t")
    match = NAME_ADDRESS.match(text)
    if match:
        uri = parse_uri(match["uri"], header)
        quoted = match["quoted"]
        display = _unquoted(quoted) if quoted else match["tokens"] or ""
        return NameAddress(text, uri, display, parse_parameters(text[match.end() :], header), True)
    if text.startswith('"') or "<" in text or ">" in text:
        raise bad(f"malformed display name or <> in {header}")
    bare = BARE_ADDRESS.match(text)
    if bare is None:
        raise bad(f"no URI in {header}")
    rest = text[bare.end() :]
    if rest.startswith("?"):
        # RFC 3261 section 20: a URI with a comma, question mark or semicolon stands in <>.
        raise bad(f"URI with ? outside <> in {header}")
    return NameAddress(text, parse_uri(bare["uri"], header), "", parse_parameters(rest, header), False)


_recent = lru_cache(maxsize=REMEMBERED)(_parse_name_address)


def _unquoted(quoted: str) -> str:
    inner, result, escaped = quoted[1:-1], [], False
    for character in inner:
        if character == "\\" and not escaped:
            escaped = True
            continue
        result.append(character)
        escaped = False
    return "".join(result)


@dataclass(frozen=True, slots=True)
class Via:
    """One hop of the way that the response goes back (section 20.42)."""

    transport: str
    """Upper case."""
    host: str
    """sent-by without IPv6 brackets."""
    port: int | None
    parameters: Parameters

    @property
    def branch(self) -> str:
        """Empty where there is none (RFC 2543)."""
        return self.parameters.get("branch") or ""

    @property
    def unique(self) -> bool:
        """Whether the branch alone names the transaction: the cookie, and something after it (RFC 4475 3.2.1)."""
        return self.branch.startswith(MAGIC_COOKIE) and len(self.branch) > len(MAGIC_COOKIE)

    @property
    def sent_by(self) -> str:
        """host:port in lower case, the default port filled in: part of the transaction's key (17.2.3)."""
        return f"{self.host.lower()}:{self.port or DEFAULT_PORT}"

    def with_source(self, host: str, port: int) -> Via:
        """The same with `received` where the packet came from elsewhere (18.2.1), and `rport` filled (RFC 3581)."""
        parameters = dict(self.parameters)
        if "rport" in parameters:
            parameters["rport"] = str(port)
            parameters["received"] = host
        elif host.lower() != self.host.lower():
            parameters["received"] = host
        else:
            parameters.pop("received", None)
        return Via(self.transport, self.host, self.port, parameters)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"SIP/2.0/{self.transport} {host}{port}{format_parameters(self.parameters)}"


def parse_via(text: str) -> Via:
    """Read one via-parm."""
    text = text.strip(" \t")
    match = VIA.match(text)
    if match is None:
        raise bad("malformed Via")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port <= 65_535:
        raise bad("port out of range in Via")
    parameters = parse_parameters(text[match.end() :], "Via")
    return Via(match["transport"].upper(), match["host"].strip("[]"), port, parameters)


class CSeq(NamedTuple):
    """Order and method of a request (section 20.16)."""

    number: int
    method: str


def parse_cseq(text: str) -> CSeq:
    """Read a CSeq."""
    match = CSEQ.match(text)
    if match is None:
        raise bad("malformed CSeq")
    if len(match["number"].lstrip("0")) > 10 or int(match["number"]) > MAX_SEQUENCE:
        raise bad("CSeq number over 2**32-1")
    return CSeq(int(match["number"]), match["method"])


def split_list(value: str) -> list[str]:
    """Elements of a comma-separated value, blanks stripped; empty elements are kept for the caller to refuse."""
    if "," not in value:
        return [value.strip(" \t")]
    elements, start, quoted, bracketed, skip = [], 0, False, False, -1
    for match in LIST_MARK.finditer(value):
        mark, position = match[0], match.start()
        if position == skip:
            continue
        if quoted:
            if mark == "\\":
                skip = position + 1
            elif mark == '"':
                quoted = False
        elif mark == '"':
            quoted = True
        elif mark in "<>":
            bracketed = mark == "<"
        elif mark == "," and not bracketed:
            elements.append(value[start:position].strip(" \t"))
            start = position + 1
    elements.append(value[start:].strip(" \t"))
    return elements


def format_parameters(parameters: Parameters) -> str:
    """`;name=value;flag`."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in parameters.items())


def host_port(host: str, port: int) -> str:
    """`host:port` for a URI or a Via: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
