"""The agent's side of the wire: frames to RTP packets, one per turn to send.

The timestamp advances with every turn whether something is sent or not (RFC 3550 section 5.1), so that silence has
its true length at the caller. Sequence numbers count packets sent.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.media.dtmf import DtmfSender
from edge.media.rtp import MARKER_BIT, PLAIN_FIRST_BYTE, RTP_HEADER
from edge.media.sequence import SEQUENCE_MASK, TIMESTAMP_MASK


class SenderState(NamedTuple):
    """What a sender report says (RFC 3550 section 6.4.1). ``octets`` is payload only; both counters wrap at 32 bits."""

    ssrc: int
    timestamp: int
    packets: int
    octets: int


class MediaSender:
    """Builds the packets of one call's outgoing stream.

    Use, once per turn::

        payload = None if sender.sending_digits else playout.next_frame(sender.media_time)
        datagram = sender.next_datagram(payload)

    Attributes:
        ssrc: 32 bits.
        media_time: ticks since media time 0, of the next packet.
        packets, octets: sent so far; octets of payload.
        fill_silence: send silence frames where there is no payload, so that address translators and session border
            controllers keep the path open. Where False nothing is sent and the next packet carries the marker.
    """

    __slots__ = (
        "_digits",
        "_event_type",
        "_frame_ticks",
        "_payload_type",
        "_sequence",
        "_silence_payload",
        "_silent",
        "_timestamp",
        "fill_silence",
        "media_time",
        "octets",
        "packets",
        "ssrc",
    )

    def __init__(
        self,
        *,
        ssrc: int,
        sequence: int,
        timestamp: int,
        payload_type: int = 0,
        event_type: int | None = None,
        frame_ticks: int = 160,
        silence: int = 0xFF,
    ) -> None:
        """
        Args:
            ssrc, sequence, timestamp: random start values of 32, 16 and 32 bits (RFC 3550 section 5.1).
            payload_type: of the audio.
            event_type: payload type of telephone-event as the caller offered it, None where it did not.
            frame_ticks: ticks (and G.711 bytes) of one packet.
            silence: payload byte of digital silence.
        """
        self.ssrc = ssrc
        self._sequence = sequence & SEQUENCE_MASK
        self._timestamp = timestamp & TIMESTAMP_MASK
        self._frame_ticks = frame_ticks
        self._digits = DtmfSender(frame_ticks)
        self._silent = True
        self.fill_silence = True
        self.media_time = 0
        self.packets = 0
        self.octets = 0
        self.configure(payload_type, event_type, silence)

    def configure(self, payload_type: int, event_type: int | None, silence: int) -> None:
        """Payload types and silence byte from the next packet on (a re-INVITE changed them)."""
        self._payload_type = payload_type
        self._event_type = event_type
        self._silence_payload = bytes((silence,)) * self._frame_ticks

    @property
    def sending_digits(self) -> bool:
        """Whether the next turn belongs to a digit: audio must wait, its payload would not be sent."""
        return self._digits.active

    def send_digits(self, digits: str, *, duration_ms: int = 100, pause_ms: int = 60) -> None:
        """Queue digits; each takes the place of audio while it is sent.

        Raises:
            ValueError: a character that is no telephone key, a press too long, or the caller takes no telephone-event.
        """
        if self._event_type is None:
            raise ValueError("the caller offered no telephone-event payload type, digits cannot be sent as RTP events")
        self._digits.press(digits, duration_ms=duration_ms, pause_ms=pause_ms)

    def next_datagram(self, payload: bytes | None) -> bytes | None:
        """The packet of this turn; advances sequence, timestamp and media time.

        Args:
            payload: one frame of agent audio; None for silence. Not looked at while ``sending_digits``.

        Returns:
            The datagram, None where nothing is to be sent (silence with ``fill_silence`` off).
        """
        timestamp = self._timestamp
        self._timestamp = (timestamp + self._frame_ticks) & TIMESTAMP_MASK
        self.media_time += self._frame_ticks
        if self._digits.active:
            event = self._digits.next_packet(timestamp)
            if event is not None and self._event_type is not None:
                # The marker of the first audio after it: the caller may have lost its place during the event.
                self._silent = True
                marked = self._event_type | MARKER_BIT if event.marker else self._event_type
                return self._packet(marked, event.timestamp, event.payload)
            payload = None
        if payload is None:
            self._silent, first = True, self.packets == 0
            if not self.fill_silence:
                return None
            second = self._payload_type | MARKER_BIT if first else self._payload_type
            return self._packet(second, timestamp, self._silence_payload)
        second = self._payload_type
        if self._silent:
            # RFC 3551 section 4.1: the marker stands on the first packet of a stretch of speech.
            self._silent = False
            second |= MARKER_BIT
        return self._packet(second, timestamp, payload)

    def _packet(self, second: int, timestamp: int, payload: bytes) -> bytes:
        sequence = self._sequence
        self._sequence = (sequence + 1) & SEQUENCE_MASK
        self.packets += 1
        self.octets += len(payload)
        return RTP_HEADER.pack(PLAIN_FIRST_BYTE, second, sequence, timestamp, self.ssrc) + payload

    def skip(self, turns: int) -> None:
        """Turns that passed without sending (the pacer ran late): time goes on, sequence numbers do not."""
        self._timestamp = (self._timestamp + turns * self._frame_ticks) & TIMESTAMP_MASK
        self.media_time += turns * self._frame_ticks

    def state(self) -> SenderState:
        """For a sender report, at the instant of the last turn."""
        timestamp = (self._timestamp - self._frame_ticks) & TIMESTAMP_MASK
        return SenderState(self.ssrc, timestamp, self.packets & TIMESTAMP_MASK, self.octets & TIMESTAMP_MASK)
