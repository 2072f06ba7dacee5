"""RTCP about both directions of a call."""

from __future__ import annotations

import pytest

from edge.media.receiver import MediaReceiver
from edge.media.reports import NTP_EPOCH_S, PeerView, RtcpReporter, to_ntp
from edge.media.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    build_compound,
    parse_compound,
)
from edge.media.sender import MediaSender
from tests.edge.media.streams import Stream, answered, play

pytestmark = pytest.mark.unit

WALL_OFFSET = 1_700_000_000.0


def call() -> tuple[MediaReceiver, MediaSender, RtcpReporter]:
    receiver = answered()
    sender = MediaSender(ssrc=0xA6E, sequence=1, timestamp=1000)
    return receiver, sender, RtcpReporter(receiver, sender, cname="call@edge", wall_offset_s=WALL_OFFSET, now=0.0)


def test_who_sends_reports_what_it_sent_and_received() -> None:
    receiver, sender, reporter = call()
    play(receiver, Stream(), [True, True, False, True])
    for _ in range(3):
        sender.next_datagram(b"\x11" * 160)
    report, name = parse_compound(reporter.report(5.0))
    assert isinstance(report, SenderReport)
    assert (report.ssrc, report.timestamp, report.packets, report.octets) == (0xA6E, 1320, 3, 480)
    assert report.ntp == to_ntp(WALL_OFFSET + 5.0)
    (block,) = report.blocks
    assert (block.ssrc, block.fraction_lost, block.cumulative_lost, block.highest_sequence) == (0x5EED, 64, 1, 1003)
    assert (block.last_report, block.delay) == (0, 0)
    assert name == SourceDescription(0xA6E, "call@edge")


def test_who_is_silent_sends_a_receiver_report() -> None:
    _, sender, reporter = call()
    assert parse_compound(reporter.report(1.0))[0] == ReceiverReport(0xA6E)
    sender.next_datagram(None)
    assert isinstance(parse_compound(reporter.report(2.0))[0], SenderReport)
    assert isinstance(parse_compound(reporter.report(3.0))[0], ReceiverReport)


def test_reports_are_spread() -> None:
    _, _, reporter = call()
    assert reporter.next_deadline() == 2.5
    reporter.report(2.5, spread=0.0)
    assert reporter.next_deadline() == 5.0
    reporter.report(5.0, spread=1.0)
    assert reporter.next_deadline() == 12.5


def test_goodbye() -> None:
    _, _, reporter = call()
    assert parse_compound(reporter.goodbye(1.0)) == [
        ReceiverReport(0xA6E),
        SourceDescription(0xA6E, "call@edge"),
        Goodbye((0xA6E,)),
    ]


def test_the_callers_report_is_echoed_with_its_delay() -> None:
    receiver, _, reporter = call()
    play(receiver, Stream(), [True])
    ntp = to_ntp(WALL_OFFSET)
    reporter.receive(build_compound([SenderReport(0x5EED, ntp, 0, 1, 160)]), 1.0)
    report = parse_compound(reporter.report(1.5))[0]
    assert isinstance(report, ReceiverReport)
    assert report.blocks[0].last_report == ntp >> 16 & 0xFFFFFFFF
    assert report.blocks[0].delay == 32768


def test_how_the_caller_receives_us_and_the_round_trip() -> None:
    _, _, reporter = call()
    sent = to_ntp(WALL_OFFSET + 10.0) >> 16 & 0xFFFFFFFF
    block = ReportBlock(0xA6E, 64, 7, 0, 80, sent, 65536)
    strange = ReportBlock(0xBAD, 255, 0, 0, 0, 0, 0)
    reporter.receive(build_compound([ReceiverReport(0x5EED, (strange, block))]), 11.05)
    assert reporter.peer is not None
    assert reporter.peer == PeerView(0.25, 7, 10.0, pytest.approx(50.0, abs=0.1))


@pytest.mark.parametrize("last_report", [0, 12345])
def test_no_round_trip_from_a_report_that_answers_nothing_of_ours(last_report: int) -> None:
    _, _, reporter = call()
    block = ReportBlock(0xA6E, 0, 0, 0, 0, last_report, 0)
    reporter.receive(build_compound([ReceiverReport(0x5EED, (block,))]), 1.0)
    assert reporter.peer == PeerView(0.0, 0, 0.0, None)


def test_bye_is_noted_and_rubbish_counted() -> None:
    _, _, reporter = call()
    assert reporter.receive(b"\x80\xc9\x00\x09", 1.0) == []
    assert reporter.defects == 1
    assert not reporter.peer_left
    assert reporter.receive(build_compound([Goodbye((5,))]), 1.0) == [Goodbye((5,))]
    assert reporter.peer_left


def test_ntp() -> None:
    assert to_ntp(0.5) == (NTP_EPOCH_S << 32) + (1 << 31)
