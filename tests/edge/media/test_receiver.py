"""The receive path: order, gaps, wraps, resynchronisation, strangers and everything that is not audio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edge.media.counts import Rejection
from edge.media.dtmf import DtmfPressed, DtmfReleased
from edge.media.frames import ReceivedFrame, RtcpReceived
from edge.media.receiver import MediaReceiver
from edge.media.reorder import MAX_DROPOUT
from tests.edge.media.streams import CALLER, PCMA, STRANGER, Stream, answered, frames, number_of, play

pytestmark = pytest.mark.unit

PACKETS = Path(__file__).parents[2] / "data" / "packets"
LOST = False


def numbers(events: Sequence[object]) -> list[int]:
    return [number_of(event) for event in events if isinstance(event, ReceivedFrame)]


class TestInOrder:
    def test_frames_come_at_once_with_their_media_time(self) -> None:
        receiver = answered()
        heard = frames(play(receiver, Stream(), [True] * 10, start=1.0))
        assert [number_of(frame) for frame in heard] == list(range(10))
        assert [frame.media_time for frame in heard] == [8000 + n * 160 for n in range(10)]
        assert {(frame.lost_before, frame.resync, frame.payload_type) for frame in heard} == {(0, False, 0)}
        assert receiver.next_deadline() is None
        assert receiver.counts.frames == 10

    @pytest.mark.parametrize("frame_ms", [10, 20, 30, 60])
    def test_any_packet_duration(self, frame_ms: int) -> None:
        stream = Stream(frame_ms=frame_ms, payload_type=PCMA)
        heard = frames(play(answered(), stream, [True] * 20, start=0.5))
        assert [frame.media_time for frame in heard] == [4000 + n * stream.ticks for n in range(20)]
        assert {len(frame.payload) for frame in heard} == {stream.ticks}

    def test_the_packet_duration_may_change(self) -> None:
        receiver = answered()
        first = Stream(frame_ms=20)
        play(receiver, first, [True] * 3)
        second = Stream(frame_ms=30, first_sequence=1003, first_timestamp=50_480)
        heard = frames(play(receiver, second, [True] * 3, start=0.08))
        assert [frame.media_time for frame in heard] == [640, 880, 1120]
        assert not any(frame.resync for frame in heard)

    def test_the_65_536th_packet(self) -> None:
        receiver = answered()
        stream = Stream(first_sequence=65_000, first_timestamp=0xFFFFFFFF - 3_000_000)
        heard = 0
        for number in range(66_000):
            (frame,) = receiver.receive(stream.packet(number), CALLER, 0.02 + number * 0.02)
            assert isinstance(frame, ReceivedFrame)
            assert frame.media_time == 160 + number * 160
            assert not frame.lost_before
            heard += 1
        assert heard == 66_000
        assert receiver.statistics.lost == 0
        assert receiver.counts.resyncs == 0

    def test_loss_across_both_wraps(self) -> None:
        stream = Stream(first_sequence=65_533, first_timestamp=0xFFFFFFFF - 400)
        receiver = answered()
        heard = frames(play(receiver, stream, [True, True, LOST, LOST, True, True, True]))
        heard += frames(receiver.handle_deadline(9.0))
        assert [(number_of(frame), frame.lost_before) for frame in heard] == [(0, 0), (1, 0), (4, 2), (5, 0), (6, 0)]
        assert heard[2].media_time == 160 + 4 * 160

    def test_a_slow_clock_for_ten_minutes_is_no_jump(self) -> None:
        receiver = answered()
        stream = Stream()
        for number in range(30_000):
            events = receiver.receive(stream.packet(number), CALLER, 0.02 + number * 0.02 * 1.0001)
            assert len(events) == 1
        assert receiver.counts.resyncs == 0


class TestReorder:
    def test_a_packet_that_came_early_waits_for_the_one_before(self) -> None:
        receiver, stream = answered(), Stream()
        assert numbers(receiver.receive(stream.packet(0), CALLER, 0.02)) == [0]
        assert receiver.receive(stream.packet(2), CALLER, 0.04) == []
        assert receiver.next_deadline() == pytest.approx(0.08)
        heard = frames(receiver.receive(stream.packet(1), CALLER, 0.05))
        assert [(number_of(frame), frame.lost_before, frame.media_time) for frame in heard] == [
            (1, 0, 320),
            (2, 0, 480),
        ]
        assert receiver.counts.reordered == 1
        assert receiver.lost == 0

    @pytest.mark.parametrize("order", [(0, 3, 2, 1, 4), (0, 2, 3, 1, 4), (0, 3, 1, 2, 4), (0, 1, 4, 3, 2)])
    def test_any_order_within_the_wait(self, order: tuple[int, ...]) -> None:
        receiver, stream = answered(), Stream()
        heard = []
        for place, number in enumerate(order):
            heard += numbers(receiver.receive(stream.packet(number), CALLER, 0.02 + place * 0.005))
        assert heard == [0, 1, 2, 3, 4]

    def test_what_does_not_come_in_time_is_a_gap(self) -> None:
        receiver, stream = answered(), Stream()
        receiver.receive(stream.packet(0), CALLER, 0.02)
        receiver.receive(stream.packet(3), CALLER, 0.04)
        assert receiver.handle_deadline(0.079) == []
        heard = frames(receiver.handle_deadline(0.0801))
        assert [(number_of(frame), frame.lost_before, frame.media_time) for frame in heard] == [(3, 2, 640)]
        assert receiver.lost == 2
        assert receiver.next_deadline() is None

    def test_a_late_packet_is_dropped_and_no_longer_lost(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True, LOST, True, True, True, True, True])
        assert receiver.lost == 1
        assert receiver.receive(stream.packet(1), CALLER, 0.2) == []
        assert (receiver.lost, receiver.counts.late, receiver.counts.duplicate) == (0, 1, 0)
        assert receiver.receive(stream.packet(1), CALLER, 0.2) == []
        assert (receiver.counts.late, receiver.counts.duplicate) == (1, 1)

    def test_a_packet_from_before_the_first_is_late(self) -> None:
        receiver = answered()
        stream = Stream(first_sequence=65_535)
        receiver.receive(stream.packet(1), CALLER, 0.02)
        assert receiver.receive(stream.packet(0), CALLER, 0.03) == []
        assert (receiver.counts.late, receiver.lost) == (1, 0)

    def test_the_reorder_wait_is_served_by_receive_too(self) -> None:
        receiver, stream = answered(reorder_wait_ms=20), Stream()
        receiver.receive(stream.packet(0), CALLER, 0.02)
        receiver.receive(stream.packet(2), CALLER, 0.04)
        assert numbers(receiver.receive(stream.packet(3), CALLER, 0.061)) == [2, 3]

    def test_two_gaps_wait_each_for_their_own_time(self) -> None:
        receiver, stream = answered(), Stream()
        receiver.receive(stream.packet(0), CALLER, 0.02)
        receiver.receive(stream.packet(2), CALLER, 0.04)
        receiver.receive(stream.packet(4), CALLER, 0.07)
        assert numbers(receiver.handle_deadline(0.081)) == [2]
        assert numbers(receiver.handle_deadline(0.111)) == [4]
        assert receiver.lost == 2

    def test_duplicates_are_dropped_and_counted(self) -> None:
        receiver, stream = answered(), Stream()
        heard = []
        for number in (0, 0, 1, 3, 3, 2, 2, 3):
            heard += numbers(receiver.receive(stream.packet(number), CALLER, 0.02))
        assert heard == [0, 1, 2, 3]
        assert receiver.counts.duplicate == 4

    def test_a_burst_after_a_gap_of_200_ms(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 5)
        burst = [receiver.receive(stream.packet(5 + n), CALLER, 0.3) for n in range(10)]
        assert [frame.media_time for events in burst for frame in frames(events)] == [
            160 + n * 160 for n in range(5, 15)
        ]
        assert receiver.counts.resyncs == 0

    def test_a_flood_of_early_packets_is_bounded(self) -> None:
        receiver, stream = answered(), Stream()
        receiver.receive(stream.packet(0), CALLER, 0.02)
        heard = []
        for number in range(2, 400, 2):
            heard += numbers(receiver.receive(stream.packet(number), CALLER, 0.021))
        assert heard == list(range(2, heard[-1] + 1, 2))
        assert len(heard) >= 100
        assert numbers(receiver.finish())[-1] == 398

    def test_finish_gives_what_waits(self) -> None:
        receiver, stream = answered(), Stream()
        receiver.receive(stream.packet(0), CALLER, 0.02)
        receiver.receive(stream.packet(2), CALLER, 0.04)
        assert numbers(receiver.finish()) == [2]
        assert receiver.finish() == []


class TestResync:
    def test_another_ssrc_is_believed_at_its_second_packet(self) -> None:
        receiver = answered()
        play(receiver, Stream(), [True] * 5)
        other = Stream(ssrc=0xBEEF, first_sequence=40_000, first_timestamp=7)
        assert receiver.receive(other.packet(0), CALLER, 0.12) == []
        heard = frames(receiver.receive(other.packet(1), CALLER, 0.14))
        assert [(number_of(frame), frame.resync, frame.lost_before) for frame in heard] == [(0, True, 0), (1, False, 0)]
        assert [frame.media_time for frame in heard] == [960, 1120]
        assert receiver.ssrc == 0xBEEF
        assert receiver.counts.ssrc_changes == 1
        assert receiver.counts.resyncs == 1

    def test_media_time_after_a_silence_is_that_of_the_arrival(self) -> None:
        receiver = answered()
        play(receiver, Stream(), [True] * 5)
        other = Stream(ssrc=0xBEEF)
        heard = frames(play(receiver, other, [True] * 3, start=5.0))
        assert [frame.media_time for frame in heard] == [40_000, 40_160, 40_320]

    def test_a_single_packet_of_another_ssrc_changes_nothing(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 3)
        assert receiver.receive(Stream(ssrc=1).packet(0), CALLER, 0.08) == []
        assert numbers(receiver.receive(stream.packet(3), CALLER, 0.08)) == [3]
        assert receiver.receive(Stream(ssrc=1).packet(1), CALLER, 0.1) == []
        assert numbers(receiver.receive(stream.packet(4), CALLER, 0.1)) == [4]
        assert receiver.counts.rejected[Rejection.UNSETTLED] == 2
        assert receiver.counts.ssrc_changes == 0

    @pytest.mark.parametrize("jump", [MAX_DROPOUT, 30_000, -200, -30_000])
    def test_restarted_numbers_are_believed_at_the_second_packet(self, jump: int) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 5)
        again = Stream(first_sequence=(1005 + jump) % 65536, first_timestamp=9)
        assert receiver.receive(again.packet(0), CALLER, 0.12) == []
        heard = frames(receiver.receive(again.packet(1), CALLER, 0.14))
        assert [(number_of(frame), frame.resync) for frame in heard] == [(0, True), (1, False)]
        assert receiver.counts.restarts == 1
        assert receiver.lost == 0

    def test_numbers_restarted_close_behind_are_told_by_their_clock(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 50)
        again = Stream(first_sequence=1020, first_timestamp=900_000)
        heard = frames(play(receiver, again, [True] * 4, start=1.04))
        assert [number_of(frame) for frame in heard] == [0, 1, 2, 3]
        assert receiver.counts.restarts == 1

    def test_a_restart_while_a_packet_waits_gives_that_first(self) -> None:
        receiver, stream = answered(), Stream()
        receiver.receive(stream.packet(0), CALLER, 0.02)
        receiver.receive(stream.packet(2), CALLER, 0.04)
        other = Stream(ssrc=2)
        receiver.receive(other.packet(100), CALLER, 0.045)
        assert numbers(receiver.receive(other.packet(101), CALLER, 0.05)) == [2, 100, 101]

    def test_a_clock_that_jumps_with_the_numbers_going_on(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 5)
        heard = frames(receiver.receive(stream.packet(5, skip_ticks=5_000_000), CALLER, 0.12))
        heard += frames(receiver.receive(stream.packet(6, skip_ticks=5_000_000), CALLER, 0.14))
        assert [(frame.media_time, frame.resync) for frame in heard] == [(960, True), (1120, False)]
        assert receiver.counts.resyncs == 1

    def test_a_clock_that_runs_back(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 50)
        (frame,) = frames(receiver.receive(stream.packet(50, skip_ticks=-100_000), CALLER, 1.02))
        assert (frame.media_time, frame.resync) == (160 + 50 * 160, True)

    def test_silence_that_the_clock_counts_is_a_hole_and_no_loss(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 5)
        (frame,) = frames(receiver.receive(stream.packet(5, skip_ticks=16_000, marker=True), CALLER, 2.12))
        assert (frame.media_time, frame.resync, frame.lost_before) == (960 + 16_000, False, 0)

    def test_marked_speech_of_a_clock_that_stood_still(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 5)
        (frame,) = frames(receiver.receive(stream.packet(5, marker=True), CALLER, 2.12))
        assert (frame.media_time, frame.resync) == (16_960, True)

    def test_a_clock_that_counts_too_few_ticks_is_followed_without_resync(self) -> None:
        receiver = answered()
        stream = Stream()
        heard = []
        for number in range(10):
            datagram = stream.packet(number, timestamp=50_000 + number * 80)
            heard += frames(receiver.receive(datagram, CALLER, 0.02 + number * 0.02))
        assert [frame.media_time for frame in heard] == [160 + n * 160 for n in range(10)]
        assert not any(frame.resync for frame in heard)

    def test_a_restarted_sender_with_both_counters_wrapped_does_not_run_back(self) -> None:
        receiver = answered()
        times = []
        for life in range(5):
            stream = Stream(ssrc=life, first_sequence=life * 9_000, first_timestamp=life * 0x33333333)
            times += [
                frame.media_time for frame in frames(play(receiver, stream, [True] * 20, start=0.02 + life * 0.4))
            ]
        assert times == sorted(set(times))
        assert len(times) == 100


class TestNotAudio:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("stun_binding_request", Rejection.NOT_RTP),
            ("rtp_bad_empty", Rejection.NOT_RTP),
            ("rtp_bad_11_bytes", Rejection.NOT_RTP),
            ("rtp_bad_version_1", Rejection.NOT_RTP),
            ("rtp_bad_csrc_cut", Rejection.MALFORMED),
            ("rtp_bad_extension_cut", Rejection.MALFORMED),
            ("rtp_bad_padding_too_long", Rejection.MALFORMED),
        ],
    )
    def test_it_is_refused_by_name(self, name: str, reason: Rejection) -> None:
        receiver = answered()
        assert receiver.receive((PACKETS / f"{name}.bin").read_bytes(), CALLER, 1.0) == []
        assert receiver.counts.rejected[reason] == 1
        assert receiver.counts.rejected_total == 1
        assert receiver.silent_for(3.0) == 3.0

    @pytest.mark.parametrize("size", range(1, 12))
    def test_1_to_11_bytes(self, size: int) -> None:
        receiver, stream = answered(), Stream()
        assert receiver.receive(stream.packet(0)[:size], CALLER, 1.0) == []
        assert receiver.counts.rejected[Rejection.NOT_RTP] == 1

    def test_oversize(self) -> None:
        receiver, stream = answered(), Stream()
        assert receiver.receive(stream.packet(0, payload=bytes(2037)), CALLER, 1.0) == []
        assert receiver.counts.rejected[Rejection.OVERSIZE] == 1
        assert len(receiver.receive(stream.packet(0, payload=bytes(2036)), CALLER, 1.0)) == 1

    def test_a_wrong_payload_type_is_refused_and_is_no_gap(self) -> None:
        receiver, stream = answered(types=[0]), Stream()
        play(receiver, stream, [True, True])
        assert receiver.receive(stream.packet(2, payload_type=18), CALLER, 0.06) == []
        (frame,) = frames(receiver.receive(stream.packet(3), CALLER, 0.08))
        assert (frame.lost_before, frame.media_time) == (0, 640)
        assert receiver.counts.rejected[Rejection.PAYLOAD_TYPE] == 1
        assert receiver.receive(Stream(ssrc=5).packet(0, payload_type=18), CALLER, 0.1) == []
        assert receiver.counts.rejected[Rejection.PAYLOAD_TYPE] == 2
        assert receiver.receive(stream.packet(4, payload_type=18), STRANGER, 0.1) == []
        assert receiver.counts.rejected[Rejection.STRANGER] == 1

    def test_a_wrong_payload_type_from_elsewhere_is_a_strangers(self) -> None:
        receiver = answered(types=[0])
        assert receiver.receive(Stream().packet(0, payload_type=18), STRANGER, 0.1) == []
        assert receiver.counts.rejected[Rejection.STRANGER] == 1

    def test_comfort_noise_is_ignored_and_is_no_gap(self) -> None:
        receiver, stream = answered(), Stream()
        assert receiver.receive(stream.packet(0, payload_type=13, payload=b"?"), CALLER, 0.02) == []
        play(receiver, stream, [True, True], first=1)
        assert receiver.receive(stream.packet(3, payload_type=13, payload=b"?"), CALLER, 0.08) == []
        (frame,) = frames(receiver.receive(stream.packet(4, skip_ticks=800, marker=True), CALLER, 0.2))
        assert (frame.lost_before, frame.resync) == (0, False)
        assert receiver.counts.comfort_noise == 2

    def test_comfort_noise_twice_and_far_off_moves_nothing(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True, True])
        noise = stream.packet(2, payload_type=13, payload=b"?")
        receiver.receive(noise, CALLER, 0.06)
        receiver.receive(noise, CALLER, 0.06)
        receiver.receive(stream.packet(20_000, payload_type=13, payload=b"?"), CALLER, 0.07)
        assert numbers(receiver.receive(stream.packet(3), CALLER, 0.08)) == [3]
        assert receiver.counts.duplicate == 1

    def test_an_empty_packet_keeps_the_path_open_and_nothing_else(self) -> None:
        receiver, stream = answered(), Stream()
        assert receiver.receive(stream.packet(0, payload=b""), CALLER, 0.02) == []
        play(receiver, stream, [True], first=1)
        assert receiver.receive(stream.packet(2, payload=b""), CALLER, 20.0) == []
        assert receiver.silent_for(20.5) == pytest.approx(0.5)
        assert receiver.counts.rejected_total == 0

    def test_rtcp_on_the_rtp_port(self) -> None:
        receiver = answered()
        report = (PACKETS / "rtcp_sr_sdes.bin").read_bytes()
        assert receiver.receive(report, (CALLER[0], 40_001), 1.0) == [RtcpReceived(report)]
        assert receiver.receive(report, STRANGER, 1.0) == []
        assert (receiver.counts.rtcp, receiver.counts.rejected[Rejection.STRANGER]) == (1, 1)
        assert receiver.is_peer_host(CALLER)

    @pytest.mark.parametrize("name", ["rtp_csrc", "rtp_extension", "rtp_padding", "rtp_everything"])
    def test_unusual_headers_hold_audio(self, name: str) -> None:
        receiver = answered()
        (frame,) = frames(receiver.receive((PACKETS / f"{name}.bin").read_bytes(), CALLER, 1.0))
        assert len(frame.payload) in (80, 160)

    def test_unusual_headers_within_a_stream(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True, True])
        heard = numbers(receiver.receive(stream.packet(2, padding_bytes=20), CALLER, 0.06))
        heard += numbers(receiver.receive(stream.packet(3, extension=b"abcd"), CALLER, 0.08))
        heard += numbers(receiver.receive(stream.packet(4), CALLER, 0.1))
        assert heard == [2, 3, 4]

    def test_before_the_answer_nothing_is_heard(self) -> None:
        receiver = MediaReceiver([0])
        receiver.expect(CALLER, 0.0)
        assert receiver.target == CALLER
        assert receiver.receive(Stream().packet(0), CALLER, 0.5) == []
        assert receiver.counts.rejected[Rejection.EARLY] == 1
        assert receiver.silent_for(9.0) == 0.0
        receiver.start(1.0)
        (frame,) = frames(receiver.receive(Stream().packet(1), CALLER, 1.053_4))
        assert frame.media_time == 53 * 8, "where it arrived, not at the next frame's place"


class TestSource:
    def test_behind_a_translator_no_frame_is_lost(self) -> None:
        receiver, stream = answered(), Stream()
        outside = ("203.0.113.7", 31_000)
        heard = []
        for number in range(5):
            heard += frames(receiver.receive(stream.packet(number), outside, 0.02 + number * 0.02))
        assert [number_of(frame) for frame in heard] == [0, 1, 2, 3, 4]
        assert [frame.media_time for frame in heard] == [160 * n for n in range(1, 6)]
        assert receiver.target == outside

    def test_a_stranger_is_refused_and_counted(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 3)
        for number in range(10):
            assert receiver.receive(stream.packet(3 + number), STRANGER, 0.1) == []
        assert receiver.counts.rejected[Rejection.STRANGER] == 10
        assert numbers(receiver.receive(stream.packet(3), CALLER, 0.1)) == [3]

    def test_a_stranger_after_the_first_seconds_is_refused(self) -> None:
        receiver, stream = answered(), Stream()
        for number in range(5):
            assert receiver.receive(stream.packet(number), STRANGER, 5.1) == []
        assert receiver.counts.rejected[Rejection.STRANGER] == 5
        assert numbers(receiver.receive(stream.packet(0), CALLER, 6.0)) == [0]

    def test_a_stranger_who_only_waited_is_counted_when_the_caller_speaks(self) -> None:
        receiver, stream = answered(), Stream()
        receiver.receive(Stream(ssrc=1).packet(0), STRANGER, 0.01)
        receiver.receive(Stream(ssrc=1).packet(1), STRANGER, 0.02)
        assert numbers(receiver.receive(stream.packet(0), CALLER, 0.03)) == [0]
        assert receiver.counts.rejected[Rejection.STRANGER] == 2
        assert receiver.ssrc == stream.ssrc

    def test_a_re_invite_moves_the_media(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 3)
        moved = ("192.0.2.99", 6000)
        receiver.expect(moved, 10.0)
        assert receiver.target == moved
        other = Stream(ssrc=77)
        receiver.receive(other.packet(0), moved, 10.1)
        assert numbers(receiver.receive(other.packet(1), moved, 10.12)) == [0, 1]
        assert receiver.receive(stream.packet(3), CALLER, 10.13) == []
        assert receiver.counts.rejected[Rejection.STRANGER] == 1

    def test_another_codec_after_a_re_invite(self) -> None:
        receiver, stream = answered(types=[0]), Stream()
        play(receiver, stream, [True] * 2)
        receiver.accept([8], 96)
        (frame,) = frames(receiver.receive(stream.packet(2, payload_type=8), CALLER, 0.06))
        assert frame.payload_type == 8
        assert receiver.receive(stream.packet(3), CALLER, 0.08) == []
        assert receiver.counts.rejected[Rejection.PAYLOAD_TYPE] == 1


class TestHoldAndSilence:
    def test_silence_is_counted_from_the_last_packet(self) -> None:
        receiver = answered()
        assert receiver.silent_for(2.0) == 2.0
        play(receiver, Stream(), [True], start=3.0)
        assert receiver.silent_for(4.5) == pytest.approx(1.5)

    def test_hold_is_no_silence(self) -> None:
        receiver = answered()
        receiver.hold(True, 5.0)
        receiver.hold(True, 50.0)
        assert receiver.silent_for(100.0) == 0.0
        receiver.hold(False, 100.0)
        assert receiver.silent_for(101.0) == 1.0

    def test_a_clock_that_stood_still_during_hold(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 5)
        receiver.hold(True, 0.2)
        receiver.hold(False, 30.0)
        heard = frames(play(receiver, stream, [True] * 2, start=30.1, first=5))
        assert [(frame.media_time, frame.resync) for frame in heard] == [(240_800, True), (240_960, False)]

    def test_a_clock_that_went_on_during_hold(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 5)
        receiver.hold(True, 0.2)
        receiver.hold(False, 30.0)
        (frame,) = frames(receiver.receive(stream.packet(5, skip_ticks=239_840), CALLER, 30.1))
        assert (frame.media_time, frame.resync) == (240_800, False)

    def test_media_time_of_an_instant(self) -> None:
        assert answered().media_time_at(1.5) == 12_000


class TestKeys:
    def event(self, stream: Stream, number: int, start: int, duration: int, *, end: bool = False) -> bytes:
        payload = bytes((4, 0x8A if end else 0x0A)) + duration.to_bytes(2, "big")
        timestamp = stream.first_timestamp + start * stream.ticks
        return stream.packet(number, payload_type=101, timestamp=timestamp, payload=payload)

    def test_a_key_within_the_audio_is_no_gap(self) -> None:
        receiver, stream = answered(), Stream()
        events: list[object] = list(play(receiver, stream, [True] * 5))
        for place in range(5):
            datagram = self.event(stream, 5 + place, 5, (place + 1) * 160, end=place == 4)
            events += receiver.receive(datagram, CALLER, 0.12 + place * 0.02)
        events += play(receiver, stream, [True] * 3, start=0.22, first=10)
        assert numbers(events) == [0, 1, 2, 3, 4, 10, 11, 12]
        assert [event for event in events if not isinstance(event, ReceivedFrame)] == [
            DtmfPressed("4", 960),
            DtmfReleased("4", 960, 100, complete=True),
        ]
        (after, *_) = [event for event in events if isinstance(event, ReceivedFrame) and number_of(event) == 10]
        assert (after.lost_before, after.resync, after.media_time) == (0, False, 160 * 11)
        assert receiver.counts.events == 5

    def test_a_lost_event_packet_is_a_gap_before_the_next_frame(self) -> None:
        receiver, stream = answered(), Stream()
        play(receiver, stream, [True] * 2)
        receiver.receive(self.event(stream, 2, 2, 160), CALLER, 0.06)
        receiver.receive(self.event(stream, 4, 2, 480, end=True), CALLER, 0.1)
        assert receiver.receive(stream.packet(5), CALLER, 0.12) == []
        (frame,) = frames(receiver.handle_deadline(0.2))
        assert (number_of(frame), frame.lost_before) == (5, 1)

    def test_keys_with_an_ssrc_of_their_own_leave_the_audio_alone(self) -> None:
        receiver, stream, keys = answered(), Stream(), Stream(ssrc=0xD1A1, first_sequence=1, first_timestamp=0)
        play(receiver, stream, [True] * 5)
        assert receiver.receive(self.event(keys, 0, 0, 160), CALLER, 0.12) == [DtmfPressed("4", 960)]
        assert numbers(receiver.receive(stream.packet(5), CALLER, 0.12)) == [5]
        assert receiver.receive(self.event(keys, 1, 0, 320, end=True), CALLER, 0.14) == [
            DtmfReleased("4", 960, 40, complete=True)
        ]
        assert numbers(receiver.receive(stream.packet(6), CALLER, 0.14)) == [6]
        assert receiver.counts.ssrc_changes == 0
        assert receiver.ssrc == stream.ssrc

    def test_a_call_that_begins_with_a_key(self) -> None:
        receiver, stream = answered(), Stream()
        assert receiver.receive(self.event(stream, 0, 0, 160), CALLER, 0.5) == [DtmfPressed("4", 4000)]
        assert receiver.next_deadline() == pytest.approx(0.75)
        assert receiver.handle_deadline(0.76) == [DtmfReleased("4", 4000, 20, complete=False)]
        assert receiver.ssrc is None

    def test_the_earlier_deadline_comes_first(self) -> None:
        receiver, stream = answered(), Stream()
        receiver.receive(stream.packet(0), CALLER, 0.02)
        receiver.receive(self.event(stream, 1, 1, 160), CALLER, 0.04)
        receiver.receive(stream.packet(3), CALLER, 0.08)
        assert receiver.next_deadline() == pytest.approx(0.12)

    def test_a_key_that_is_down_at_the_end_is_released(self) -> None:
        receiver, stream = answered(), Stream()
        receiver.receive(self.event(stream, 0, 0, 160), CALLER, 0.5)
        assert receiver.finish() == [DtmfReleased("4", 4000, 20, complete=False)]
