"""Capture files for sipp: RTP of our own making (libpcap classic format, Ethernet, IPv4, UDP)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from edge.media.dtmf import DtmfSender
from edge.media.rtp import RtpPacket, serialise_packet

_FILE = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")
_MAGIC = 0xA1B2C3D4
_ETHERNET = 1


def pcap(datagrams: Iterable[bytes], every_ms: int) -> bytes:
    """A capture of UDP datagrams, ``every_ms`` apart."""
    parts = [_FILE.pack(_MAGIC, 2, 4, 0, 0, 65_535, _ETHERNET)]
    for number, datagram in enumerate(datagrams):
        frame = bytes(12) + b"\x08\x00" + _ipv4(struct.pack("!HHHH", 5000, 5000, 8 + len(datagram), 0) + datagram)
        milliseconds = number * every_ms
        parts.append(_RECORD.pack(milliseconds // 1000, milliseconds % 1000 * 1000, len(frame), len(frame)) + frame)
    return b"".join(parts)


def audio(payloads: Iterable[bytes], payload_type: int) -> list[bytes]:
    """RTP packets of one stream."""
    timestamp = 4000
    packets = []
    for number, payload in enumerate(payloads):
        packets.append(serialise_packet(RtpPacket(payload_type, 100 + number, timestamp, 0xDEADBEEF, payload)))
        timestamp += len(payload)
    return packets


def keys(digits: str, payload_type: int, *, sequence: int, timestamp: int) -> list[bytes]:
    """The same stream's telephone-events (RFC 4733)."""
    sender = DtmfSender()
    sender.press(digits)
    packets = []
    while sender.active:
        packet = sender.next_packet(timestamp)
        if packet is not None:
            packets.append(
                serialise_packet(
                    RtpPacket(payload_type, sequence, packet.timestamp, 0xDEADBEEF, packet.payload, packet.marker)
                )
            )
            sequence += 1
        timestamp += 160
    return packets


def _ipv4(payload: bytes) -> bytes:
    return (
        struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
        + payload
    )
