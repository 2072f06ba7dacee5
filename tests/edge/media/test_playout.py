"""The agent's queue: what is sent, what is dropped, and what the ledger says about it."""

from __future__ import annotations

import pytest

from edge.media.ledger import Finished, Flushed, Mark, Started
from edge.media.playout import Playout
from tests.edge.media.line import FRAME, Line, frame, frames

pytestmark = pytest.mark.unit


def test_one_utterance_from_start_to_finish() -> None:
    line = Line()
    line.say(7, 0, 0, 2)
    line.say(7, 0, 2, 1, last=True)
    line.say(7, 1, 0, 1, last=True)
    line.end(7, 2)
    assert line.playout.queued_ms == 80
    assert line.playout.playing is None
    assert line.run(1) == [frame(7, 0, 0)]
    assert line.playout.playing == 7
    assert line.run(4) == [frame(7, 0, 1), frame(7, 0, 2), frame(7, 1, 0), None]
    assert line.ledger == [Started(7, 0), Mark(7, 0, 480, 0), Mark(7, 1, 640, 480), Finished(7, 4, 640)]
    assert line.playout.last_utterance == 7
    assert line.playout.queued_ms == 0


def test_an_end_that_comes_after_the_last_frame_finishes_at_the_next_turn() -> None:
    line = Line()
    line.say(1, 0, 0, 1, last=True)
    line.run(5)
    line.end(1)
    line.run(1)
    assert line.ledger == [Started(1, 0), Mark(1, 0, 160, 0), Finished(1, 1, 160)]
    assert line.playout.counts.starved == 0


def test_a_successor_says_the_sentence_again_and_only_what_is_missing_plays() -> None:
    line = Line()
    line.say(1, 0, 0, 3)
    assert line.run(4)[3] is None
    assert line.playout.counts.starved == 1
    assert line.say(1, 0, 0, 1) == 0
    assert line.say(1, 0, 1, 5, last=True) == 3
    line.end(1)
    assert line.run(3) == frames(1, 0, 3, 3)
    assert line.playout.counts.duplicate == 3
    assert line.ledger[-1] == Finished(1, 6, 7 * FRAME)


def test_a_sentence_that_was_complete_is_a_duplicate_whole() -> None:
    line = Line()
    line.say(1, 0, 0, 2, last=True)
    assert line.say(1, 0, 0, 2, last=True) == 0
    line.say(1, 1, 0, 1, last=True)
    line.end(1, 2)
    line.run(4)
    assert [entry for entry in line.ledger if isinstance(entry, Mark)] == [Mark(1, 0, 320, 0), Mark(1, 1, 480, 320)]


def test_missing_frames_are_skipped_and_counted() -> None:
    line = Line()
    line.say(1, 0, 0, 1)
    line.say(1, 0, 3, 1, last=True)
    line.end(1)
    assert line.run(2) == [frame(1, 0, 0), frame(1, 0, 3)]
    assert line.playout.counts.missing == 2
    assert line.say(1, 0, 1, 2) == 0


def test_a_sentence_whose_end_was_lost_is_marked_before_the_next() -> None:
    line = Line()
    line.say(1, 0, 0, 2)
    line.say(1, 1, 0, 1, last=True)
    line.end(1, 2)
    line.run(3)
    assert line.ledger == [Started(1, 0), Mark(1, 0, 320, 0), Mark(1, 1, 480, 320), Finished(1, 3, 480)]


def test_a_sentence_that_was_lost_whole_has_no_mark() -> None:
    line = Line()
    line.say(1, 1, 0, 1, last=True)
    line.end(1, 2)
    line.run(2)
    assert line.ledger == [Started(1, 0), Mark(1, 1, 160, 0), Finished(1, 1, 160)]


def test_the_end_closes_an_open_sentence() -> None:
    line = Line()
    line.say(1, 0, 0, 1)
    line.end(1)
    line.run(1)
    assert line.ledger == [Started(1, 0), Mark(1, 0, 160, 0), Finished(1, 1, 160)]


def test_a_sentence_end_without_frames_marks_what_came_before() -> None:
    line = Line()
    line.say(1, 0, 0, 1)
    line.run(1)
    line.run(9)
    line.playout.offer(1, 0, 1, [], segment_end=True)
    line.run(1)
    assert line.ledger == [Started(1, 0), Mark(1, 0, 160, 0)]
    line.end(1)
    line.run(1)
    assert line.ledger[-1] == Finished(1, 1, 160)


def test_an_empty_utterance_finishes_without_a_start() -> None:
    line = Line()
    line.end(4, 0)
    line.say(5, 0, 0, 1)
    assert line.run(1) == [frame(5, 0, 0)]
    assert line.ledger == [Finished(4, 0, 0), Started(5, 0)]


def test_a_newer_utterance_waits_for_the_older_one() -> None:
    line = Line()
    line.say(2, 0, 0, 1, last=True)
    line.say(1, 0, 0, 2)
    line.end(2)
    assert line.run(3) == [frame(1, 0, 0), frame(1, 0, 1), None]
    line.say(1, 0, 2, 1, last=True)
    line.end(1)
    assert line.run(3) == [frame(1, 0, 2), frame(2, 0, 0), None]
    assert [type(entry) for entry in line.ledger] == [Started, Mark, Finished, Started, Mark, Finished]


def test_an_older_utterance_that_comes_while_a_newer_one_plays_is_stale() -> None:
    line = Line()
    line.say(2, 0, 0, 2)
    line.run(1)
    assert line.say(1, 0, 0, 3) == 0
    assert line.playout.counts.stale == 3
    assert line.run(1) == [frame(2, 0, 1)]


def test_frames_of_a_finished_utterance_are_stale() -> None:
    line = Line()
    line.say(1, 0, 0, 1, last=True)
    line.end(1)
    line.run(1)
    assert line.say(1, 1, 0, 2) == 0
    line.end(1, 3)
    assert line.run(2) == [None, None]
    assert line.playout.counts.stale == 2


def test_a_newer_utterance_does_not_wait_for_ever() -> None:
    line = Line(stall_ms=100)
    line.say(1, 0, 0, 1)
    line.say(2, 0, 0, 1)
    assert line.run(7)[1:] == [None] * 6
    assert line.run(1) == [frame(2, 0, 0)]
    assert line.ledger == [Started(1, 0), Finished(1, 1, 160), Started(2, 7 * FRAME)]
    assert line.playout.counts.abandoned == 1
    assert line.say(1, 0, 1, 1) == 0


def test_without_a_newer_one_an_utterance_may_pause_for_long() -> None:
    line = Line(stall_ms=100)
    line.say(1, 0, 0, 1, last=True)
    line.run(500)
    line.say(1, 1, 0, 1)
    assert line.run(1) == [frame(1, 1, 0)]


def test_prefill_waits_for_frames() -> None:
    line = Line(prefill=3)
    line.say(1, 0, 0, 2)
    assert line.run(2) == [None, None]
    line.say(1, 0, 2, 1)
    assert line.run(4) == [*frames(1, 0, 0, 3), None]
    assert line.ledger == [Started(1, 2 * FRAME)]


def test_prefill_does_not_wait_where_the_end_is_here() -> None:
    line = Line(prefill=3)
    line.say(1, 0, 0, 1, last=True)
    assert line.run(1) == [frame(1, 0, 0)]
    line = Line(prefill=3)
    line.say(1, 0, 0, 1)
    line.end(1)
    assert line.run(1) == [frame(1, 0, 0)]


def test_prefill_does_not_wait_for_ever() -> None:
    line = Line(prefill=3, stall_ms=60)
    line.say(1, 0, 0, 1)
    assert line.run(4) == [None, None, None, frame(1, 0, 0)]


def test_time_in_which_nothing_may_be_sent_is_no_stall() -> None:
    line = Line(stall_ms=100)
    line.say(1, 0, 0, 1)
    line.say(2, 0, 0, 1)
    line.run(3)
    for _ in range(500):
        next(line.turns)  # the caller has the call on hold: nobody asks for a packet, media time goes on
    assert line.run(1) == [None]
    line.say(1, 0, 1, 1)
    assert line.run(1) == [frame(1, 0, 1)]
    assert line.playout.counts.abandoned == 0


class TestFlush:
    def test_it_takes_effect_at_the_next_frame_and_says_what_was_heard(self) -> None:
        line = Line()
        line.say(1, 0, 0, 2, last=True)
        line.say(1, 1, 0, 10)
        line.run(5)
        assert line.playout.flush(1, 800)
        assert line.run(1) == [None]
        assert line.ledger[-1] == Flushed(1, 1, 60, 140, 800)
        assert line.playout.queued_ms == 0
        assert line.say(1, 1, 10, 5, last=True) == 0
        line.end(1)
        assert line.run(2) == [None, None]

    def test_a_sentence_whose_end_came_after_its_last_packet_was_heard_in_full(self) -> None:
        line = Line()
        line.say(1, 0, 0, 2)
        line.run(2)
        line.playout.offer(1, 0, 2, [], segment_end=True)
        line.say(1, 1, 0, 1)
        line.playout.flush(1, 320, "barge_in")
        line.run(1)
        assert line.ledger == [Started(1, 0), Mark(1, 0, 320, 0), Flushed(1, 1, 0, 20, 320, "barge_in")]

    def test_its_time_is_the_end_of_the_last_packet_of_it(self) -> None:
        line = Line()
        line.say(1, 0, 0, 2)
        line.say(2, 0, 0, 1)
        line.run(10)
        line.playout.flush(None, 10 * FRAME)
        line.run(1)
        assert line.ledger[-2:] == [Flushed(1, 0, 40, 0, 320), Flushed(2, 0, 0, 20, 1600)]

    def test_between_two_sentences_the_number_of_those_heard(self) -> None:
        line = Line()
        line.say(1, 0, 0, 2, last=True)
        line.say(1, 1, 0, 1, last=True)
        line.run(2)
        line.playout.flush(1, 320)
        line.run(1)
        assert line.ledger[-1] == Flushed(1, 1, 0, 20, 320)

    def test_none_takes_everything_known(self) -> None:
        line = Line()
        line.say(1, 0, 0, 2)
        line.say(2, 0, 0, 3)
        line.run(1)
        assert line.playout.flush(None, 160)
        line.run(1)
        assert line.ledger == [Started(1, 0), Flushed(1, 0, 20, 20, 160), Flushed(2, 0, 0, 60, 160)]
        line.say(3, 0, 0, 1)
        assert line.run(1) == [frame(3, 0, 0)]

    def test_none_with_nothing_known(self) -> None:
        line = Line()
        assert not line.playout.flush(None, 0)
        assert line.run(1) == [None]
        assert line.ledger == []

    def test_before_anything_of_it_has_come(self) -> None:
        line = Line()
        line.say(1, 0, 0, 1)
        assert line.playout.flush(2, 0)
        line.run(1)
        assert line.ledger == [Flushed(1, 0, 0, 20, 0), Flushed(2, 0, 0, 0, 0)]
        assert line.say(2, 0, 0, 1) == 0

    def test_twice_and_after_the_finish_does_nothing(self) -> None:
        line = Line()
        line.say(1, 0, 0, 1)
        assert line.playout.flush(1, 0)
        assert not line.playout.flush(1, 0)
        line.say(2, 0, 0, 1, last=True)
        line.end(2)
        line.run(1)
        assert not line.playout.flush(2, 160)

    def test_a_newer_one_goes_on(self) -> None:
        line = Line()
        line.say(1, 0, 0, 5)
        line.say(2, 0, 0, 1)
        line.run(1)
        line.playout.flush(1, 160)
        assert line.run(1) == [frame(2, 0, 0)]


class TestLimit:
    def test_overflow_is_dropped_and_counted(self) -> None:
        line = Line(limit_ms=60)
        assert line.say(1, 0, 0, 5) == 3
        assert line.playout.counts.overflow == 2
        assert line.run(4) == [*frames(1, 0, 0, 3), None]
        line.say(1, 0, 5, 1)
        assert line.run(1) == [frame(1, 0, 5)]
        assert line.playout.counts.missing == 0

    def test_the_end_of_a_sentence_is_kept(self) -> None:
        line = Line(limit_ms=20)
        line.say(1, 0, 0, 2, last=True)
        line.end(1)
        line.run(1)
        assert line.ledger[-1] == Finished(1, 1, 160)

    def test_a_flush_makes_room(self) -> None:
        line = Line(limit_ms=40)
        line.say(1, 0, 0, 2)
        line.playout.flush(1, 0)
        assert line.say(2, 0, 0, 2) == 2


class TestFrameSizes:
    @pytest.mark.parametrize("size", [40, 80, 160, 240, 480, 800])
    @pytest.mark.parametrize("packet", [80, 160, 240])
    def test_any_size_is_cut_to_the_packet(self, size: int, packet: int) -> None:
        playout = Playout(frame_bytes=packet)
        said = frames(1, 0, 0, 6, size)
        playout.offer(1, 0, 0, said, segment_end=True)
        playout.offer(1, 1, 0, [], end=True)
        sent: list[bytes] = []
        while (payload := playout.next_frame(len(sent) * packet)) is not None:
            sent.append(payload)
        assert {len(payload) for payload in sent} == {packet}
        whole = b"".join(said)
        assert b"".join(sent) == whole + b"\xff" * (-len(whole) % packet)
        assert isinstance(playout.take_ledger()[-1], Finished)

    def test_sentences_share_a_packet_and_its_end_marks_the_first(self) -> None:
        playout = Playout()
        playout.offer(1, 0, 0, [b"a" * 200], segment_end=True)
        playout.offer(1, 1, 0, [b"b" * 200], segment_end=True, end=True)
        assert playout.next_frame(0) == b"a" * 160
        assert playout.next_frame(160) == b"a" * 40 + b"b" * 120
        assert playout.next_frame(320) == b"b" * 80 + b"\xff" * 80
        assert playout.take_ledger() == [Started(1, 0), Mark(1, 0, 320, 0), Mark(1, 1, 480, 200), Finished(1, 3, 480)]

    def test_part_of_a_packet_waits_in_a_sentence_and_leaves_at_its_end(self) -> None:
        playout = Playout(silence=0xD5)
        playout.offer(1, 0, 0, [b"a" * 240])
        assert playout.next_frame(0) == b"a" * 160
        assert playout.next_frame(160) is None
        assert playout.counts.starved == 1
        playout.offer(1, 0, 1, [], segment_end=True)
        assert playout.next_frame(320) == b"a" * 80 + b"\xd5" * 80

    def test_flush_counts_what_left_of_a_cut_frame(self) -> None:
        playout = Playout()
        playout.offer(1, 0, 0, [b"a" * 400])
        playout.next_frame(0)
        playout.flush(1, 160)
        assert playout.take_ledger()[-1] == Flushed(1, 0, 20, 30, 160)

    def test_another_packet_size_in_mid_utterance(self) -> None:
        playout = Playout()
        playout.offer(1, 0, 0, [b"a" * 160] * 3)
        playout.next_frame(0)
        playout.set_frame_bytes(240)
        assert playout.next_frame(160) == b"a" * 240

    def test_empty_frames_are_nothing(self) -> None:
        playout = Playout()
        playout.offer(1, 0, 0, [b"", b"a" * 160], segment_end=True, end=True)
        assert playout.next_frame(0) == b"a" * 160
        assert playout.take_ledger()[-1] == Finished(1, 1, 160)
