"""Telephone-events, mangled in every way that the network and other people's senders know."""

from __future__ import annotations

import pytest

from edge.media.dtmf import (
    DIGITS,
    LOST_END_S,
    DtmfEvent,
    DtmfPressed,
    DtmfReceiver,
    DtmfReleased,
    DtmfSender,
)
from edge.media.sequence import timestamp_add

pytestmark = pytest.mark.unit

START = 16_000
Packet = tuple[float, int, int, int, bool]
"""Arrival, event code, timestamp, duration, end."""


def press(code: int = 5, *, at: float = 0.0, timestamp: int = START, updates: int = 5, ends: int = 3) -> list[Packet]:
    """A press as RFC 4733 wants it: durations growing by 20 ms, then the end several times."""
    packets = [(at + n * 0.02, code, timestamp, (n + 1) * 160, False) for n in range(updates)]
    last = (updates + 1) * 160
    return packets + [(at + (updates + n) * 0.02, code, timestamp, last, True) for n in range(ends)]


def hear(packets: list[Packet], until: float = 100.0) -> list[DtmfEvent]:
    receiver = DtmfReceiver()
    events: list[DtmfEvent] = []
    for now, code, timestamp, duration, end in packets:
        payload = bytes((code, 0x8A if end else 0x0A)) + duration.to_bytes(2, "big")
        events += receiver.receive(payload, timestamp, timestamp, now)
    deadline = receiver.next_deadline()
    if deadline is not None and deadline <= until:
        events += receiver.handle_deadline(deadline)
    assert receiver.next_deadline() is None
    return events


def digits(events: list[DtmfEvent]) -> str:
    return "".join(event.digit for event in events if isinstance(event, DtmfPressed))


def test_a_press_is_told_at_its_first_packet_and_its_end_once() -> None:
    assert hear(press()) == [DtmfPressed("5", START), DtmfReleased("5", START, 120, complete=True)]


@pytest.mark.parametrize(("code", "digit"), list(enumerate(DIGITS)))
def test_every_key(code: int, digit: str) -> None:
    assert digits(hear(press(code))) == digit


@pytest.mark.parametrize(
    ("arrives", "duration_ms", "complete"),
    [
        ([False, False, True, True, True, True, True, True], 120, True),  # start lost
        ([True, True, True, True, True, False, False, True], 120, True),  # two of three ends lost
        ([False, False, False, False, False, False, False, True], 120, True),  # only an end came
        ([True, True, True, True, True, False, False, False], 100, False),  # all ends lost
        ([True, False, False, False, False, False, False, False], 20, False),  # only the start came
    ],
)
def test_a_press_counts_once_whatever_is_lost(arrives: list[bool], duration_ms: int, complete: bool) -> None:
    packets = [packet for packet, arrived in zip(press(), arrives, strict=True) if arrived]
    assert hear(packets) == [DtmfPressed("5", START), DtmfReleased("5", START, duration_ms, complete)]


def test_packets_out_of_order_and_twice() -> None:
    packets = press()
    mangled = [packets[1], packets[0], packets[1], packets[3], packets[2], packets[6], packets[4], packets[5]]
    assert hear(mangled) == [DtmfPressed("5", START), DtmfReleased("5", START, 120, complete=True)]


def test_the_same_key_again_is_another_press() -> None:
    assert digits(hear(press(1) + press(1, at=0.3, timestamp=START + 2400))) == "11"


def test_the_same_key_again_with_the_first_ends_lost() -> None:
    events = hear(press(1, ends=0) + press(1, at=0.2, timestamp=START + 1600))
    assert [type(event) for event in events] == [DtmfPressed, DtmfReleased, DtmfPressed, DtmfReleased]
    assert events[1] == DtmfReleased("1", START, 100, complete=False)


def test_another_key_ends_the_one_before() -> None:
    events = hear(press(1, ends=0) + press(2, at=0.12, timestamp=START + 960))
    assert digits(events) == "12"
    assert events[1] == DtmfReleased("1", START, 100, complete=False)


def test_a_late_packet_of_the_press_before_is_no_press() -> None:
    late = (0.35, 1, START, 960, True)
    assert digits(hear([*press(1), *press(2, at=0.3, timestamp=START + 2400, ends=0), late])) == "12"


def test_retransmitted_ends_after_a_long_stall_are_no_press() -> None:
    packets = press(7, ends=1)
    assert digits(hear([*packets, (3.0, 7, START, 960, True)])) == "7"


def test_updates_after_the_end_was_given_up_are_no_press() -> None:
    packets = [(0.0, 3, START, 160, False), (1.0, 3, START, 8160, False), (1.02, 3, START, 8320, True)]
    assert hear(packets) == [DtmfPressed("3", START), DtmfReleased("3", START, 20, complete=False)]


def long_press(segments: int, *, lose_last: bool = False) -> list[Packet]:
    """Held for several times 65,535 units: each segment ends at the full duration without an end bit."""
    packets: list[Packet] = []
    now, timestamp = 0.0, 0xFFFF0000
    for _ in range(segments):
        durations = [*range(160, 0xFFFF, 160), 0xFFFF]
        for duration in durations[:-1] if lose_last else durations:
            packets.append((now, 0, timestamp, duration, False))
            now += 0.02
        timestamp = timestamp_add(timestamp, 0xFFFF)
    return [*packets, (now, 0, timestamp, 1600, True), (now, 0, timestamp, 1600, True)]


@pytest.mark.parametrize("lose_last", [False, True])
def test_a_press_longer_than_65535_units_is_one_press(lose_last: bool) -> None:
    events = hear(long_press(3, lose_last=lose_last))
    assert digits(events) == "0"
    assert events[-1] == DtmfReleased("0", 0xFFFF0000, (3 * 0xFFFF + 1600) // 8, complete=True)


def test_a_long_press_split_below_the_full_duration() -> None:
    packets = [(n * 0.02, 9, START, (n + 1) * 160, False) for n in range(300)]
    packets += [(6.0 + n * 0.02, 9, START + 48_000, (n + 1) * 160, n == 9) for n in range(10)]
    assert hear(packets) == [DtmfPressed("9", START), DtmfReleased("9", START, 6200, complete=True)]


def test_two_events_in_one_packet_follow_each_other() -> None:
    receiver = DtmfReceiver()
    payload = bytes.fromhex("018a0320") + bytes.fromhex("028a0320")
    events = receiver.receive(payload, 1000, 70, 0.0)
    assert events == [
        DtmfPressed("1", 70),
        DtmfReleased("1", 70, 100, complete=True),
        DtmfPressed("2", 870),
        DtmfReleased("2", 870, 100, complete=True),
    ]
    assert receiver.receive(payload, 1000, 70, 0.02) == []


@pytest.mark.parametrize("payload", [b"", b"\x01\x0a\x00", bytes.fromhex("100a00a0"), bytes.fromhex("058a0000")])
def test_what_is_no_key_is_counted(payload: bytes) -> None:
    receiver = DtmfReceiver()
    assert receiver.receive(payload, 0, 0, 0.0) == []
    assert receiver.ignored == 1


def test_a_restarted_clock_is_not_an_old_event() -> None:
    assert digits(hear(press(1, timestamp=4_000_000) + press(2, at=1.0, timestamp=500))) == "12"


def test_restart_ends_what_is_held_and_forgets_the_timestamps() -> None:
    receiver = DtmfReceiver()
    receiver.receive(bytes.fromhex("050a00a0"), START, 0, 0.0)
    assert receiver.restart() == [DtmfReleased("5", 0, 20, complete=False)]
    assert receiver.restart() == []
    assert receiver.receive(bytes.fromhex("050a00a0"), START - 800, 9, 0.1) == [DtmfPressed("5", 9)]


def test_the_deadline_is_counted_from_the_last_packet() -> None:
    receiver = DtmfReceiver()
    receiver.receive(bytes.fromhex("050a00a0"), START, 0, 1.0)
    receiver.receive(bytes.fromhex("050a0140"), START, 0, 1.02)
    assert receiver.next_deadline() == pytest.approx(1.02 + LOST_END_S)
    assert receiver.handle_deadline(1.2) == []
    assert receiver.handle_deadline(1.3) == [DtmfReleased("5", 0, 40, complete=False)]


class TestSending:
    def packets(self, keys: str, turns: int, **durations: int) -> list[tuple[int, str, int, bool] | None]:
        """Per turn: (timestamp offset, payload as hex, duration, marker)."""
        sender = DtmfSender()
        sender.press(keys, **durations)
        sent: list[tuple[int, str, int, bool] | None] = []
        for turn in range(turns):
            packet = sender.next_packet(timestamp_add(0xFFFFFF00, turn * 160))
            if packet is None:
                sent.append(None)
            else:
                offset = timestamp_add(packet.timestamp, -0xFFFFFF00)
                sent.append(
                    (offset, packet.payload[:2].hex(), int.from_bytes(packet.payload[2:], "big"), packet.marker)
                )
        assert not sender.active
        return sent

    def test_one_timestamp_marker_first_duration_growing_three_ends(self) -> None:
        assert self.packets("5", 10) == [
            (0, "050a", 160, True),
            (0, "050a", 320, False),
            (0, "050a", 480, False),
            (0, "050a", 640, False),
            (0, "058a", 800, False),
            (0, "058a", 800, False),
            (0, "058a", 800, False),
            None,
            None,
            None,
        ]

    def test_digits_are_apart_and_have_their_own_timestamps(self) -> None:
        sent = self.packets("1d", 12, duration_ms=40, pause_ms=40)
        assert [packet and packet[:2] for packet in sent] == [
            (0, "010a"),
            (0, "018a"),
            (0, "018a"),
            (0, "018a"),
            None,
            None,
            (960, "0f0a"),
            (960, "0f8a"),
            (960, "0f8a"),
            (960, "0f8a"),
            None,
            None,
        ]

    def test_a_press_of_one_packet(self) -> None:
        assert self.packets("#", 4, duration_ms=1, pause_ms=1)[0] == (0, "0b8a", 160, True)

    @pytest.mark.parametrize(
        ("keys", "duration_ms", "problem"),
        [("12E4", 100, "at position 3"), ("1 2", 100, "at position 2"), ("1", 8192, "8192 ms does not fit")],
    )
    def test_what_cannot_be_sent_is_refused_whole(self, keys: str, duration_ms: int, problem: str) -> None:
        sender = DtmfSender()
        with pytest.raises(ValueError, match=problem):
            sender.press(keys, duration_ms=duration_ms)
        assert not sender.active
        assert sender.next_packet(0) is None

    def test_what_we_send_is_what_we_hear(self) -> None:
        sender, receiver = DtmfSender(), DtmfReceiver()
        sender.press("4271*#")
        events: list[DtmfEvent] = []
        for turn in range(200):
            packet = sender.next_packet(turn * 160)
            if packet is not None:
                events += receiver.receive(packet.payload, packet.timestamp, packet.timestamp, turn * 0.02)
        assert digits(events) == "4271*#"
        assert all(event.complete for event in events if isinstance(event, DtmfReleased))
