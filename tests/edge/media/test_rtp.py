"""RTP packets: golden bytes by the name of their defect, and round trips."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.media.rtp import DatagramKind, RtpDefect, RtpPacket, classify, parse_packet, serialise_packet

pytestmark = pytest.mark.unit

PACKETS = Path(__file__).parents[2] / "data" / "packets"
AUDIO = bytes(range(160))

GOOD = {
    "rtp_plain_pcmu": RtpPacket(0, 17306, 160, 0x9C0A1B2D, AUDIO),
    "rtp_marker_pcma_30ms": RtpPacket(8, 59133, 240, 0xDEE0EE8F, b"\xd5" * 240, marker=True),
    "rtp_csrc": RtpPacket(0, 1, 2, 3, AUDIO, contributing_sources=(0x11111111, 0x22222222)),
    "rtp_extension": RtpPacket(0, 1, 2, 3, AUDIO, extension_profile=0xBEDE, extension=b"\x10\xff\0\0"),
    "rtp_extension_empty": RtpPacket(0, 1, 2, 3, AUDIO, extension_profile=1, extension=b""),
    "rtp_padding": RtpPacket(0, 1, 2, 3, AUDIO, padding_bytes=4),
    "rtp_padding_only": RtpPacket(0, 1, 2, 3, b"", padding_bytes=4),
    "rtp_everything": RtpPacket(
        8, 65535, 0xFFFFFFFF, 0xFFFFFFFF, b"\xd5" * 80, True, (7,), 0xABCD, b"12345678", padding_bytes=2
    ),
    "rtp_no_payload": RtpPacket(0, 1, 2, 3, b""),
    "rtp_dtmf_end": RtpPacket(101, 8000, 13280, 0x0E05384E, b"\x01\x8a\x08\xc0"),
    "rtp_comfort_noise": RtpPacket(13, 5, 6, 7, b"\x3f"),
}

BAD = {
    "rtp_bad_empty": "RTP packet of 0 bytes is shorter than its 12-byte header",
    "rtp_bad_11_bytes": "RTP packet of 11 bytes is shorter than its 12-byte header",
    "rtp_bad_version_1": "RTP version 1, expected 2",
    "rtp_bad_csrc_cut": "CSRC list of 15 sources is cut off after 40 bytes",
    "rtp_bad_extension_header_cut": "header extension is cut off after 2 of its 4 header bytes",
    "rtp_bad_extension_cut": "header extension of 64 bytes is cut off after 20",
    "rtp_bad_padding_zero": "padding bit is set but the padding length is 0",
    "rtp_bad_padding_too_long": "padding of 255 bytes is longer than the 4 bytes after the header",
    "rtp_bad_padding_nothing": "padding bit is set but nothing follows the header",
}


def load(name: str) -> bytes:
    return (PACKETS / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", GOOD)
def test_golden_packet_parses_and_round_trips(name: str) -> None:
    packet = parse_packet(load(name))
    assert packet == GOOD[name]
    assert serialise_packet(packet) == load(name)


@pytest.mark.parametrize("name", BAD)
def test_each_defect_is_named(name: str) -> None:
    with pytest.raises(RtpDefect) as caught:
        parse_packet(load(name))
    assert str(caught.value) == BAD[name]


def test_every_golden_packet_is_used() -> None:
    assert {path.stem for path in PACKETS.glob("rtp_*.bin")} == set(GOOD) | set(BAD)


@pytest.mark.parametrize(
    ("changes", "defect"),
    [
        ({"payload_type": 128}, "payload type 128 is not within 0 to 127"),
        ({"contributing_sources": tuple(range(16))}, "16 contributing sources, a packet holds 15"),
        ({"padding_bytes": 256}, "padding of 256 bytes is not within 0 to 255"),
        ({"extension": b"abc"}, "header extension of 3 bytes is not whole 32-bit words"),
        ({"sequence": 65536}, "a header field does not fit its bits"),
        ({"timestamp": -1}, "a header field does not fit its bits"),
        ({"contributing_sources": (1 << 32,)}, "a header field does not fit its bits"),
    ],
)
def test_what_does_not_fit_is_not_serialised(changes: dict[str, object], defect: str) -> None:
    with pytest.raises(RtpDefect, match=defect):
        serialise_packet(GOOD["rtp_plain_pcmu"]._replace(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("datagram", "kind"),
    [
        (load("rtp_plain_pcmu"), DatagramKind.RTP),
        (load("rtp_dtmf_end"), DatagramKind.RTP),
        (load("rtcp_sr_sdes"), DatagramKind.RTCP),
        (load("rtcp_bye_plain"), DatagramKind.RTCP),
        (load("stun_binding_request"), DatagramKind.STUN),
        (b"\x00\x01\x00\x00nocookie", DatagramKind.OTHER),
        (b"\r\n\r\n", DatagramKind.OTHER),
        (b"\x80", DatagramKind.OTHER),
        (b"", DatagramKind.OTHER),
        (load("rtp_bad_version_1"), DatagramKind.OTHER),
    ],
)
def test_datagrams_on_one_port_are_told_apart(datagram: bytes, kind: DatagramKind) -> None:
    assert classify(datagram) is kind


packets = st.builds(
    RtpPacket,
    st.integers(0, 127),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=200),
    st.booleans(),
    st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
    st.just(0),
    st.none() | st.integers(0, 4).map(lambda words: b"ab12" * words),
    st.integers(0, 255),
)


@given(packets)
def test_any_packet_round_trips(packet: RtpPacket) -> None:
    assert parse_packet(serialise_packet(packet)) == packet


@given(st.binary(max_size=64))
def test_any_bytes_parse_or_name_a_defect(datagram: bytes) -> None:
    with suppress(RtpDefect):
        assert len(parse_packet(datagram).payload) <= len(datagram)
