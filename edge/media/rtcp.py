"""RTCP packets (RFC 3550 section 6): sender and receiver reports, SDES CNAME, BYE; compound datagrams in and out."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

RTCP_VERSION = 2
SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
GOODBYE = 203
CNAME_ITEM = 1
MAX_BLOCKS = 31
"""Five bits count the blocks or sources of a packet."""

_HEADER = struct.Struct("!BBH")
_SENDER_INFO = struct.Struct("!IQIII")
_BLOCK = struct.Struct("!IIIIII")


class RtcpDefect(ValueError):  # noqa: N818 - it names what is wrong with the bytes
    """Bytes that are not RTCP, or fields that do not fit; the text names the defect."""


class ReportBlock(NamedTuple):
    """Reception of one source (RFC 3550 section 6.4.1).

    Attributes:
        ssrc: whose packets these are.
        fraction_lost: 256ths, since the last report.
        cumulative_lost: packets, signed 24 bits.
        highest_sequence: cycles and sequence number, 32 bits.
        jitter: ticks.
        last_report: middle 32 bits of the NTP time of the source's last sender report, 0 where none came.
        delay: since then, 1/65,536 s.
    """

    ssrc: int
    fraction_lost: int = 0
    cumulative_lost: int = 0
    highest_sequence: int = 0
    jitter: int = 0
    last_report: int = 0
    delay: int = 0


class SenderReport(NamedTuple):
    """``ntp``: 64 bits, seconds since 1900 in the upper half. ``timestamp``: RTP ticks of the same instant."""

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()


class ReceiverReport(NamedTuple):
    """A report of who sends nothing itself."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


class SourceDescription(NamedTuple):
    """The CNAME of a source; other items are read over. ``cname`` is empty where there was none."""

    ssrc: int
    cname: str


class Goodbye(NamedTuple):
    """The sources leave; ``reason`` is often empty."""

    ssrcs: tuple[int, ...]
    reason: str = ""


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Goodbye


def parse_compound(datagram: bytes) -> list[RtcpPacket]:
    """The packets of one datagram in order; types that are not listed above are read over.

    A source description of several sources gives one entry for each.

    Raises:
        RtcpDefect: a wrong version, or lengths that run past the end.
    """
    packets: list[RtcpPacket] = []
    offset = 0
    if not datagram:
        raise RtcpDefect("RTCP datagram is empty")
    while offset < len(datagram):
        if len(datagram) - offset < _HEADER.size:
            raise RtcpDefect(f"RTCP header is cut off after {len(datagram) - offset} of {_HEADER.size} bytes")
        first, kind, words = _HEADER.unpack_from(datagram, offset)
        if first >> 6 != RTCP_VERSION:
            raise RtcpDefect(f"RTCP version {first >> 6}, expected {RTCP_VERSION}")
        end = offset + 4 + 4 * words
        if end > len(datagram):
            raise RtcpDefect(f"RTCP packet of {end - offset} bytes is cut off after {len(datagram) - offset}")
        body = datagram[offset + 4 : end - _padding(datagram, first, offset, end)]
        packets.extend(_parse_body(kind, first & 0x1F, body))
        offset = end
    return packets


def _padding(datagram: bytes, first: int, offset: int, end: int) -> int:
    """Padding bytes at the end of one packet (RFC 3550 section 6.4.1)."""
    if not first & 0x20:
        return 0
    padding = datagram[end - 1]
    if padding == 0 or padding > end - offset - 4:
        raise RtcpDefect(f"RTCP padding of {padding} bytes in a packet with {end - offset - 4} after its header")
    return padding


def _parse_body(kind: int, count: int, body: bytes) -> list[RtcpPacket]:
    if kind == SENDER_REPORT:
        if len(body) < _SENDER_INFO.size:
            raise RtcpDefect(f"sender report of {len(body)} bytes, its sender information alone takes 24")
        ssrc, ntp, timestamp, packets, octets = _SENDER_INFO.unpack_from(body)
        blocks = _parse_blocks(count, body, _SENDER_INFO.size)
        return [SenderReport(ssrc, ntp, timestamp, packets, octets, blocks)]
    if kind == RECEIVER_REPORT:
        if len(body) < 4:
            raise RtcpDefect("receiver report without the SSRC of its sender")
        return [ReceiverReport(_number(body, 0), _parse_blocks(count, body, 4))]
    if kind == SOURCE_DESCRIPTION:
        return list(_parse_descriptions(count, body))
    if kind == GOODBYE:
        return [_parse_goodbye(count, body)]
    return []


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "big")


def _parse_blocks(count: int, body: bytes, offset: int) -> tuple[ReportBlock, ...]:
    if len(body) < offset + count * _BLOCK.size:
        raise RtcpDefect(f"{count} report blocks announced, {(len(body) - offset) // _BLOCK.size} are there")
    blocks = []
    for start in range(offset, offset + count * _BLOCK.size, _BLOCK.size):
        ssrc, lost, highest, jitter, last_report, delay = _BLOCK.unpack_from(body, start)
        cumulative = (lost & 0xFFFFFF) - ((lost & 0x800000) << 1)
        blocks.append(ReportBlock(ssrc, lost >> 24, cumulative, highest, jitter, last_report, delay))
    return tuple(blocks)


def _parse_descriptions(count: int, body: bytes) -> Iterable[SourceDescription]:
    """RFC 3550 section 6.5: per source its SSRC, items, a null byte, and nulls up to the next 32-bit word."""
    offset = 0
    for _ in range(count):
        if len(body) < offset + 5:
            raise RtcpDefect(f"{count} sources described, the bytes end before the last")
        ssrc = _number(body, offset)
        offset += 4
        cname = ""
        while body[offset]:
            item = body[offset]
            if len(body) < offset + 2 or len(body) <= offset + 2 + body[offset + 1]:
                raise RtcpDefect("source description item is cut off")
            length = body[offset + 1]
            if item == CNAME_ITEM:
                cname = body[offset + 2 : offset + 2 + length].decode("utf-8", "replace")
            offset += 2 + length
        offset += 4 - offset % 4
        yield SourceDescription(ssrc, cname)


def _parse_goodbye(count: int, body: bytes) -> Goodbye:
    if len(body) < 4 * count:
        raise RtcpDefect(f"{count} sources leave, {len(body) // 4} are named")
    ssrcs = tuple(_number(body, 4 * index) for index in range(count))
    reason = body[4 * count :]
    if not reason:
        return Goodbye(ssrcs)
    if len(reason) < 1 + reason[0]:
        raise RtcpDefect("reason for leaving is cut off")
    return Goodbye(ssrcs, reason[1 : 1 + reason[0]].decode("utf-8", "replace"))


def build_compound(packets: Iterable[RtcpPacket]) -> bytes:
    """One datagram; RFC 3550 section 6.1 wants a report first and an SDES CNAME with it.

    Raises:
        RtcpDefect: a field does not fit its bits, or over 31 blocks or sources.
    """
    return b"".join(_build(packet) for packet in packets)


def _build(packet: RtcpPacket) -> bytes:
    try:
        if isinstance(packet, SenderReport):
            info = _SENDER_INFO.pack(packet.ssrc, packet.ntp, packet.timestamp, packet.packets, packet.octets)
            return _framed(SENDER_REPORT, len(packet.blocks), info + _build_blocks(packet.blocks))
        if isinstance(packet, ReceiverReport):
            body = packet.ssrc.to_bytes(4, "big") + _build_blocks(packet.blocks)
            return _framed(RECEIVER_REPORT, len(packet.blocks), body)
        if isinstance(packet, SourceDescription):
            cname = packet.cname.encode()
            item = packet.ssrc.to_bytes(4, "big") + bytes((CNAME_ITEM, len(cname))) + cname
            return _framed(SOURCE_DESCRIPTION, 1, item + bytes(4 - len(item) % 4))
        body = b"".join(ssrc.to_bytes(4, "big") for ssrc in packet.ssrcs)
        if packet.reason:
            reason = packet.reason.encode()
            body += bytes((len(reason),)) + reason
            body += bytes(-len(body) % 4)
        return _framed(GOODBYE, len(packet.ssrcs), body)
    except (struct.error, OverflowError, ValueError) as problem:
        raise RtcpDefect(f"{type(packet).__name__} field does not fit its bits: {problem}") from problem


def _build_blocks(blocks: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            block.ssrc,
            block.fraction_lost << 24 | block.cumulative_lost & 0xFFFFFF,
            block.highest_sequence,
            block.jitter,
            block.last_report,
            block.delay,
        )
        for block in blocks
    )


def _framed(kind: int, count: int, body: bytes) -> bytes:
    if count > MAX_BLOCKS:
        raise RtcpDefect(f"{count} blocks or sources, an RTCP packet holds {MAX_BLOCKS}")
    return _HEADER.pack(RTCP_VERSION << 6 | count, kind, len(body) // 4) + body
