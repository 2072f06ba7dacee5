"""RTCP packets: golden bytes by the name of their defect, and round trips."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.media.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    RtcpDefect,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    build_compound,
    parse_compound,
)

pytestmark = pytest.mark.unit

PACKETS = Path(__file__).parents[2] / "data" / "packets"
BLOCK = ReportBlock(0x01020304, 12, -3, 0x0001FFFF, 44, 0x12345678, 65536)

ROUND_TRIPS: dict[str, list[RtcpPacket]] = {
    "rtcp_sr_sdes": [
        SenderReport(0xA1, 0xE5D3C1B2_80000000, 16000, 100, 16000, (BLOCK,)),
        SourceDescription(0xA1, "edge@callbus"),
    ],
    "rtcp_rr_empty": [ReceiverReport(0xA2)],
    "rtcp_rr_two_blocks": [ReceiverReport(0xA2, (BLOCK, BLOCK._replace(cumulative_lost=8_388_607)))],
    "rtcp_bye_reason": [ReceiverReport(0xA2), Goodbye((0xA2,), "call over")],
    "rtcp_bye_plain": [Goodbye((0xA2, 0xA3))],
}
ONE_WAY: dict[str, list[RtcpPacket]] = {
    "rtcp_sdes_no_cname": [SourceDescription(0xA4, "")],
    "rtcp_sdes_two_sources": [SourceDescription(1, "a"), SourceDescription(2, "b")],
    "rtcp_app_then_rr": [ReceiverReport(5)],
    "rtcp_padding": [ReceiverReport(5)],
}
BAD = {
    "rtcp_bad_empty": "RTCP datagram is empty",
    "rtcp_bad_header_cut": "RTCP header is cut off after 3 of 4 bytes",
    "rtcp_bad_version": "RTCP version 1, expected 2",
    "rtcp_bad_length": "RTCP packet of 40 bytes is cut off after 8",
    "rtcp_bad_padding": "RTCP padding of 5 bytes in a packet with 4 after its header",
    "rtcp_bad_sr_info_cut": "sender report of 4 bytes, its sender information alone takes 24",
    "rtcp_bad_rr_no_ssrc": "receiver report without the SSRC of its sender",
    "rtcp_bad_blocks_missing": "2 report blocks announced, 0 are there",
    "rtcp_bad_sdes_source_missing": "2 sources described, the bytes end before the last",
    "rtcp_bad_sdes_item_cut": "source description item is cut off",
    "rtcp_bad_sdes_no_null": "source description item is cut off",
    "rtcp_bad_bye_sources_missing": "3 sources leave, 1 are named",
    "rtcp_bad_bye_reason_cut": "reason for leaving is cut off",
}


def load(name: str) -> bytes:
    return (PACKETS / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_golden_packet_parses_and_round_trips(name: str) -> None:
    assert parse_compound(load(name)) == ROUND_TRIPS[name]
    assert build_compound(ROUND_TRIPS[name]) == load(name)


@pytest.mark.parametrize("name", ONE_WAY)
def test_golden_packet_parses(name: str) -> None:
    assert parse_compound(load(name)) == ONE_WAY[name]


@pytest.mark.parametrize("name", BAD)
def test_each_defect_is_named(name: str) -> None:
    with pytest.raises(RtcpDefect) as caught:
        parse_compound(load(name))
    assert str(caught.value) == BAD[name]


def test_every_golden_packet_is_used() -> None:
    assert {path.stem for path in PACKETS.glob("rtcp_*.bin")} == set(ROUND_TRIPS) | set(ONE_WAY) | set(BAD)


@pytest.mark.parametrize(
    ("packet", "defect"),
    [
        (SenderReport(1 << 32, 0, 0, 0, 0), "SenderReport field does not fit its bits"),
        (ReceiverReport(1, (BLOCK._replace(jitter=-1),)), "ReceiverReport field does not fit its bits"),
        (ReceiverReport(1, (BLOCK,) * 32), "32 blocks or sources, an RTCP packet holds 31"),
        (SourceDescription(1, "x" * 256), "SourceDescription field does not fit its bits"),
        (Goodbye((1,), "x" * 256), "Goodbye field does not fit its bits"),
    ],
)
def test_what_does_not_fit_is_not_built(packet: RtcpPacket, defect: str) -> None:
    with pytest.raises(RtcpDefect, match=defect):
        build_compound([packet])


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_name_a_defect(datagram: bytes) -> None:
    with suppress(RtcpDefect):
        parse_compound(datagram)


@given(st.binary(max_size=60), st.integers(200, 204), st.integers(0, 31))
def test_any_body_parses_or_names_a_defect(body: bytes, kind: int, count: int) -> None:
    words = len(body) // 4
    datagram = bytes((0x80 | count, kind)) + words.to_bytes(2, "big") + body[: 4 * words]
    with suppress(RtcpDefect):
        parse_compound(datagram)


@given(st.text(max_size=60), st.integers(0, 0xFFFFFFFF))
def test_any_name_round_trips(cname: str, ssrc: int) -> None:
    assert parse_compound(build_compound([SourceDescription(ssrc, cname)])) == [SourceDescription(ssrc, cname)]
