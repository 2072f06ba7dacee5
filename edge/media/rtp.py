"""The RTP packet (RFC 3550 section 5.1): bytes to header and payload, and back.

``parse_packet`` names the exact defect of what it refuses. The receive path reads a plain header (0x80 first: no
padding, extension or contributing sources) with ``RTP_HEADER`` itself and comes here for everything else.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple

RTP_VERSION = 2
RTP_HEADER = struct.Struct("!BBHII")
"""First byte (version, padding, extension, CSRC count), marker and payload type, sequence, timestamp, SSRC."""
RTP_HEADER_BYTES = RTP_HEADER.size
PLAIN_FIRST_BYTE = 0x80
"""Version 2, no padding, no extension, no contributing sources: what nearly every telephone sends."""
MARKER_BIT = 0x80
MAX_DATAGRAM_BYTES = 2048
"""200 ms of G.711 with room for header and extension. Longer datagrams are not telephone audio."""
MAX_CONTRIBUTING_SOURCES = 15

STUN_COOKIE = b"\x21\x12\xa4\x42"
"""RFC 8489 section 5: bytes 4 to 7 of a STUN message."""

_EXTENSION_HEADER = struct.Struct("!HH")


class RtpDefect(ValueError):  # noqa: N818 - it names what is wrong with the bytes
    """Bytes that are not an RTP packet, or fields that do not fit one; the text names the defect."""


class DatagramKind(Enum):
    """What a datagram on an RTP port is, told from its first bytes (RFC 7983 section 7, RFC 5761 section 4)."""

    RTP = "rtp"
    RTCP = "rtcp"
    STUN = "stun"
    OTHER = "other"


class RtpPacket(NamedTuple):
    """One RTP packet.

    Attributes:
        payload_type: 0 to 127 (RFC 3551 section 6).
        sequence: 16 bits, wraps.
        timestamp: 32 bits, ticks of the payload's clock, wraps.
        ssrc: 32 bits, the synchronisation source.
        payload: without padding.
        marker: for audio, the first packet after silence (RFC 3551 section 4.1).
        contributing_sources: at most 15 numbers of 32 bits.
        extension_profile, extension: 16 bits and whole 32-bit words; None where there is no extension.
        padding_bytes: length of the padding, its own length byte included; 0 where there is none.
    """

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False
    contributing_sources: tuple[int, ...] = ()
    extension_profile: int = 0
    extension: bytes | None = None
    padding_bytes: int = 0


def classify(datagram: bytes) -> DatagramKind:
    """What the datagram is, from its first bytes alone; an ``RTP`` answer may still hold a defect."""
    if len(datagram) < 2:
        return DatagramKind.OTHER
    first = datagram[0]
    if first >> 6 == RTP_VERSION:
        # RFC 5761 section 4: 192 to 223 would be payload types 64 to 95 with the marker, which nobody uses.
        return DatagramKind.RTCP if 192 <= datagram[1] <= 223 else DatagramKind.RTP
    if first < 4 and datagram[4:8] == STUN_COOKIE:
        return DatagramKind.STUN
    return DatagramKind.OTHER


def parse_packet(datagram: bytes) -> RtpPacket:
    """Parse one RTP packet with any legal header.

    Raises:
        RtpDefect: too short, another version, or a CSRC list, extension or padding that runs past the end.
    """
    size = len(datagram)
    if size < RTP_HEADER_BYTES:
        raise RtpDefect(f"RTP packet of {size} bytes is shorter than its {RTP_HEADER_BYTES}-byte header")
    first, second, sequence, timestamp, ssrc = RTP_HEADER.unpack_from(datagram)
    if first >> 6 != RTP_VERSION:
        raise RtpDefect(f"RTP version {first >> 6}, expected {RTP_VERSION}")
    offset = RTP_HEADER_BYTES
    count = first & 0x0F
    if size < offset + 4 * count:
        raise RtpDefect(f"CSRC list of {count} sources is cut off after {size - offset} bytes")
    contributing = struct.unpack_from(f"!{count}I", datagram, offset) if count else ()
    offset += 4 * count
    profile, extension = 0, None
    if first & 0x10:
        profile, extension = _parse_extension(datagram, offset)
        offset += 4 + len(extension)
    padding = _padding_bytes(datagram, offset) if first & 0x20 else 0
    return RtpPacket(
        second & 0x7F,
        sequence,
        timestamp,
        ssrc,
        datagram[offset : size - padding],
        second >= MARKER_BIT,
        contributing,
        profile,
        extension,
        padding,
    )


def _parse_extension(datagram: bytes, offset: int) -> tuple[int, bytes]:
    """Profile and data of the header extension (RFC 3550 section 5.3.1)."""
    if len(datagram) < offset + 4:
        raise RtpDefect(f"header extension is cut off after {len(datagram) - offset} of its 4 header bytes")
    profile, words = _EXTENSION_HEADER.unpack_from(datagram, offset)
    data = datagram[offset + 4 : offset + 4 + 4 * words]
    if len(data) != 4 * words:
        raise RtpDefect(f"header extension of {4 * words} bytes is cut off after {len(data)}")
    return profile, data


def _padding_bytes(datagram: bytes, offset: int) -> int:
    """Length of the padding, from its last byte (RFC 3550 section 5.1)."""
    left = len(datagram) - offset
    if left == 0:
        raise RtpDefect("padding bit is set but nothing follows the header")
    padding = datagram[-1]
    if padding == 0:
        raise RtpDefect("padding bit is set but the padding length is 0")
    if padding > left:
        raise RtpDefect(f"padding of {padding} bytes is longer than the {left} bytes after the header")
    return padding


def serialise_packet(packet: RtpPacket) -> bytes:
    """Bytes of the packet; the inverse of :func:`parse_packet` for padding of zeros.

    Raises:
        RtpDefect: a field is out of its range, or an extension is not whole 32-bit words.
    """
    contributing = packet.contributing_sources
    if len(contributing) > MAX_CONTRIBUTING_SOURCES:
        raise RtpDefect(f"{len(contributing)} contributing sources, a packet holds {MAX_CONTRIBUTING_SOURCES}")
    if not 0 <= packet.payload_type <= 127:
        raise RtpDefect(f"payload type {packet.payload_type} is not within 0 to 127")
    if not 0 <= packet.padding_bytes <= 255:
        raise RtpDefect(f"padding of {packet.padding_bytes} bytes is not within 0 to 255")
    first = PLAIN_FIRST_BYTE | len(contributing)
    tail = packet.payload
    if packet.padding_bytes:
        first |= 0x20
        tail += bytes(packet.padding_bytes - 1) + bytes((packet.padding_bytes,))
    second = packet.payload_type | (MARKER_BIT if packet.marker else 0)
    try:
        middle = struct.pack(f"!{len(contributing)}I", *contributing)
        if packet.extension is not None:
            first |= 0x10
            words, rest = divmod(len(packet.extension), 4)
            if rest:
                raise RtpDefect(f"header extension of {len(packet.extension)} bytes is not whole 32-bit words")
            middle += _EXTENSION_HEADER.pack(packet.extension_profile, words) + packet.extension
        header = RTP_HEADER.pack(first, second, packet.sequence, packet.timestamp, packet.ssrc)
    except struct.error as problem:
        raise RtpDefect(f"a header field does not fit its bits: {problem}") from problem
    return header + middle + tail
