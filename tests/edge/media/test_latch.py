"""Whose packets are believed."""

from __future__ import annotations

import pytest

from edge.media.latch import LATCH_WINDOW_S, SourceLatch, Verdict

pytestmark = pytest.mark.unit

SDP = ("10.0.0.5", 4000)
NAT = ("203.0.113.7", 31_000)
THIEF = ("198.51.100.66", 9)
ACCEPTED, WAITING, LATCHED, REJECTED = Verdict.ACCEPTED, Verdict.WAITING, Verdict.LATCHED, Verdict.REJECTED


def expecting() -> SourceLatch:
    latch = SourceLatch()
    latch.expect(SDP, 0.0)
    return latch


def judge(
    latch: SourceLatch, source: tuple[str, int], *sequences: int, ssrc: int = 1, now: float = 1.0
) -> list[Verdict]:
    return [latch.judge(b"%d" % sequence, source, ssrc, sequence, now) for sequence in sequences]


def test_the_address_of_the_sdp_is_accepted_at_once_and_for_good() -> None:
    latch = expecting()
    assert judge(latch, SDP, 7) == [ACCEPTED]
    assert judge(latch, THIEF, 1, 2, 3, 4) == [REJECTED] * 4
    assert judge(latch, SDP, 8, now=100.0) == [ACCEPTED]
    assert latch.target == SDP
    assert latch.strangers == 4


def test_three_packets_in_a_row_from_elsewhere_latch() -> None:
    latch = expecting()
    assert latch.target == SDP
    assert judge(latch, NAT, 65534, 65535, 0) == [WAITING, WAITING, LATCHED]
    assert latch.target == NAT
    assert latch.take_waiting() == [(b"65534", 1.0), (b"65535", 1.0), (b"0", 1.0)]
    assert judge(latch, NAT, 1) == [ACCEPTED]
    assert latch.strangers == 0
    assert judge(latch, THIEF, 1, 2, 3) == [REJECTED] * 3


@pytest.mark.parametrize("sequences", [(1, 3, 5, 7), (1, 1, 1), (1, 2, 4, 5), (3, 2, 1)])
def test_packets_not_in_a_row_do_not_latch(sequences: tuple[int, ...]) -> None:
    latch = expecting()
    assert judge(latch, NAT, *sequences) == [WAITING] * len(sequences)
    assert latch.target == SDP


def test_two_sources_or_two_ssrcs_in_turn_do_not_latch() -> None:
    latch = expecting()
    for sequence in range(6):
        assert judge(latch, NAT, sequence, ssrc=sequence % 2) == [WAITING]
    latch = expecting()
    for sequence in range(6):
        assert judge(latch, NAT if sequence % 2 else THIEF, sequence) == [WAITING]
    assert latch.strangers == 5


def test_a_packet_from_the_sdp_refuses_who_was_waiting() -> None:
    latch = expecting()
    judge(latch, THIEF, 1, 2)
    assert judge(latch, SDP, 50) == [ACCEPTED]
    assert latch.strangers == 2
    assert judge(latch, THIEF, 3) == [REJECTED]


def test_after_the_window_only_the_sdp_is_left() -> None:
    latch = expecting()
    assert judge(latch, NAT, 1, 2, 3, now=LATCH_WINDOW_S + 0.1) == [REJECTED] * 3
    assert judge(latch, SDP, 1, now=LATCH_WINDOW_S + 9) == [ACCEPTED]


def test_the_sdp_takes_the_line_back_from_whoever_was_faster() -> None:
    latch = expecting()
    assert judge(latch, THIEF, 1, 2, 3)[-1] is LATCHED
    assert judge(latch, SDP, 9) == [ACCEPTED]
    assert judge(latch, THIEF, 4, 5, 6, 7) == [REJECTED] * 4


def test_a_re_invite_to_another_address() -> None:
    latch = expecting()
    judge(latch, SDP, 1)
    moved = ("10.0.0.9", 5000)
    latch.expect(moved, 60.0)
    assert latch.target == moved
    assert judge(latch, SDP, 2, now=60.01) == [ACCEPTED]  # still on its way
    assert judge(latch, moved, 100, now=60.1) == [ACCEPTED]
    assert judge(latch, SDP, 3, now=60.2) == [REJECTED]
    assert latch.target == moved


def test_a_re_invite_behind_a_translator_that_moved() -> None:
    latch = expecting()
    judge(latch, NAT, 1, 2, 3)
    latch.take_waiting()
    latch.expect(SDP, 60.0)
    assert latch.target == NAT
    rebound = ("203.0.113.7", 32_222)
    assert judge(latch, rebound, 1, 2, 3, now=60.1) == [WAITING, WAITING, LATCHED]
    assert latch.target == rebound


def test_a_thief_does_not_break_in_at_a_re_invite_while_the_caller_speaks() -> None:
    latch = expecting()
    judge(latch, NAT, 1, 2, 3)
    latch.take_waiting()
    latch.expect(SDP, 60.0)
    for sequence in range(20):
        assert judge(latch, THIEF, 2 * sequence, 2 * sequence + 1, now=60.1) == [WAITING, WAITING]
        assert judge(latch, NAT, 100 + sequence, now=60.1) == [ACCEPTED]


def test_rtcp_is_believed_from_the_same_host() -> None:
    latch = SourceLatch()
    assert not latch.is_peer_host(SDP)
    latch.expect(SDP, 0.0)
    assert latch.is_peer_host(("10.0.0.5", 4001))
    assert not latch.is_peer_host(THIEF)
    judge(latch, NAT, 1, 2, 3)
    assert latch.is_peer_host(("203.0.113.7", 1))
    assert latch.is_peer_host(("10.0.0.5", 4001))


def test_before_the_sdp_is_known_nobody_is() -> None:
    latch = SourceLatch()
    assert latch.target is None
    assert not latch.knows(SDP)
