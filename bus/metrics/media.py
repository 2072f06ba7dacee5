"""RTP and the clock that sends it, as the edge counts them: once a second and at the end of a call, never by packet."""

from __future__ import annotations

from bus.metrics.registry import EDGE, Label, counter, distribution, histogram

DIRECTIONS = ("in", "out")
MOS_BUCKETS = (1.5, 2.0, 2.5, 3.0, 3.3, 3.6, 3.8, 4.0, 4.1, 4.2, 4.3, 4.4)
JITTER_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2)
PACER_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06)
"""The bounds that the wheel counts in (``edge.media.wheel``)."""
DIRECTION = Label("direction", DIRECTIONS)

PACKETS = counter("callbus_rtp_packets_total", "RTP packets received (in) and sent (out)", DIRECTION, by=(EDGE,))
HEARD = counter(
    "callbus_caller_audio_seconds_total",
    "Seconds of answered calls that are not on hold. no: nothing has come from the caller for 10 s after the answer, "
    "or for a minute in mid-call, without comfort noise; yes: all else, also pauses of telephones that send nothing in "
    "silence (DTX)",
    Label("heard", ("yes", "no")),
    by=(EDGE,),
)
LOST = counter("callbus_rtp_lost_total", "RTP packets of callers that never came", by=(EDGE,))
LATE = counter("callbus_rtp_late_total", "RTP packets that came after they were given up", by=(EDGE,))
DUPLICATE = counter("callbus_rtp_duplicate_total", "RTP packets that came twice", by=(EDGE,))
REORDERED = counter("callbus_rtp_reordered_total", "RTP packets that came before an earlier one", by=(EDGE,))
REJECTED = counter(
    "callbus_rtp_rejected_total",
    "Datagrams on an RTP port that were refused: a stranger's, not RTP, a payload type nobody agreed on",
    by=(EDGE,),
)
JITTER = histogram(
    "callbus_rtp_jitter_seconds",
    "Interarrival jitter (RFC 3550) of a caller's RTP, every 10 s of a call and at its end",
    buckets=JITTER_BUCKETS_S,
    by=(EDGE,),
)
MOS = histogram(
    "callbus_call_mos",
    "Estimated MOS of a call by the E-model (ITU-T G.107), at its end: of the caller's voice as it arrived (in), and "
    "of the agent's as the caller's telephone reports it (out; only where it sends RTCP)",
    DIRECTION,
    buckets=MOS_BUCKETS,
    by=(EDGE,),
)
PACER_LATE = distribution(
    "callbus_pacer_late_seconds", "Turns to send a packet, by how late they came", buckets=PACER_BUCKETS_S, by=(EDGE,)
)
PACER_SKIPPED = counter(
    "callbus_pacer_skipped_total", "Turns to send a packet that were given up, being over 60 ms late", by=(EDGE,)
)
