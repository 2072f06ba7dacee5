"""The caller's side of the wire: datagrams in, frames in order on the call's media time and key presses out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from edge.media.counts import ReceiveCounts, Rejection
from edge.media.dtmf import DtmfReceiver
from edge.media.frames import MediaEvent, ReceivedFrame, RtcpReceived
from edge.media.latch import LATCH_WINDOW_S, Address, SourceLatch, Verdict
from edge.media.reorder import Arrival, Released, ReorderBuffer
from edge.media.rtp import (
    MAX_DATAGRAM_BYTES,
    PLAIN_FIRST_BYTE,
    RTP_HEADER,
    RTP_HEADER_BYTES,
    DatagramKind,
    RtpDefect,
    RtpPacket,
    classify,
    parse_packet,
)
from edge.media.sequence import (
    SEQUENCE_MASK,
    TIMESTAMP_MASK,
    extend_sequence,
    sequence_add,
    timestamp_difference,
)
from edge.media.statistics import ReceiveStatistics
from edge.media.timeline import MAX_AHEAD_TICKS, MediaTimeline

COMFORT_NOISE_TYPE = 13
"""RFC 3389 section 4."""


class _Slot(NamedTuple):
    """A packet's place in the sequence; ``payload`` is None where the packet carries no frame."""

    payload: bytes | None
    payload_type: int
    timestamp: int
    marker: bool
    arrival: float


class _Newcomer(NamedTuple):
    """One packet of what may be a new stream: another SSRC, or numbers far off."""

    ssrc: int
    sequence: int
    slot: _Slot


class MediaReceiver:
    """Receives one call's RTP.

    Use: ``expect`` with the SDP's address, ``start`` at the answer, ``receive`` for each datagram, and
    ``handle_deadline`` when ``next_deadline`` has come (or at every turn of the pacer). ``receive`` gives what is due
    by then too.

    Attributes:
        counts: see :class:`ReceiveCounts`.
        statistics: loss and jitter for reports.
        ssrc: of the caller's audio, None before its first packet.
    """

    __slots__ = (
        "_answered",
        "_audio_types",
        "_dtmf",
        "_event_ssrc",
        "_event_type",
        "_heard_at",
        "_held",
        "_latch",
        "_lost_pending",
        "_newcomer",
        "_order",
        "_timeline",
        "counts",
        "ssrc",
        "statistics",
    )

    def __init__(
        self,
        payload_types: Iterable[int],
        event_type: int | None = None,
        *,
        reorder_wait_ms: int = 40,
        latch_window_s: float = LATCH_WINDOW_S,
    ) -> None:
        """
        Args:
            payload_types: of audio, as agreed on in the SDP.
            event_type: of telephone-event, None where not agreed on.
            reorder_wait_ms: how long a packet that came early waits for the ones before it.
            latch_window_s: how long after ``expect`` another source may be latched.
        """
        self._latch = SourceLatch(latch_window_s)
        self._order: ReorderBuffer[_Slot] = ReorderBuffer(reorder_wait_ms / 1000)
        self._timeline = MediaTimeline(0.0)
        self._answered = False
        self._dtmf = DtmfReceiver()
        self._event_ssrc: int | None = None
        self._newcomer: _Newcomer | None = None
        self._lost_pending = 0
        self._heard_at = 0.0
        self._held = False
        self.counts = ReceiveCounts()
        self.statistics = ReceiveStatistics()
        self.ssrc: int | None = None
        self.accept(payload_types, event_type)

    # The call's side: what the SDP and the dialog say.

    def accept(self, payload_types: Iterable[int], event_type: int | None) -> None:
        """Payload types from now on (at the answer, and where a re-INVITE changed them)."""
        self._audio_types = frozenset(payload_types)
        self._event_type = event_type

    def expect(self, address: Address, now: float) -> None:
        """The SDP's address for media; opens the latch again (RFC 3264 section 8: a re-INVITE may move it)."""
        self._latch.expect(address, now)

    def start(self, now: float) -> None:
        """The call was answered: ``now`` is media time 0. Packets before it are refused."""
        self._timeline = MediaTimeline(now)
        self._answered = True
        self._heard_at = now

    def hold(self, held: bool, now: float) -> None:
        """The caller put the call on hold, or took it back: silence is expected, and its clock may stand still."""
        if held != self._held:
            self._held = held
            self._heard_at = now
            self._timeline.expect_pause()

    @property
    def target(self) -> Address | None:
        """Where to send media to, None before ``expect``."""
        return self._latch.target

    @property
    def lost(self) -> int:
        """Packets that never came, as far as known."""
        return self._order.lost

    @property
    def holes(self) -> int:
        """How often packets were given up, however many at a time."""
        return self._order.holes

    def is_peer_host(self, source: Address) -> bool:
        """Whether RTCP from there is to be believed."""
        return self._latch.is_peer_host(source)

    def media_time_at(self, now: float) -> int:
        """Media time of an instant, ticks."""
        return self._timeline.arrival_media(now)

    def silent_for(self, now: float) -> float:
        """Seconds since the last valid packet (or the answer); 0 while on hold or not answered."""
        return 0.0 if self._held or not self._answered else now - self._heard_at

    # The wire's side.

    def receive(self, datagram: bytes, source: Address, now: float) -> list[MediaEvent]:
        """Take one datagram from the RTP port; gives what is due, in order. Never raises, whatever the bytes."""
        if RTP_HEADER_BYTES < len(datagram) <= MAX_DATAGRAM_BYTES:
            order = self._order
            timeline = self._timeline
            first, second, sequence, timestamp, ssrc = RTP_HEADER.unpack_from(datagram)
            # Nearly every packet is the next one of a plain stream. All others go the long way round.
            if (
                first == PLAIN_FIRST_BYTE
                and ssrc == self.ssrc
                and timestamp == timeline.next_timestamp
                and sequence == order.next & SEQUENCE_MASK
                and source == self._latch.current
                and second in self._audio_types  # hence without marker
                and not (order.held or timeline.watching or self._newcomer or self._latch.waiting)
            ):
                self._heard_at = now
                self.statistics.observe(order.next, timestamp, now)
                order.next += 1
                payload = datagram[RTP_HEADER_BYTES:]
                media_time = timeline.next_media
                timeline.next_media = media_time + len(payload)
                timeline.next_timestamp = (timestamp + len(payload)) & TIMESTAMP_MASK
                lost, self._lost_pending = self._lost_pending, 0
                self.counts.frames += 1
                return [ReceivedFrame(payload, second, media_time, lost, False)]
        events: list[MediaEvent] = []
        self._release(self._order.expire(now), events)
        rejection = self._admit(datagram, source, now, events)
        if rejection is not None:
            self.counts.rejected[rejection] += 1
        return events

    def next_deadline(self) -> float | None:
        """When ``handle_deadline`` has something to do (seconds): a packet waited long enough, a key's end was lost."""
        waiting = self._order.next_deadline()
        pressed = self._dtmf.next_deadline()
        if waiting is None or pressed is None:
            return pressed if waiting is None else waiting
        return min(waiting, pressed)

    def handle_deadline(self, now: float) -> list[MediaEvent]:
        """What is due without a further packet."""
        events: list[MediaEvent] = []
        if self._order.held:
            self._release(self._order.expire(now), events)
        events.extend(self._dtmf.handle_deadline(now))
        return events

    def finish(self) -> list[MediaEvent]:
        """The call is over: everything that still waits."""
        events: list[MediaEvent] = []
        self._release(self._order.drain(), events)
        events.extend(self._dtmf.restart())
        return events

    # The long way round.

    def _admit(self, datagram: bytes, source: Address, now: float, events: list[MediaEvent]) -> Rejection | None:
        """Let in what is the caller's; gives the reason where it is not."""
        if not self._answered:
            return Rejection.EARLY
        if self._latch.is_closed_to(source, now) and not self._latch.is_peer_host(source):
            return Rejection.STRANGER  # cheaply: a flood from elsewhere must not cost what the caller's packets cost
        if len(datagram) > MAX_DATAGRAM_BYTES:
            return Rejection.OVERSIZE
        kind = classify(datagram)
        if kind is DatagramKind.RTCP:
            if not self._latch.is_peer_host(source):
                return Rejection.STRANGER
            self.counts.rtcp += 1
            events.append(RtcpReceived(datagram))
            return None
        if kind is not DatagramKind.RTP or len(datagram) < RTP_HEADER_BYTES:
            return Rejection.NOT_RTP
        try:
            packet = parse_packet(datagram)
        except RtpDefect:
            return Rejection.MALFORMED
        if not self._is_agreed(packet.payload_type):
            if not self._latch.knows(source):
                return Rejection.STRANGER
            if packet.ssrc == self.ssrc:
                self._place(packet.sequence, self._slot(packet, None, now), events)
            return Rejection.PAYLOAD_TYPE
        return self._judge(packet, datagram, source, now, events)

    def _is_agreed(self, payload_type: int) -> bool:
        return payload_type in self._audio_types or payload_type in (self._event_type, COMFORT_NOISE_TYPE)

    def _judge(
        self, packet: RtpPacket, datagram: bytes, source: Address, now: float, events: list[MediaEvent]
    ) -> Rejection | None:
        latch = self._latch
        refused = latch.strangers
        verdict = latch.judge(datagram, source, packet.ssrc, packet.sequence, now)
        self.counts.rejected[Rejection.STRANGER] += latch.strangers - refused
        if verdict is Verdict.ACCEPTED:
            self._take(packet, now, events)
        elif verdict is Verdict.LATCHED:
            for waited, arrival in latch.take_waiting():
                self._take(parse_packet(waited), arrival, events)
        return None

    def _take(self, packet: RtpPacket, now: float, events: list[MediaEvent]) -> None:
        """A valid packet of the caller's."""
        self._heard_at = now
        payload: bytes | None = None
        if packet.payload_type == self._event_type:
            self._telephone_event(packet, now, events)
        elif packet.payload_type in self._audio_types:
            payload = packet.payload or None  # an empty packet only keeps the path open (RFC 6263 section 4.6)
        else:
            self.counts.comfort_noise += 1
        slot = self._slot(packet, payload, now)
        if packet.ssrc == self.ssrc:
            self._place(packet.sequence, slot, events)
        elif payload is None:
            return  # keys and comfort noise with an SSRC of their own do not move the audio's count
        elif self.ssrc is None:
            self._begin(packet.ssrc, packet.sequence)
            self._place(packet.sequence, slot, events)
        else:
            self._meet(packet.ssrc, packet.sequence, slot, events)

    @staticmethod
    def _slot(packet: RtpPacket, payload: bytes | None, now: float) -> _Slot:
        return _Slot(payload, packet.payload_type, packet.timestamp, packet.marker, now)

    def _telephone_event(self, packet: RtpPacket, now: float, events: list[MediaEvent]) -> None:
        self.counts.events += 1
        if packet.ssrc != self._event_ssrc:
            self._event_ssrc = packet.ssrc
            events.extend(self._dtmf.restart())
        same_clock = packet.ssrc == self.ssrc
        media_time = self._timeline.event_media(packet.timestamp if same_clock else None, now)
        events.extend(self._dtmf.receive(packet.payload, packet.timestamp, media_time, now))

    def _begin(self, ssrc: int, sequence: int) -> None:
        self.ssrc = ssrc
        self.statistics.restart()
        self._order.start(sequence)

    def _place(self, sequence: int, slot: _Slot, events: list[MediaEvent]) -> None:
        """Put a packet of the current stream where it belongs."""
        order = self._order
        extended = extend_sequence(sequence, order.next)
        arrival = order.classify(extended)
        if arrival in (Arrival.LATE, Arrival.DUPLICATE) and self._is_restarted(extended, slot):
            arrival = Arrival.FAR
        if arrival is Arrival.FAR:
            self._meet(self.ssrc, sequence, slot, events)
            return
        self._forget_newcomer()
        if arrival is Arrival.DUPLICATE:
            self.counts.duplicate += 1
        elif extended < self.statistics.highest:
            self.counts.reordered += 1
        self.statistics.observe(extended, slot.timestamp if slot.payload is not None else None, slot.arrival)
        if arrival is Arrival.NEXT:
            self._release(order.take(slot), events)
        elif arrival is Arrival.EARLY:
            self._release(order.hold(extended, slot, slot.arrival), events)
        elif arrival is Arrival.LATE:
            self.counts.late += 1
            order.found(extended)

    def _is_restarted(self, extended: int, slot: _Slot) -> bool:
        """Whether a packet from behind has a timestamp that never was there: the sender began anew near its count."""
        if slot.payload is None:
            return False
        timeline = self._timeline
        there = timeline.next_timestamp + (extended - self._order.next) * len(slot.payload)
        return abs(timestamp_difference(slot.timestamp, there)) > MAX_AHEAD_TICKS

    def _meet(self, ssrc: int | None, sequence: int, slot: _Slot, events: list[MediaEvent]) -> None:
        """A packet of what may be a new stream: believed when a second one follows it directly (RFC 3550 A.1)."""
        first = self._newcomer
        if slot.payload is None or ssrc is None:
            return
        if first is None or first.ssrc != ssrc or sequence != sequence_add(first.sequence, 1):
            self._forget_newcomer()
            self._newcomer = _Newcomer(ssrc, sequence, slot)
            return
        self._newcomer = None
        self._release(self._order.drain(), events)
        if ssrc != self.ssrc:
            self.counts.ssrc_changes += 1
        else:
            self.counts.restarts += 1
        self._timeline.restart()
        self._begin(ssrc, first.sequence)
        self._place(first.sequence, first.slot, events)
        self._place(sequence, slot, events)

    def _forget_newcomer(self) -> None:
        if self._newcomer is not None:
            self._newcomer = None
            self.counts.rejected[Rejection.UNSETTLED] += 1

    def _release(self, released: list[Released[_Slot]], events: list[MediaEvent]) -> None:
        for slot, lost in released:
            self._lost_pending += lost
            if slot.payload is None:
                continue
            media_time, resync = self._timeline.locate(
                slot.timestamp, len(slot.payload), marker=slot.marker, arrival=slot.arrival
            )
            self.counts.resyncs += resync
            self.counts.frames += 1
            lost_before, self._lost_pending = self._lost_pending, 0
            events.append(ReceivedFrame(slot.payload, slot.payload_type, media_time, lost_before, resync))
