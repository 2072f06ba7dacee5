"""Session descriptions: RFC 8866 text <-> values. What an answer says about them is in negotiation.py."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from edge.sip.errors import SdpDefect

MAX_SDP_BYTES = 32_768
"""Far above any telephone's offer (1-3 KB); bounds the work of a hostile one."""
MAX_MEDIA = 32

_CONNECTION = re.compile(r"^IN[ \t]+IP[46][ \t]+([^\s/]+)(?:/[0-9/]+)?\Z", re.IGNORECASE)
_MEDIA = re.compile(r"^(\S+)[ \t]+([0-9]{1,5})(?:/[0-9]+)?[ \t]+(\S+)((?:[ \t]+\S+)*)\Z")
_RTPMAP = re.compile(r"^([0-9]{1,3})[ \t]+([^/\s]+)/([0-9]{1,7})(?:/([0-9]+))?")
_NUMBER = re.compile(r"^[0-9]+")


class Direction(StrEnum):
    """Which way media flows, seen by the writer of the description (RFC 8866 section 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def mirrored(self) -> Direction:
        """The same flow seen from the other side (RFC 3264 section 6.1)."""
        return {Direction.SENDONLY: Direction.RECVONLY, Direction.RECVONLY: Direction.SENDONLY}.get(self, self)


_DIRECTIONS = {direction.value: direction for direction in Direction}


@dataclass(frozen=True, slots=True)
class RtpMap:
    """What a payload type means: `a=rtpmap`, or RFC 3551 section 6 for a static one."""

    payload_type: int
    name: str
    """Encoding name in upper case."""
    clock_rate_hz: int
    channels: int = 1


STATIC_PAYLOADS = {
    0: RtpMap(0, "PCMU", 8000),
    3: RtpMap(3, "GSM", 8000),
    4: RtpMap(4, "G723", 8000),
    8: RtpMap(8, "PCMA", 8000),
    9: RtpMap(9, "G722", 8000),
    13: RtpMap(13, "CN", 8000),
    18: RtpMap(18, "G729", 8000),
}
"""The audio payload types of RFC 3551 section 6 that telephones offer without an rtpmap."""


@dataclass(frozen=True, slots=True)
class Media:
    """One m-line with its attributes."""

    kind: str
    """audio, video, image..."""
    port: int
    """0: refused or switched off."""
    protocol: str
    """RTP/AVP, RTP/SAVP, udptl..."""
    formats: tuple[str, ...]
    """Payload types in order of preference, as text."""
    address: str
    """Connection address of this media, its own or the session's; empty where there is none."""
    direction: Direction
    rtpmaps: dict[int, RtpMap]
    """By payload type; static ones are filled in."""
    attributes: tuple[str, ...]
    """All a= values of this media as written."""

    def attribute(self, name: str) -> str | None:
        """Value of the first `a=name:value`; "" for a flag; None where there is none."""
        for text in self.attributes:
            key, _, value = text.partition(":")
            if key.lower() == name:
                return value.strip()
        return None

    @property
    def ptime_ms(self) -> int | None:
        """`a=ptime` in milliseconds (RFC 8866 section 6.4); None where absent or absurd."""
        number = _NUMBER.match(self.attribute("ptime") or "")
        value = int(number[0]) if number and len(number[0]) < 5 else 0
        return value if 1 <= value <= 1000 else None


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description."""

    origin: str
    """The o= value."""
    address: str
    """The session's connection address; empty where only the media have one."""
    media: tuple[Media, ...]
    attributes: tuple[str, ...]
    """Session-level a= values as written."""

    @property
    def audio(self) -> Media | None:
        """The first audio stream with a port."""
        return next((media for media in self.media if media.kind == "audio" and media.port), None)

    @property
    def codecs(self) -> tuple[str, ...]:
        """Names of the codecs of the first audio stream, in the order of preference, upper case, each once."""
        audio = self.audio
        if audio is None:
            return ()
        payloads = [int(text) for text in audio.formats if text.isascii() and text.isdigit() and len(text) < 4]
        return tuple(dict.fromkeys(audio.rtpmaps[each].name for each in payloads if each in audio.rtpmaps))


def parse_sdp(body: bytes) -> SessionDescription:
    """Read a description. Unknown lines and attributes are kept out of the way, not refused.

    Raises:
        SdpDefect: no v=0, no o=, a line that is not `x=...`, an m= or c= that cannot be read, no address for a stream.
    """
    if len(body) > MAX_SDP_BYTES:
        raise SdpDefect(f"session description over {MAX_SDP_BYTES} bytes")
    lines = [line for line in body.decode("utf-8", errors="replace").replace("\r\n", "\n").split("\n") if line.strip()]
    if not lines or lines[0].rstrip() != "v=0":
        raise SdpDefect("session description does not begin with v=0")
    sections: list[list[tuple[str, str]]] = [[]]
    for line in lines[1:]:
        # A blank before "=" or inside the letter is a broken line (RFC 8866 section 5); other letters are tolerated.
        if len(line) < 2 or line[1] != "=" or not line[0].isalpha():
            raise SdpDefect("session description has a line that is not <letter>=<value>")
        if line[0] == "m":
            sections.append([])
        sections[-1].append((line[0], line[2:].strip()))
    if len(sections) > MAX_MEDIA + 1:
        raise SdpDefect(f"more than {MAX_MEDIA} m= lines")
    return _build(sections)


def _build(sections: list[list[tuple[str, str]]]) -> SessionDescription:
    session = sections[0]
    origin = next((value for letter, value in session if letter == "o"), None)
    if origin is None:
        raise SdpDefect("session description has no o= line")
    address = _address(session)
    attributes = tuple(value for letter, value in session if letter == "a")
    direction = _direction(attributes, Direction.SENDRECV)
    media = tuple(_media(lines, address, direction) for lines in sections[1:])
    return SessionDescription(origin, address, media, attributes)


def _media(lines: list[tuple[str, str]], session_address: str, session_direction: Direction) -> Media:
    parsed = _MEDIA.match(lines[0][1])
    if parsed is None or int(parsed[2]) > 65_535:
        raise SdpDefect("m= line cannot be read")
    kind, port, protocol, formats = parsed[1].lower(), int(parsed[2]), parsed[3].upper(), tuple(parsed[4].split())
    attributes = tuple(value for letter, value in lines[1:] if letter == "a")
    address = _address(lines[1:]) or session_address
    if port and kind == "audio" and not address:
        raise SdpDefect("audio stream without a c= line")
    return Media(
        kind=kind,
        port=port,
        protocol=protocol,
        formats=formats,
        address=address,
        direction=_direction(attributes, session_direction),
        rtpmaps=_rtpmaps(formats, attributes),
        attributes=attributes,
    )


def _rtpmaps(formats: tuple[str, ...], attributes: tuple[str, ...]) -> dict[int, RtpMap]:
    offered = {int(text) for text in formats if text.isascii() and text.isdigit() and len(text) < 4}
    maps = {number: STATIC_PAYLOADS[number] for number in offered if number in STATIC_PAYLOADS}
    for text in attributes:
        key, _, value = text.partition(":")
        parsed = _RTPMAP.match(value.strip()) if key.lower() == "rtpmap" else None
        if parsed and int(parsed[1]) in offered:
            number = int(parsed[1])
            channels = int(parsed[4]) if parsed[4] and len(parsed[4]) < 4 else 1
            maps[number] = RtpMap(number, parsed[2].upper(), int(parsed[3]), channels)
    return maps


def _address(lines: list[tuple[str, str]]) -> str:
    value = next((value for letter, value in lines if letter == "c"), None)
    if value is None:
        return ""
    parsed = _CONNECTION.match(value)
    if parsed is None:
        raise SdpDefect("c= line cannot be read")
    return parsed[1]


def _direction(attributes: tuple[str, ...], default: Direction) -> Direction:
    return next((_DIRECTIONS[text.lower()] for text in attributes if text.lower() in _DIRECTIONS), default)


def build_sdp(description: SessionDescription) -> bytes:
    """Write a description: session address once, each stream's own address only where it differs."""
    lines = ["v=0", f"o={description.origin}", "s=-"]
    if description.address:
        lines.append(f"c={connection_of(description.address)}")
    lines.append("t=0 0")
    lines += [f"a={text}" for text in description.attributes]
    for media in description.media:
        lines.append(f"m={media.kind} {media.port} {media.protocol} {' '.join(media.formats)}")
        if media.address and media.address != description.address:
            lines.append(f"c={connection_of(media.address)}")
        lines += [f"a={text}" for text in media.attributes]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8")


def connection_of(address: str) -> str:
    """An address as c= and o= write it: `IN IP4 192.0.2.1`."""
    return f"IN IP{'6' if ':' in address else '4'} {address}"


def refused(media: Media) -> Media:
    """The same m-line with port 0 and no attributes: how an answer refuses a stream (RFC 3264 section 6)."""
    return replace(media, port=0, address="", attributes=(), formats=media.formats[:1] or ("0",))
