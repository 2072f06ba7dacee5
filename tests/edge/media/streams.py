"""A caller's RTP, made up: packets by number, and a link that loses by pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.media.frames import MediaEvent, ReceivedFrame
from edge.media.receiver import MediaReceiver
from edge.media.rtp import RtpPacket, serialise_packet
from edge.media.sequence import sequence_add, timestamp_add

CALLER = ("192.0.2.10", 40_000)
STRANGER = ("198.51.100.66", 4_000)
PCMU, PCMA, EVENTS = 0, 8, 101


@dataclass
class Stream:
    """Packets of one source; ``packet(n)`` is the n-th, with a payload that tells n."""

    ssrc: int = 0x5EED
    first_sequence: int = 1000
    first_timestamp: int = 50_000
    frame_ms: int = 20
    payload_type: int = PCMU

    @property
    def ticks(self) -> int:
        return self.frame_ms * 8

    def payload(self, number: int) -> bytes:
        return number.to_bytes(4, "big") * (self.ticks // 4)

    def packet(self, number: int, *, marker: bool = False, skip_ticks: int = 0, **changes: object) -> bytes:
        """``skip_ticks``: silence before it that the timestamp counts and the sequence number does not."""
        packet = RtpPacket(
            self.payload_type,
            sequence_add(self.first_sequence, number),
            timestamp_add(self.first_timestamp, number * self.ticks + skip_ticks),
            self.ssrc,
            self.payload(number),
            marker,
        )
        return serialise_packet(packet._replace(**changes))  # type: ignore[arg-type]


def number_of(frame: ReceivedFrame) -> int:
    """The packet that the frame came in."""
    return int.from_bytes(frame.payload[:4], "big")


def frames(events: Sequence[MediaEvent]) -> list[ReceivedFrame]:
    return [event for event in events if isinstance(event, ReceivedFrame)]


def answered(*, types: Sequence[int] = (PCMU, PCMA), **settings: int) -> MediaReceiver:
    """A receiver whose call was answered at 0.0 s and whose SDP named ``CALLER``."""
    receiver = MediaReceiver(types, EVENTS, **settings)
    receiver.expect(CALLER, 0.0)
    receiver.start(0.0)
    return receiver


def play(
    receiver: MediaReceiver, stream: Stream, arrives: Sequence[bool], *, start: float = 0.02, first: int = 0
) -> list[MediaEvent]:
    """Send one packet per entry at its time; False loses it. Deadlines are served before each packet."""
    events: list[MediaEvent] = []
    for index, arrived in enumerate(arrives):
        now = start + index * stream.frame_ms / 1000
        events += receiver.handle_deadline(now)
        if arrived:
            events += receiver.receive(stream.packet(first + index), CALLER, now)
    return events
