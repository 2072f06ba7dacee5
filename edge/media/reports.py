"""RTCP of one call: what we tell about both directions, and what the caller tells about ours."""

from __future__ import annotations

from typing import NamedTuple

from edge.media.receiver import MediaReceiver
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
from edge.media.sender import MediaSender

REPORT_INTERVAL_S = 5.0
"""RFC 3550 section 6.2: the recommended minimum interval."""
NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900 (NTP) to 1970 (Unix)."""


def to_ntp(unix_s: float) -> int:
    """64-bit NTP time of a Unix time in seconds."""
    return int((unix_s + NTP_EPOCH_S) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


class PeerView(NamedTuple):
    """Our stream as the caller receives it, from its last report.

    Attributes:
        fraction_lost: 0.0 to 1.0, over its last interval.
        cumulative_lost: packets.
        jitter_ms: its interarrival jitter.
        round_trip_ms: of the network, None until a report of ours was answered (RFC 3550 section 6.4.1); where the last
            report tells none, that of the one before.
        packets_sent: by us when the report came.
    """

    fraction_lost: float
    cumulative_lost: int
    jitter_ms: float
    round_trip_ms: float | None
    packets_sent: int = 0

    @property
    def share_lost(self) -> float:
        """Of all packets that we sent, 0.0 to 1.0."""
        return min(1.0, max(0, self.cumulative_lost) / self.packets_sent) if self.packets_sent else 0.0


class RtcpReporter:
    """Builds reports and reads the caller's.

    Attributes:
        peer: see :class:`PeerView`; None until the caller reported about our stream.
        peer_left: the caller's RTCP said BYE. SIP, not this, ends the call.
        defects: RTCP datagrams that do not parse.
    """

    __slots__ = (
        "_cname",
        "_next_at",
        "_receiver",
        "_report_at",
        "_report_ntp",
        "_sender",
        "_sent_before",
        "_wall_offset_s",
        "defects",
        "peer",
        "peer_left",
    )

    def __init__(
        self, receiver: MediaReceiver, sender: MediaSender, *, cname: str, wall_offset_s: float, now: float
    ) -> None:
        """
        Args:
            cname: canonical name, without the caller's data; at most 255 bytes.
            wall_offset_s: Unix time minus ``now``, to give reports a wall clock.
            now: seconds.
        """
        self._receiver = receiver
        self._sender = sender
        self._cname = cname
        self._wall_offset_s = wall_offset_s
        self._report_ntp = 0  # middle 32 bits of the caller's last sender report, and when it came
        self._report_at = 0.0
        self._sent_before = 0
        self._next_at = now + REPORT_INTERVAL_S / 2  # RFC 3550 section 6.2: half the interval at first
        self.peer: PeerView | None = None
        self.peer_left = False
        self.defects = 0

    def next_deadline(self) -> float:
        """When the next report is due, seconds."""
        return self._next_at

    def report(self, now: float, spread: float = 0.5) -> bytes:
        """One compound report with CNAME.

        Args:
            now: seconds.
            spread: random, 0.0 to 1.0: the next interval is 0.5 to 1.5 times 5 s, so that reports of many calls do
                not fall together (RFC 3550 section 6.3.1).
        """
        self._next_at = now + REPORT_INTERVAL_S * (0.5 + spread)
        return build_compound((self._own_report(now), SourceDescription(self._sender.ssrc, self._cname)))

    def goodbye(self, now: float) -> bytes:
        """The last report, with BYE (RFC 3550 section 6.6)."""
        name = SourceDescription(self._sender.ssrc, self._cname)
        return build_compound((self._own_report(now), name, Goodbye((self._sender.ssrc,))))

    def _own_report(self, now: float) -> SenderReport | ReceiverReport:
        state = self._sender.state()
        blocks = self._blocks(now)
        if state.packets == self._sent_before:
            return ReceiverReport(state.ssrc, blocks)
        self._sent_before = state.packets
        ntp = to_ntp(now + self._wall_offset_s)
        return SenderReport(state.ssrc, ntp, state.timestamp, state.packets, state.octets, blocks)

    def _blocks(self, now: float) -> tuple[ReportBlock, ...]:
        ssrc = self._receiver.ssrc
        if ssrc is None:
            return ()
        statistics = self._receiver.statistics
        delay = int((now - self._report_at) * 65536) & 0xFFFFFFFF if self._report_ntp else 0
        return (
            ReportBlock(
                ssrc,
                statistics.take_fraction_lost(),
                statistics.cumulative_lost,
                statistics.highest_sequence,
                int(statistics.jitter),
                self._report_ntp,
                delay,
            ),
        )

    def receive(self, datagram: bytes, now: float) -> list[RtcpPacket]:
        """Read one RTCP datagram from the caller's host; what does not parse is counted and gives nothing."""
        try:
            packets = parse_compound(datagram)
        except RtcpDefect:
            self.defects += 1
            return []
        for packet in packets:
            if isinstance(packet, SenderReport):
                self._report_ntp = packet.ntp >> 16 & 0xFFFFFFFF
                self._report_at = now
            if isinstance(packet, SenderReport | ReceiverReport):
                self._read_blocks(packet.blocks, now)
            elif isinstance(packet, Goodbye):
                self.peer_left = True
        return packets

    def _read_blocks(self, blocks: tuple[ReportBlock, ...], now: float) -> None:
        for block in blocks:
            if block.ssrc != self._sender.ssrc:
                continue
            round_trip = None
            if block.last_report:
                instant = to_ntp(now + self._wall_offset_s) >> 16 & 0xFFFFFFFF
                elapsed = (instant - block.last_report - block.delay) & 0xFFFFFFFF
                # A clock that was set, or a made-up number, gives nonsense near 2**32.
                round_trip = elapsed / 65.536 if elapsed < 60 << 16 else None
            if round_trip is None and self.peer is not None:
                round_trip = self.peer.round_trip_ms
            self.peer = PeerView(
                block.fraction_lost / 256, block.cumulative_lost, block.jitter / 8, round_trip, self._sender.packets
            )
