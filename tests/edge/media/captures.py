"""A reader for capture files of the classic pcap kind, Ethernet and IPv4 and UDP only."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

_ETHERNET = 14
_UDP = 8


class CapturedDatagram(NamedTuple):
    """``at``: seconds since the first one."""

    at: float
    source: tuple[str, int]
    data: bytes


def read_pcap(path: Path) -> list[CapturedDatagram]:
    """The UDP datagrams of a capture."""
    capture = path.read_bytes()
    order = "<" if capture[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    offset = 24
    datagrams: list[CapturedDatagram] = []
    began = None
    while offset < len(capture):
        seconds, micros, size, _ = struct.unpack_from(f"{order}IIII", capture, offset)
        packet = capture[offset + 16 : offset + 16 + size]
        offset += 16 + size
        at = seconds + micros / 1_000_000
        began = at if began is None else began
        internet = packet[_ETHERNET:]
        header = (internet[0] & 0x0F) * 4
        host = ".".join(str(byte) for byte in internet[12:16])
        port, _, length = struct.unpack_from("!HHH", internet, header)
        datagrams.append(CapturedDatagram(at - began, (host, port), internet[header + _UDP : header + length]))
    return datagrams
