"""Outgoing packets: counters, markers, silence and digits."""

from __future__ import annotations

import pytest

from edge.media.rtp import RtpPacket, parse_packet
from edge.media.sender import MediaSender, SenderState

pytestmark = pytest.mark.unit

SPEECH = b"\x11" * 160
SILENCE = b"\xff" * 160


def sender(**changes: int) -> MediaSender:
    settings: dict[str, int] = {"ssrc": 0xABCD, "sequence": 65534, "timestamp": 0xFFFFFF00, "event_type": 101}
    return MediaSender(**(settings | changes))


def packets(from_sender: MediaSender, turns: list[bytes | None]) -> list[RtpPacket | None]:
    datagrams = [from_sender.next_datagram(payload) for payload in turns]
    return [parse_packet(datagram) if datagram is not None else None for datagram in datagrams]


def test_counters_advance_and_wrap() -> None:
    line = sender()
    sent = [packet for packet in packets(line, [SPEECH] * 4) if packet]
    assert [packet.sequence for packet in sent] == [65534, 65535, 0, 1]
    assert [packet.timestamp for packet in sent] == [0xFFFFFF00, 0xFFFFFFA0, 0x40, 0xE0]
    assert {packet.ssrc for packet in sent} == {0xABCD}
    assert [packet.marker for packet in sent] == [True, False, False, False]
    assert line.media_time == 640
    assert line.state() == SenderState(0xABCD, 0xE0, 4, 640)


def test_70_000_packets_are_70_000_different_ones() -> None:
    """Over 23 minutes: both counters wrap, none of them stumbles."""
    line = sender(timestamp=0xFFFFFFFF - 5_000_000)
    for number in range(70_000):
        datagram = line.next_datagram(SPEECH)
        assert datagram is not None
        if number in (1, 2, 65_536, 69_999):
            assert parse_packet(datagram).sequence == (65534 + number) % 65536
    assert line.packets == 70_000


def test_silence_is_sent_and_speech_after_it_is_marked() -> None:
    sent = packets(sender(), [None, None, SPEECH, SPEECH, None, SPEECH])
    assert [packet and packet.payload for packet in sent] == [SILENCE, SILENCE, SPEECH, SPEECH, SILENCE, SPEECH]
    assert [packet and packet.marker for packet in sent] == [True, False, True, False, False, True]


def test_without_silence_fill_time_goes_on_and_numbers_do_not() -> None:
    line = sender(sequence=1, timestamp=0)
    line.fill_silence = False
    sent = packets(line, [SPEECH, None, None, SPEECH])
    assert sent[1] is None
    assert sent[2] is None
    last = sent[3]
    assert last is not None
    assert (last.sequence, last.timestamp, last.marker) == (2, 480, True)


def test_skipped_turns_are_time_without_packets() -> None:
    line = sender(sequence=1, timestamp=0)
    line.next_datagram(SPEECH)
    line.skip(3)
    assert line.media_time == 640
    (packet,) = packets(line, [SPEECH])
    assert packet is not None
    assert (packet.sequence, packet.timestamp) == (2, 640)


def test_another_packet_size_and_codec() -> None:
    line = sender(payload_type=8, silence=0xD5, frame_ticks=240)
    sent = packets(line, [None, b"\x55" * 240])
    assert sent[0] is not None
    assert sent[1] is not None
    assert (sent[0].payload_type, sent[0].payload) == (8, b"\xd5" * 240)
    assert sent[1].timestamp == 0xFFFFFFF0
    line.configure(0, None, 0xFF)
    (packet,) = packets(line, [None])
    assert packet is not None
    assert (packet.payload_type, packet.payload) == (0, b"\xff" * 240)


def test_a_digit_takes_the_place_of_audio() -> None:
    line = sender(sequence=1, timestamp=0)
    line.next_datagram(SPEECH)
    line.send_digits("5", duration_ms=60, pause_ms=40)
    sent = []
    while line.sending_digits:
        sent += packets(line, [None])
    assert [packet and packet.payload_type for packet in sent] == [101] * 5 + [0, 0]
    events = [packet for packet in sent if packet and packet.payload_type == 101]
    assert [packet.timestamp for packet in events] == [160] * 5
    assert [packet.marker for packet in events] == [True, False, False, False, False]
    assert [packet.sequence for packet in sent if packet] == list(range(2, 9))
    (after,) = packets(line, [SPEECH])
    assert after is not None
    assert (after.timestamp, after.marker, after.payload) == (8 * 160, True, SPEECH)


def test_digits_are_refused_where_the_caller_takes_no_events() -> None:
    line = MediaSender(ssrc=1, sequence=1, timestamp=1)
    with pytest.raises(ValueError, match="offered no telephone-event"):
        line.send_digits("1")
    assert not line.sending_digits


def test_digits_are_dropped_where_events_are_taken_away_in_mid_press() -> None:
    line = sender()
    line.send_digits("1")
    line.configure(0, None, 0xFF)
    (packet,) = packets(line, [None])
    assert packet is not None
    assert packet.payload == SILENCE


def test_a_wrong_key_is_named_by_position() -> None:
    with pytest.raises(ValueError, match="position 2"):
        sender().send_digits("1x")
