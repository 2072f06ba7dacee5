"""Offer and answer (RFC 3264, RFC 6337) for one audio stream of G.711 and telephone-event."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge.sip.errors import NotAcceptable
from edge.sip.sdp import (
    STATIC_PAYLOADS,
    Direction,
    Media,
    RtpMap,
    SessionDescription,
    build_sdp,
    connection_of,
    refused,
)

TELEPHONE_EVENT = "TELEPHONE-EVENT"
OFFERED_EVENT_PAYLOAD_TYPE = 101
"""The usual number for telephone-event in our own offers; answers keep the offerer's."""
KEYS = "0-15"
"""RFC 4733 section 3.2: events 0-9, *, #, A-D."""

WARNING_INCOMPATIBLE_TRANSPORT = 302
WARNING_MEDIA_TYPE = 304
WARNING_INCOMPATIBLE_FORMAT = 305
"""Warning codes of RFC 3261 section 20.43."""

_UNSPECIFIED = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMedia:
    """What this side can do for one call."""

    address: str
    """Our RTP address, IPv4 or IPv6."""
    port: int
    """Our RTP port."""
    session_id: int
    """Number for o=, the same for the whole call (RFC 8866 section 5.2)."""
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    """Names of static payload types; the offerer's preference wins among them."""
    telephone_event: bool = True
    frame_ms: int = 20
    """Our packet time where the peer asks for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiatedMedia:
    """What both sides agreed on."""

    codec: str
    """PCMU or PCMA."""
    payload_type: int
    """Payload type for `codec`, both ways."""
    telephone_event_payload_type: int | None
    """Payload type for RFC 4733 events, both ways; None: the peer does not take them."""
    remote_address: str
    """Where our RTP goes; meaningless while `held_by_peer` came as 0.0.0.0."""
    remote_port: int
    direction: Direction
    """Seen by us: SENDRECV in a normal call, RECVONLY or INACTIVE while the peer holds."""
    frame_ms: int
    """Packet time that the peer asked for, else ours."""
    clock_rate_hz: int = 8000

    @property
    def held_by_peer(self) -> bool:
        """Whether we must not send: the peer put us on hold."""
        return self.direction in (Direction.RECVONLY, Direction.INACTIVE)


class OfferAnswer:
    """The session description state of one call: remembers its version and what was agreed."""

    def __init__(self, local: LocalMedia) -> None:
        self.local = local
        self.media: NegotiatedMedia | None = None
        """What was agreed last; None before the first answer."""
        self._version = 0
        self._last: SessionDescription | None = None

    def answer(self, offer: SessionDescription) -> bytes:
        """Our answer to an offer, body of a 200 or of an ACK.

        Raises:
            NotAcceptable: no audio stream, no codec in common, or encryption without a key.
        """
        chosen = next((media for media in offer.media if media.kind == "audio" and media.port), None)
        if chosen is None:
            raise NotAcceptable(WARNING_MEDIA_TYPE, "no audio stream offered")
        if not _plain_rtp(chosen):
            raise NotAcceptable(WARNING_INCOMPATIBLE_TRANSPORT, f"cannot take {chosen.protocol} without a key")
        self.media = self._agree(chosen)
        streams = tuple(self._stream(media) if media is chosen else refused(media) for media in offer.media)
        return self._written(streams)

    def offer(self, direction: Direction = Direction.SENDRECV) -> bytes:
        """An offer of ours: the first one, one that a peer's empty re-INVITE asks for, or hold and resume.

        Hold is SENDONLY (RFC 3264 section 8.4). After the first agreement only the agreed codec is offered.
        """
        if self.media is not None and self._last is not None:
            agreed = replace(self.media, direction=direction)
            index = next(index for index, media in enumerate(self._last.media) if media.port)
            streams = list(self._last.media)
            streams[index] = self._audio(agreed, self._last.media[index].protocol)
            return self._written(tuple(streams))
        maps = [
            STATIC_PAYLOADS[number]
            for name in self.local.codecs
            for number in STATIC_PAYLOADS
            if STATIC_PAYLOADS[number].name == name
        ]
        event = OFFERED_EVENT_PAYLOAD_TYPE if self.local.telephone_event else None
        return self._written((self._line(maps, event, direction, self.local.frame_ms, "RTP/AVP"),))

    def accept(self, answer: SessionDescription) -> NegotiatedMedia:
        """Take the peer's answer to our offer.

        Raises:
            NotAcceptable: the answer refuses the stream or names none of the codecs offered.
        """
        chosen = next((media for media in answer.media if media.kind == "audio" and media.port), None)
        if chosen is None:
            raise NotAcceptable(WARNING_MEDIA_TYPE, "the peer refused the audio stream")
        self.media = self._agree(chosen)
        return self.media

    def _agree(self, media: Media) -> NegotiatedMedia:
        payloads = [int(text) for text in media.formats if text.isascii() and text.isdigit() and len(text) < 4]
        maps = [media.rtpmaps[number] for number in payloads if number in media.rtpmaps]
        codec = next((each for each in maps if each.name in self.local.codecs and each.clock_rate_hz == 8000), None)
        if codec is None:
            raise NotAcceptable(WARNING_INCOMPATIBLE_FORMAT, "no codec in common")
        event = next((each for each in maps if each.name == TELEPHONE_EVENT and each.clock_rate_hz == 8000), None)
        direction = media.direction.mirrored
        if media.address in _UNSPECIFIED and direction in (Direction.SENDRECV, Direction.SENDONLY):
            # RFC 3264 section 8.4: the RFC 2543 way to put on hold. We may still listen, and must not send.
            direction = Direction.RECVONLY if direction is Direction.SENDRECV else Direction.INACTIVE
        return NegotiatedMedia(
            codec=codec.name,
            payload_type=codec.payload_type,
            telephone_event_payload_type=event.payload_type if event and self.local.telephone_event else None,
            remote_address=media.address,
            remote_port=media.port,
            direction=direction,
            frame_ms=media.ptime_ms or self.local.frame_ms,
        )

    def _stream(self, offered: Media) -> Media:
        assert self.media is not None
        return self._audio(self.media, offered.protocol)

    def _audio(self, agreed: NegotiatedMedia, protocol: str) -> Media:
        codec = RtpMap(agreed.payload_type, agreed.codec, agreed.clock_rate_hz)
        event = agreed.telephone_event_payload_type
        return self._line([codec], event, agreed.direction, agreed.frame_ms, protocol)

    def _line(self, maps: list[RtpMap], event: int | None, direction: Direction, frame_ms: int, protocol: str) -> Media:
        formats = [str(each.payload_type) for each in maps]
        attributes = [f"rtpmap:{each.payload_type} {each.name}/{each.clock_rate_hz}" for each in maps]
        if event is not None:
            formats.append(str(event))
            attributes += [f"rtpmap:{event} telephone-event/8000", f"fmtp:{event} {KEYS}"]
        attributes += [f"ptime:{frame_ms}", direction.value]
        return Media(
            kind="audio",
            port=self.local.port,
            protocol=protocol,
            formats=tuple(formats),
            address=self.local.address,
            direction=direction,
            rtpmaps={},
            attributes=tuple(attributes),
        )

    def _written(self, streams: tuple[Media, ...]) -> bytes:
        """RFC 3264 section 8: the version in o= grows by one exactly when the description changes."""
        address = self.local.address
        if self._last is None or self._last.media != streams:
            self._version += 1
        origin = f"- {self.local.session_id} {self._version} {connection_of(address)}"
        self._last = SessionDescription(origin, address, streams, ())
        return build_sdp(self._last)


def _plain_rtp(media: Media) -> bool:
    """RTP/AVP, or RTP/AVPF whose feedback we simply never send (RFC 4585 section 4). SRTP needs keys."""
    return media.protocol in ("RTP/AVP", "RTP/AVPF")
