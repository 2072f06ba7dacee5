"""What the receiver gives: the caller's frames and keys, in order."""

from __future__ import annotations

from typing import NamedTuple

from edge.media.dtmf import DtmfPressed, DtmfReleased


class ReceivedFrame(NamedTuple):
    """One frame of the caller's audio, as it travelled.

    Attributes:
        payload: G.711 bytes, one per tick; 80, 160, 240 or 480 for 10, 20, 30 or 60 ms.
        payload_type: 0 PCMU, 8 PCMA, or whatever was agreed on.
        media_time: ticks since media time 0, never running back; a hole where packets are missing or unsent.
        lost_before: packets lost directly before this frame.
        resync: the sender's SSRC or clock is another one from this frame on.
    """

    payload: bytes
    payload_type: int
    media_time: int
    lost_before: int
    resync: bool


class RtcpReceived(NamedTuple):
    """An RTCP packet from the caller's host came on the RTP port (RFC 5761); for ``reports``."""

    datagram: bytes


MediaEvent = ReceivedFrame | DtmfPressed | DtmfReleased | RtcpReceived
