"""Any order, loss and duplication: out in order, nothing twice, and nothing delayed that is in order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.media.frames import ReceivedFrame
from edge.media.receiver import MediaReceiver
from edge.media.reorder import Arrival, ReorderBuffer
from tests.edge.media.streams import CALLER, Stream, answered, frames, number_of, play

pytestmark = pytest.mark.unit

WAIT_S = 0.04


@dataclass(frozen=True)
class Fate:
    """What the network does to one packet: milliseconds of delay for each copy that arrives, none if it is lost."""

    delays_ms: tuple[int, ...]


fates = st.lists(
    st.builds(Fate, st.lists(st.sampled_from([0, 0, 0, 1, 19, 25, 39, 45, 70, 150]), max_size=3).map(tuple)),
    min_size=1,
    max_size=60,
)
stream_starts = st.sampled_from([(1000, 50_000), (65_530, 0xFFFFFFFF - 1000), (0, 0)])


def arrivals(network: list[Fate]) -> list[tuple[float, int]]:
    """(arrival in seconds, packet number) in order of arrival."""
    return sorted(
        (0.02 * number + delay / 1000, number) for number, fate in enumerate(network) for delay in fate.delays_ms
    )


@settings(max_examples=400, deadline=None)
@given(fates, stream_starts)
def test_reorder_keeps_its_promises(network: list[Fate], start: tuple[int, int]) -> None:
    receiver = answered()
    stream = Stream(first_sequence=start[0], first_timestamp=start[1])
    arrived: dict[int, float] = {}
    heard: list[ReceivedFrame] = []

    def take(new: list[ReceivedFrame], now: float) -> None:
        for frame in new:
            waited = now - arrived[number_of(frame)]
            assert waited <= WAIT_S + 1e-9, "a packet waited longer than the reorder wait"
            heard.append(frame)

    for now, number in arrivals(network):
        while (deadline := receiver.next_deadline()) is not None and deadline <= now:
            take(frames(receiver.handle_deadline(deadline)), deadline)
        in_order = not heard or number == number_of(heard[-1]) + 1
        fresh = number not in arrived
        arrived.setdefault(number, now)
        new = frames(receiver.receive(stream.packet(number), CALLER, now))
        if in_order and fresh and (heard or not arrived.keys() - {number}):
            assert new, "a packet that was in order had to wait"
            assert number_of(new[0]) == number
        take(new, now)
    take(frames(receiver.finish()), max(arrived.values(), default=0.0))
    check(receiver, heard, arrived, network)


def check(receiver: MediaReceiver, heard: list[ReceivedFrame], arrived: dict[int, float], network: list[Fate]) -> None:
    numbers = [number_of(frame) for frame in heard]
    assert numbers == sorted(set(numbers)), "out of order or twice"
    assert set(numbers) <= set(arrived)
    for earlier, later in pairwise(heard):
        skipped = number_of(later) - number_of(earlier) - 1
        assert later.lost_before == skipped
        assert later.media_time - earlier.media_time == 160 * (skipped + 1)
        assert not later.resync
    counts = receiver.counts
    copies = sum(len(fate.delays_ms) for fate in network)
    assert counts.frames + counts.late + counts.duplicate == copies
    assert counts.rejected_total == 0
    if heard:
        never_came = numbers[-1] - numbers[0] + 1 - len([n for n in arrived if numbers[0] <= n <= numbers[-1]])
        assert receiver.lost == never_came


@settings(max_examples=200, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_loss_alone_delays_only_what_follows_a_hole(pattern: list[bool]) -> None:
    receiver = answered()
    heard = frames(play(receiver, Stream(), pattern)) + frames(receiver.finish())
    assert [number_of(frame) for frame in heard] == [number for number, came in enumerate(pattern) if came]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=30))
def test_no_bytes_whatever_stop_the_stream(noise: list[tuple[int, bytes]]) -> None:
    receiver, stream = answered(), Stream()
    for number, (repeat, junk) in enumerate(noise):
        now = 0.02 + number * 0.02
        for _ in range(repeat):
            receiver.receive(junk, CALLER, now)
            receiver.receive(b"\x80\x00" + junk, CALLER, now)
        assert stream.packet(number)
        receiver.receive(stream.packet(number), CALLER, now)
    after = len(noise)
    heard = []
    for number in range(after, after + 4):
        heard += frames(receiver.receive(stream.packet(number), CALLER, 0.02 + number * 0.02))
    assert [frame.payload for frame in heard][-2:] == [stream.payload(after + 2), stream.payload(after + 3)]


def test_buffer_forgets_what_was_given_up_long_ago() -> None:
    buffer: ReorderBuffer[int] = ReorderBuffer(WAIT_S)
    buffer.start(0)
    buffer.take(0)
    for number in range(2, 4000, 2):
        buffer.hold(number, number, 0.0)
        buffer.drain()
    assert buffer.lost == 1999
    assert buffer.classify(3997) is Arrival.LATE
    assert buffer.classify(3) is Arrival.FAR
    buffer.found(3)
    assert buffer.lost == 1999
