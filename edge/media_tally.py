"""What became of one call's RTP: into the figures of the process as it goes on, and into the call's record at its end.

The figures are told once a second and at the end, out of counts that the media keeps anyway: nothing is done by packet.
"""

from __future__ import annotations

from bus.metrics import media as figures
from edge.media import quality
from edge.media.ledger import PlayoutCounts
from edge.media.receiver import MediaReceiver
from edge.media.reports import PeerView
from edge.media.sender import MediaSender
from schemas.call import MediaCounts

JITTER_EVERY = 10
"""Seconds between two observations of a call's jitter."""
UNHEARD_S = 10.0
"""A telephone that sends nothing in silence (DTX) may wait so long for its user's first word."""
PAUSE_S = 60.0
"""Nor does it send while its user listens; longer than most answers last. After comfort noise (RFC 3389) it may pause
for as long as it likes."""
FEW_PACKETS = 50
"""With less than a second of sound there is nothing to judge."""


def hears(packets: int, comfort_noise: int, silent_s: float) -> bool | None:
    """Whether a caller's audio comes through; None: too early to say.

    Args:
        packets: of the call so far, of any kind.
        comfort_noise: of these.
        silent_s: since the last of them, or since the answer.
    """
    if packets:
        return comfort_noise > 0 or silent_s < PAUSE_S
    return None if silent_s < UNHEARD_S else False


class MediaTally:
    """One call's part of the process's figures."""

    def __init__(self, receiver: MediaReceiver, sender: MediaSender) -> None:
        self._receiver = receiver
        self._sender = sender
        self._told = [0] * len(_COUNTERS)
        self._seconds = 0
        self._heard = 0

    def tell_heard(self, silent_s: float) -> None:
        """Count a second of a call that is not on hold; ``silent_s`` as in :func:`hears`."""
        counts = self._receiver.counts
        heard = hears(counts.packets, counts.comfort_noise, silent_s)
        if heard is not None:
            _HEARD[heard].inc()

    def tell(self, *, last: bool = False) -> None:
        """Add what came since the last time; called about once a second. ``last``: the call is over."""
        receiver = self._receiver
        counts = receiver.counts
        now = (
            counts.packets,
            self._sender.packets,
            receiver.lost,
            counts.late,
            counts.duplicate,
            counts.reordered,
            counts.rejected_total,
        )
        told = self._told
        for place, value in enumerate(now):
            # What was lost and came after all makes the count smaller; a figure never goes back.
            if value > told[place]:
                _COUNTERS[place].inc(value - told[place])
                told[place] = value
        self._seconds += 1
        if last or self._seconds % JITTER_EVERY == 0:
            if counts.packets > self._heard:
                figures.JITTER.observe(receiver.statistics.jitter_ms / 1000)
            self._heard = counts.packets


_COUNTERS = (
    figures.PACKETS.child({"direction": "in"}),
    figures.PACKETS.child({"direction": "out"}),
    figures.LOST,
    figures.LATE,
    figures.DUPLICATE,
    figures.REORDERED,
    figures.REJECTED,
)


_HEARD = {True: figures.HEARD.child({"heard": "yes"}), False: figures.HEARD.child({"heard": "no"})}


def counts_of(
    receiver: MediaReceiver, sender: MediaSender, playout: PlayoutCounts, peer: PeerView | None, late_max_ms: float
) -> MediaCounts:
    """The counts of a whole call, and how it sounded. ``peer``: what the caller's telephone reported of our stream."""
    counts, jitter_ms = receiver.counts, receiver.statistics.jitter_ms
    gone = max(0, receiver.lost) + counts.late
    expected = counts.packets - counts.duplicate + max(0, receiver.lost)
    share = gone / expected if expected else 0.0
    round_trip_ms = peer.round_trip_ms if peer is not None else None
    mos_in = mos_out = None
    if counts.packets >= FEW_PACKETS:
        loss = quality.Loss(share, quality.burst_ratio(share, gone, receiver.holes))
        mos_in = round(quality.incoming_mos(loss, round_trip_ms), 2)
    if peer is not None and peer.packets_sent >= FEW_PACKETS:
        mos_out = round(quality.outgoing_mos(quality.Loss(peer.share_lost), round_trip_ms), 2)
    return MediaCounts(
        packets_received=counts.packets,
        packets_sent=sender.packets,
        lost=max(0, receiver.lost),
        late=counts.late,
        duplicate=counts.duplicate,
        reordered=counts.reordered,
        rejected=counts.rejected_total,
        ssrc_changes=counts.ssrc_changes,
        jitter_ms=round(jitter_ms, 3),
        pacer_late_max_ms=round(late_max_ms, 3),
        frames_from_agent=playout.offered,
        frames_dropped_stale=playout.stale + playout.duplicate,
        loss_share=round(share, 5),
        mos_in=mos_in,
        mos_out=mos_out,
        out_loss_share=round(peer.share_lost, 5) if peer is not None else None,
        out_jitter_ms=round(peer.jitter_ms, 3) if peer is not None else None,
        round_trip_ms=round(round_trip_ms, 1) if round_trip_ms is not None else None,
    )


def observe_quality(counts: MediaCounts) -> None:
    """The call is over: its scores."""
    for direction, score in (("in", counts.mos_in), ("out", counts.mos_out)):
        if score is not None:
            figures.MOS.observe(score, direction=direction)
