"""A pause: whose it is, how long it lasts, that the line goes on at the exact sample, and what the ledger says."""

from __future__ import annotations

import pytest

from edge.media.ledger import Finished, Flushed, Mark, Paused, Resumed, Started
from edge.media.playout import Playout
from tests.edge.media.line import FRAME, Line, frame, frames

pytestmark = pytest.mark.unit

NO_LIMIT = 0


class Held(Line):
    """A line that says utterance 1 (one sentence, four frames, complete), of which two frames have left."""

    def __init__(self, **settings: int) -> None:
        super().__init__(**settings)
        self.say(1, 0, 0, 4, last=True)
        self.end(1)
        self.run(2)
        self.ledger.clear()

    @property
    def now(self) -> int:
        """Media time of the next packet, ticks."""
        return len(self.sent) * FRAME

    def pause(self, utterance: int | None = 1, limit_ms: int = NO_LIMIT, why: str = "barge_in") -> bool:
        return self.playout.pause(utterance, limit_ms, self.now, why)

    def resume(self, utterance: int | None = 1, why: str = "noise") -> bool:
        return self.playout.resume(utterance, self.now, why)


PAUSED = Paused(1, 0, 0, 40, 40, True, 2 * FRAME, "barge_in")


def test_silence_from_the_next_packet_on_and_nothing_is_lost_or_repeated() -> None:
    line = Held(stall_ms=40)
    line.say(2, 0, 0, 1)
    assert line.pause()
    assert (line.playout.held, line.playout.playing, line.playout.queued_ms) == (1, 1, 60)
    assert line.run(50) == [None] * 50
    assert line.resume()
    assert line.playout.held is None
    assert line.run(3) == [frame(1, 0, 2), frame(1, 0, 3), frame(2, 0, 0)]
    assert line.ledger == [
        PAUSED,
        Resumed(1, 0, 52 * FRAME, "noise"),
        Mark(1, 0, 54 * FRAME, 0),
        Finished(1, 4, 54 * FRAME),
        Started(2, 54 * FRAME),
    ]
    assert (line.playout.counts.starved, line.playout.counts.abandoned) == (0, 0)


@pytest.mark.parametrize("size", [1, 7, 33, 80, 159, 161, 240, 333, 800])
@pytest.mark.parametrize("packet", [80, 160, 240])
def test_whatever_the_sizes_it_goes_on_at_the_exact_sample(size: int, packet: int) -> None:
    """Every byte of 2,001 tells its place modulo 251, and none is silence (0xFF)."""
    whole = bytes(place % 251 for place in range(2001))
    playout = Playout(frame_bytes=packet)
    playout.offer(1, 0, 0, [whole[at : at + size] for at in range(0, len(whole), size)], segment_end=True, end=True)
    sent = bytearray()
    now = 0
    while playout.queued_ms:
        for _ in range(2):
            sent += playout.next_frame(now) or b""
            now += packet
        before = len(sent)
        if playout.pause(1, NO_LIMIT, now):
            assert playout.take_ledger()[-1] == Paused(
                1, playout._utterances[1].pauses - 1, 0, before // 8, (len(whole) - before) // 8, True, now, ""
            )
            assert [playout.next_frame(now + n * packet) for n in range(3)] == [None] * 3
            now += 3 * packet
            assert playout.resume(None, now)
    assert sent.rstrip(b"\xff") == whole


def test_another_packet_size_meanwhile() -> None:
    playout = Playout()
    playout.offer(1, 0, 0, [bytes(range(100, 200)) * 5], segment_end=True)
    first = playout.next_frame(0)
    playout.pause(1, NO_LIMIT, 160)
    playout.set_frame_bytes(240)
    assert playout.next_frame(160) is None
    playout.resume(1, 400)
    assert (first or b"") + (playout.next_frame(400) or b"") == (bytes(range(100, 200)) * 5)[:400]


class TestWhom:
    def test_none_is_what_plays(self) -> None:
        line = Held()
        line.say(2, 0, 0, 1)
        assert line.pause(None)
        assert line.playout.held == 1

    def test_none_is_what_would_begin_next(self) -> None:
        line = Line(prefill=3)
        line.say(1, 0, 0, 1)
        assert line.playout.pause(None, NO_LIMIT, 0)
        assert line.playout.held == 1

    def test_none_where_there_is_nothing(self) -> None:
        line = Line()
        assert not line.playout.pause(None, NO_LIMIT, 0)
        assert not line.playout.resume(None, 0)
        assert line.playout.take_ledger() == []

    def test_an_unknown_one_is_refused(self) -> None:
        line = Held()
        assert not line.pause(2)
        assert not line.resume(2)
        assert line.run(1) == [frame(1, 0, 2)]
        assert line.ledger == []

    def test_a_finished_or_flushed_one_is_refused(self) -> None:
        line = Held()
        line.run(2)
        assert not line.pause(1)
        assert not line.pause(None)
        line.say(2, 0, 0, 2)
        line.run(1)
        line.playout.flush(2, line.now)
        assert not line.pause(2)

    def test_one_that_was_sent_to_its_end_is_finished_and_refused(self) -> None:
        line = Line()
        line.say(1, 0, 0, 1, last=True)
        line.run(1)
        line.end(1)
        line.say(2, 0, 0, 1)
        assert not line.playout.pause(1, NO_LIMIT, FRAME)
        assert line.run(1) == [frame(2, 0, 0)]
        assert line.ledger == [Started(1, 0), Mark(1, 0, 160, 0), Finished(1, 1, 160), Started(2, 160)]

    def test_an_empty_one_behind_another_is_refused(self) -> None:
        line = Held()
        line.end(2, 0)
        assert not line.pause(2)
        assert line.run(2) == [frame(1, 0, 2), frame(1, 0, 3)]

    def test_one_that_has_not_begun_is_held_and_begins_when_resumed(self) -> None:
        line = Line()
        line.say(5, 0, 0, 2)
        assert line.playout.pause(5, NO_LIMIT, 0, "barge_in")
        assert line.playout.playing is None
        assert line.run(3) == [None] * 3
        line.playout.resume(5, 480, "noise")
        assert line.run(2) == frames(5, 0, 0, 2)
        assert line.ledger == [
            Paused(5, 0, 0, 0, 40, False, 0, "barge_in"),
            Resumed(5, 0, 480, "noise"),
            Started(5, 480),
        ]

    def test_one_that_waits_behind_another_is_held_when_its_turn_comes(self) -> None:
        line = Held()
        line.say(2, 0, 0, 1)
        line.say(3, 0, 0, 1)
        assert line.pause(2)
        assert line.playout.held is None
        assert line.run(4) == [frame(1, 0, 2), frame(1, 0, 3), None, None]
        assert line.playout.held == 2
        assert line.resume(2)
        assert line.run(1) == [frame(2, 0, 0)]

    def test_two_are_resumed_at_once_with_none(self) -> None:
        line = Held()
        line.say(2, 0, 0, 1)
        assert line.pause(2)
        assert line.pause(1)
        assert line.resume(None)
        assert line.run(3) == [frame(1, 0, 2), frame(1, 0, 3), frame(2, 0, 0)]


class TestNoneInItsPlace:
    def test_neither_newer_nor_older(self) -> None:
        line = Held(stall_ms=40)
        line.pause()
        line.say(2, 0, 0, 3, last=True)
        assert line.say(0, 0, 0, 3, last=True) == 0
        assert line.run(20) == [None] * 20

    def test_nor_older_where_it_had_not_begun(self) -> None:
        line = Line()
        line.say(5, 0, 0, 1, last=True)
        line.end(5)
        line.playout.pause(5, NO_LIMIT, 0)
        line.say(4, 0, 0, 1, last=True)
        line.end(4)
        assert line.run(3) == [None] * 3
        line.playout.resume(5, 480)
        assert line.run(3) == [frame(4, 0, 0), frame(5, 0, 0), None]

    def test_an_unfinished_one_gives_way_to_no_other_while_it_is_held(self) -> None:
        line = Line(stall_ms=100)
        line.say(1, 0, 0, 1)
        line.say(2, 0, 0, 1)
        line.run(5)
        line.playout.pause(1, NO_LIMIT, 5 * FRAME)
        assert line.run(500) == [None] * 500
        line.playout.resume(1, 505 * FRAME)
        line.say(1, 0, 1, 1)
        assert line.run(1) == [frame(1, 0, 1)]
        assert (line.playout.counts.starved, line.playout.counts.abandoned) == (4, 0)

    def test_the_wait_for_more_begins_anew_after_it(self) -> None:
        line = Line(stall_ms=100)
        line.say(1, 0, 0, 1)
        line.say(2, 0, 0, 1)
        line.run(6)
        line.playout.pause(1, NO_LIMIT, 6 * FRAME)
        line.run(3)
        line.playout.resume(1, 9 * FRAME)
        assert line.run(7) == [None] * 6 + [frame(2, 0, 0)]


class TestLimit:
    def test_it_goes_on_by_itself_at_the_first_packet_after_it(self) -> None:
        line = Held()
        line.pause(limit_ms=60)
        assert line.run(4) == [None, None, None, frame(1, 0, 2)]
        assert line.ledger == [PAUSED, Resumed(1, 0, 5 * FRAME, "limit")]
        assert not line.resume()

    def test_between_two_packets(self) -> None:
        line = Held()
        line.pause(limit_ms=61)
        assert line.run(5) == [None, None, None, None, frame(1, 0, 2)]

    def test_zero_is_none(self) -> None:
        line = Held()
        line.pause(limit_ms=0)
        assert set(line.run(3000)) == {None}

    def test_it_is_over_after_a_time_in_which_no_packet_was_asked_for(self) -> None:
        line = Held()
        line.pause(limit_ms=60)
        assert line.playout.next_frame(1000 * FRAME) == frame(1, 0, 2)
        assert line.playout.take_ledger()[-1] == Resumed(1, 0, 1000 * FRAME, "limit")

    def test_a_second_pause_renews_it_and_says_nothing(self) -> None:
        line = Held()
        line.pause(limit_ms=60)
        line.run(2)
        assert line.pause(limit_ms=100, why="other")
        assert line.pause(None, limit_ms=80)
        assert line.run(5) == [None] * 4 + [frame(1, 0, 2)]
        assert line.ledger == [PAUSED, Resumed(1, 0, 8 * FRAME, "limit")]

    def test_a_resume_takes_it_back(self) -> None:
        line = Held()
        line.pause(limit_ms=20)
        line.resume()
        assert line.run(2) == [frame(1, 0, 2), frame(1, 0, 3)]
        assert line.ledger[:2] == [PAUSED, Resumed(1, 0, 2 * FRAME, "noise")]


def test_again_and_again() -> None:
    line = Line()
    line.say(1, 0, 0, 10, last=True)
    line.end(1)
    line.run(1)
    for number in range(9):
        assert line.playout.pause(1, NO_LIMIT, (1 + 3 * number) * FRAME)
        assert line.run(2) == [None, None]
        assert line.playout.resume(1, (3 + 3 * number) * FRAME)
        assert line.run(1) == [frame(1, 0, 1 + number)]
    pauses = [entry for entry in line.ledger if isinstance(entry, Paused)]
    assert [(entry.number, entry.sent_ms, entry.remaining_ms) for entry in pauses] == [
        (number, 20 + 20 * number, 180 - 20 * number) for number in range(9)
    ]
    assert [entry.media_time for entry in pauses] == [(1 + 3 * number) * FRAME for number in range(9)]
    assert line.ledger[-1] == Finished(1, 10, 28 * FRAME)


def test_pauses_at_the_same_sample_are_told_apart() -> None:
    line = Line()
    line.say(1, 0, 0, 1, last=True)
    line.run(10)
    for at in (10, 20):
        line.playout.pause(1, NO_LIMIT, at * FRAME)
        line.playout.resume(1, (at + 5) * FRAME)
        line.run(1)
    assert line.ledger[2:] == [
        Paused(1, 0, 1, 0, 0, False, FRAME, ""),
        Resumed(1, 0, 15 * FRAME, ""),
        Paused(1, 1, 1, 0, 0, False, FRAME, ""),
        Resumed(1, 1, 25 * FRAME, ""),
    ]


class TestFlush:
    def test_of_a_held_one_drops_it(self) -> None:
        line = Held()
        line.pause()
        line.run(10)
        assert line.playout.flush(1, line.now, "barge_in")
        assert line.playout.held is None
        assert line.run(3) == [None] * 3
        assert line.ledger == [PAUSED, Flushed(1, 0, 40, 40, 2 * FRAME, "barge_in")]
        assert not line.resume()
        assert not line.pause()

    def test_frames_of_it_that_were_on_their_way_are_stale(self) -> None:
        line = Line()
        line.say(1, 0, 0, 5)
        line.run(2)
        line.playout.pause(1, NO_LIMIT, 320)
        line.playout.flush(1, 320)
        assert line.say(1, 0, 5, 5, last=True) == 0
        line.end(1)
        assert line.run(3) == [None] * 3
        assert line.playout.counts.stale == 5

    def test_the_next_one_begins(self) -> None:
        line = Held()
        line.pause()
        line.say(2, 0, 0, 1)
        line.playout.flush(1, line.now)
        assert line.run(1) == [frame(2, 0, 0)]

    def test_of_an_older_one_leaves_a_held_one_held(self) -> None:
        line = Held()
        line.say(2, 0, 0, 1)
        line.pause(2)
        line.playout.flush(1, line.now)
        assert line.run(2) == [None, None]
        assert line.resume(2)
        assert line.run(1) == [frame(2, 0, 0)]

    def test_none_drops_what_is_held_too(self) -> None:
        line = Held()
        line.say(2, 0, 0, 1)
        line.pause(2)
        line.pause(1)
        line.playout.flush(None, line.now)
        line.say(3, 0, 0, 1)
        assert line.run(1) == [frame(3, 0, 0)]
        assert not line.resume(None)


class TestWhatComesMeanwhile:
    def test_audio_is_queued(self) -> None:
        line = Line()
        line.say(1, 0, 0, 2)
        line.run(1)
        line.playout.pause(1, NO_LIMIT, FRAME)
        line.say(1, 0, 2, 2, last=True)
        line.say(1, 1, 0, 1, last=True)
        line.end(1, 2)
        assert line.run(2) == [None, None]
        line.playout.resume(1, 3 * FRAME)
        assert line.run(5) == [*frames(1, 0, 1, 3), frame(1, 1, 0), None]
        assert line.ledger[1:] == [
            Paused(1, 0, 0, 20, 20, False, FRAME, ""),
            Resumed(1, 0, 3 * FRAME, ""),
            Mark(1, 0, 6 * FRAME, 0),
            Mark(1, 1, 7 * FRAME, 6 * FRAME),
            Finished(1, 5, 7 * FRAME),
        ]

    def test_a_successor_that_says_it_again_adds_only_what_was_missing(self) -> None:
        line = Line()
        line.say(1, 0, 0, 3)
        line.run(2)
        line.playout.pause(1, NO_LIMIT, 2 * FRAME)
        assert line.say(1, 0, 0, 6, last=True) == 3
        assert line.say(1, 0, 0, 6, last=True) == 0
        line.end(1)
        line.run(3)
        line.playout.resume(1, 5 * FRAME)
        assert line.run(5) == [*frames(1, 0, 2, 4), None]

    def test_the_end_of_one_that_has_nothing_left_is_told_when_it_is_resumed(self) -> None:
        line = Line()
        line.say(1, 0, 0, 1, last=True)
        line.run(1)
        assert line.playout.pause(1, NO_LIMIT, FRAME)
        line.end(1)
        assert line.run(2) == [None, None]
        assert line.playout.pause(1, NO_LIMIT, 3 * FRAME)
        line.playout.resume(1, 3 * FRAME)
        line.run(1)
        assert line.ledger == [
            Started(1, 0),
            Mark(1, 0, 160, 0),
            Paused(1, 0, 1, 0, 0, False, FRAME, ""),
            Resumed(1, 0, 3 * FRAME, ""),
            Finished(1, 1, 160),
        ]

    def test_a_sentence_that_was_over_is_marked_before_the_pause(self) -> None:
        line = Line()
        line.say(1, 0, 0, 1)
        line.run(1)
        line.playout.offer(1, 0, 1, [], segment_end=True)
        line.say(1, 1, 0, 1, last=True)
        line.playout.pause(1, NO_LIMIT, FRAME)
        line.run(4)
        line.playout.resume(1, 5 * FRAME)
        line.run(1)
        assert line.ledger == [
            Started(1, 0),
            Mark(1, 0, 160, 0),
            Paused(1, 0, 1, 0, 20, False, FRAME, ""),
            Resumed(1, 0, 5 * FRAME, ""),
            Mark(1, 1, 6 * FRAME, 5 * FRAME),
        ]


class TestMarkStart:
    def test_it_is_where_the_first_frame_left_whatever_pauses_lie_between(self) -> None:
        line = Line()
        line.say(1, 0, 0, 3, last=True)
        line.say(1, 1, 0, 2, last=True)
        line.end(1, 2)
        line.run(2)
        line.playout.pause(1, NO_LIMIT, 2 * FRAME)
        line.run(5)
        line.playout.resume(1, 7 * FRAME)
        line.run(2)
        line.playout.pause(1, NO_LIMIT, 9 * FRAME)
        line.run(1)
        line.playout.resume(1, 10 * FRAME)
        line.run(1)
        marks = [entry for entry in line.ledger if isinstance(entry, Mark)]
        assert marks == [Mark(1, 0, 8 * FRAME, 0), Mark(1, 1, 11 * FRAME, 8 * FRAME)]

    def test_after_a_hole_between_two_sentences(self) -> None:
        line = Line()
        line.say(1, 0, 0, 1)
        line.run(4)
        line.playout.offer(1, 0, 1, [], segment_end=True)
        line.say(1, 1, 0, 1, last=True)
        line.run(1)
        assert line.ledger == [Started(1, 0), Mark(1, 0, 160, 0), Mark(1, 1, 5 * FRAME, 4 * FRAME)]

    def test_of_a_sentence_without_audio_it_is_its_end(self) -> None:
        line = Line()
        line.playout.offer(1, 0, 0, [], segment_end=True)
        line.say(1, 1, 0, 1, last=True)
        line.run(1)
        assert line.ledger == [Started(1, 0), Mark(1, 0, 0, 0), Mark(1, 1, 160, 0)]
