"""Session descriptions and what two sides agree on (RFC 8866, RFC 3264, RFC 6337)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.sip.errors import NotAcceptable, SdpDefect
from edge.sip.negotiation import LocalMedia, NegotiatedMedia, OfferAnswer
from edge.sip.sdp import Direction, SessionDescription, parse_sdp
from tests.fakes.sip_peer import OFFER

pytestmark = pytest.mark.unit

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


def offer(media: str, head: str = HEAD) -> SessionDescription:
    return parse_sdp((head + media.replace("\n", "\r\n")).encode())


def session(**changes: object) -> OfferAnswer:
    settings: dict[str, object] = {"address": "192.0.2.2", "port": 40_000, "session_id": 77}
    return OfferAnswer(LocalMedia(**{**settings, **changes}))  # type: ignore[arg-type]


def agreed(media: str, **changes: object) -> NegotiatedMedia:
    state = session(**changes)
    state.answer(offer(media))
    assert state.media is not None
    return state.media


def lines(body: bytes) -> list[str]:
    return body.decode().split("\r\n")[:-1]


class TestAnswer:
    def test_whole_text(self) -> None:
        assert lines(session().answer(parse_sdp(OFFER))) == [
            "v=0",
            "o=- 77 1 IN IP4 192.0.2.2",
            "s=-",
            "c=IN IP4 192.0.2.2",
            "t=0 0",
            "m=audio 40000 RTP/AVP 0 101",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=ptime:20",
            "a=sendrecv",
        ]

    def test_what_was_agreed(self) -> None:
        assert agreed(
            "m=audio 6000 RTP/AVP 8 0 101\na=rtpmap:101 telephone-event/8000\na=ptime:30\n"
        ) == NegotiatedMedia(
            codec="PCMA",
            payload_type=8,
            telephone_event_payload_type=101,
            remote_address="192.0.2.1",
            remote_port=6000,
            direction=Direction.SENDRECV,
            frame_ms=30,
        )

    def test_codec_is_chosen_by_name_not_by_number(self) -> None:
        media = agreed("m=audio 6000 RTP/AVP 0 97\na=rtpmap:0 iLBC/8000\na=rtpmap:97 pcma/8000/1\n")
        assert (media.codec, media.payload_type) == ("PCMA", 97)

    def test_static_payload_types_need_no_rtpmap(self) -> None:
        assert agreed("m=audio 6000 RTP/AVP 18 3 8\n").codec == "PCMA"

    def test_only_what_the_call_allows(self) -> None:
        assert agreed("m=audio 6000 RTP/AVP 0 8\n", codecs=("PCMA",)).codec == "PCMA"

    @pytest.mark.parametrize("payload_type", [96, 97, 101, 127])
    def test_telephone_event_keeps_the_offered_number(self, payload_type: int) -> None:
        state = session()
        text = state.answer(
            offer(f"m=audio 6000 RTP/AVP 0 {payload_type}\na=rtpmap:{payload_type} telephone-event/8000\n")
        )
        assert f"m=audio 40000 RTP/AVP 0 {payload_type}" in lines(text)
        assert f"a=fmtp:{payload_type} 0-15" in lines(text)

    def test_telephone_event_not_offered_or_not_wanted(self) -> None:
        assert agreed("m=audio 6000 RTP/AVP 0\n").telephone_event_payload_type is None
        text = "m=audio 6000 RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\n"
        assert agreed(text, telephone_event=False).telephone_event_payload_type is None
        # At 48 kHz it belongs to another codec.
        wide = "m=audio 6000 RTP/AVP 0 101\na=rtpmap:101 telephone-event/48000\n"
        assert agreed(wide).telephone_event_payload_type is None

    @pytest.mark.parametrize(
        ("ptime", "frame_ms"),
        [("10", 10), ("20", 20), ("30", 30), ("60", 60), ("20.0", 20), ("0", 20), ("99999", 20), ("x", 20)],
    )
    def test_ptime(self, ptime: str, frame_ms: int) -> None:
        assert agreed(f"m=audio 6000 RTP/AVP 0\na=ptime:{ptime}\n").frame_ms == frame_ms

    def test_avpf_is_answered_as_offered(self) -> None:
        assert "m=audio 40000 RTP/AVPF 0" in lines(session().answer(offer("m=audio 6000 RTP/AVPF 0\n")))

    def test_several_streams_keep_their_order_and_the_others_get_port_0(self) -> None:
        """RFC 3264 section 6."""
        media = (
            "m=video 3227 RTP/AVP 31\na=rtpmap:31 LPC\nm=audio 6000 RTP/AVP 0\n"
            "m=audio 6002 RTP/AVP 0\nm=image 0 udptl t38\n"
        )
        assert [line for line in lines(session().answer(offer(media))) if line.startswith("m=")] == [
            "m=video 0 RTP/AVP 31",
            "m=audio 40000 RTP/AVP 0",
            "m=audio 0 RTP/AVP 0",
            "m=image 0 udptl t38".replace("udptl", "UDPTL"),
        ]

    def test_own_address_of_a_stream_and_ipv6(self) -> None:
        media = agreed("m=audio 6000 RTP/AVP 0\nc=IN IP6 2001:db8::1\n")
        assert media.remote_address == "2001:db8::1"
        text = lines(session(address="2001:db8::2").answer(offer("m=audio 6000 RTP/AVP 0\n")))
        assert "c=IN IP6 2001:db8::2" in text
        assert "o=- 77 1 IN IP6 2001:db8::2" in text

    def test_address_with_ttl(self) -> None:
        assert agreed("m=audio 6000/2 RTP/AVP 0\nc=IN IP4 192.0.2.7/127/2\n").remote_address == "192.0.2.7"

    @pytest.mark.parametrize(
        ("media", "warning"),
        [
            ("m=video 3227 RTP/AVP 31\n", 304),
            ("m=audio 0 RTP/AVP 0\n", 304),
            ("", 304),
            ("m=audio 6000 RTP/AVP 18 9\n", 305),
            ("m=audio 6000 RTP/AVP 96\na=rtpmap:96 opus/48000/2\n", 305),
            ("m=audio 6000 RTP/AVP 96\na=rtpmap:96 PCMU/16000\n", 305),
            ("m=audio 6000 RTP/AVP x 999 ²\n", 305),
            ("m=audio 6000 RTP/SAVP 0\n", 302),
            ("m=audio 6000 UDP/TLS/RTP/SAVPF 0\n", 302),
        ],
    )
    def test_nothing_in_common_is_488(self, media: str, warning: int) -> None:
        with pytest.raises(NotAcceptable) as refused:
            session().answer(offer(media))
        assert (refused.value.status, refused.value.warning_code) == (488, warning)


class TestHold:
    @pytest.mark.parametrize(
        ("theirs", "ours", "held"),
        [("sendrecv", "sendrecv", False), ("sendonly", "recvonly", True), ("inactive", "inactive", True),
         ("recvonly", "sendonly", False)],
    )  # fmt: skip
    def test_directions_are_mirrored(self, theirs: str, ours: str, held: bool) -> None:
        """RFC 3264 section 6.1 and 8.4."""
        state = session()
        assert f"a={ours}" in lines(state.answer(offer(f"m=audio 6000 RTP/AVP 0\na={theirs}\n")))
        assert state.media is not None
        assert state.media.held_by_peer is held

    def test_direction_of_the_session_counts_where_the_stream_has_none(self) -> None:
        state = session()
        assert "a=recvonly" in lines(state.answer(offer("m=audio 6000 RTP/AVP 0\n", HEAD + "a=sendonly\r\n")))
        assert "a=sendrecv" in lines(
            state.answer(offer("m=audio 6000 RTP/AVP 0\na=sendrecv\n", HEAD + "a=sendonly\r\n"))
        )

    def test_unspecified_address_is_the_old_way_to_hold(self) -> None:
        state = session()
        text = lines(
            state.answer(offer("m=audio 6000 RTP/AVP 0\n", HEAD.replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0")))
        )
        assert "a=recvonly" in text
        assert state.media is not None
        assert state.media.held_by_peer
        text = lines(state.answer(offer("m=audio 6000 RTP/AVP 0\na=recvonly\nc=IN IP4 0.0.0.0\n")))
        assert "a=inactive" in text

    def test_hold_and_resume_of_one_call(self) -> None:
        state = session()
        versions = []
        for direction in ("sendrecv", "sendonly", "sendrecv", "sendrecv"):
            text = lines(state.answer(offer(f"m=audio 6000 RTP/AVP 0\na={direction}\n")))
            versions.append(text[1])
        # RFC 3264 section 8: the version grows with each change, and only then.
        assert versions == [f"o=- 77 {number} IN IP4 192.0.2.2" for number in (1, 2, 3, 3)]
        assert state.media is not None
        assert not state.media.held_by_peer

    def test_codec_change_inside_a_call(self) -> None:
        state = session()
        state.answer(offer("m=audio 6000 RTP/AVP 0\n"))
        state.answer(offer("m=audio 6010 RTP/AVP 8\n"))
        assert state.media is not None
        assert (state.media.codec, state.media.remote_port) == ("PCMA", 6010)


class TestOffer:
    def test_first(self) -> None:
        assert [line for line in lines(session().offer()) if line[0] in "ma"] == [
            "m=audio 40000 RTP/AVP 0 8 101",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=ptime:20",
            "a=sendrecv",
        ]
        assert "m=audio 40000 RTP/AVP 8" in lines(session(codecs=("PCMA",), telephone_event=False).offer())

    def test_offers_and_answers_of_ours_understand_each_other(self) -> None:
        caller, callee = session(), session(port=50_000)
        media = caller.accept(parse_sdp(callee.answer(parse_sdp(caller.offer()))))
        assert (media.codec, media.remote_port, media.telephone_event_payload_type) == ("PCMU", 50_000, 101)

    def test_later_offers_name_the_agreed_codec_only(self) -> None:
        state = session()
        state.answer(offer("m=video 9 RTP/AVP 31\nm=audio 6000 RTP/AVP 8 97\na=rtpmap:97 telephone-event/8000\n"))
        text = lines(state.offer(Direction.SENDONLY))
        assert [line for line in text if line.startswith("m=")] == [
            "m=video 0 RTP/AVP 31",
            "m=audio 40000 RTP/AVP 8 97",
        ]
        assert "a=sendonly" in text

    def test_answers_that_refuse(self) -> None:
        state = session()
        state.offer()
        with pytest.raises(NotAcceptable):
            state.accept(offer("m=audio 0 RTP/AVP 0\n"))
        with pytest.raises(NotAcceptable):
            state.accept(offer("m=audio 6000 RTP/AVP 9\n"))


class TestText:
    def test_unknown_lines_and_attributes_are_passed_over(self) -> None:
        session_level = "i=x\nu=http://x\ne=x\nb=AS:64\nz=0 0\nk=clear:x\na=ice-ufrag:x\na=\n"
        text = session_level + "m=audio 6000 RTP/AVP 0\nb=TIAS:1\na=rtcp:6001\n"
        audio = offer(text).audio
        assert audio is not None
        assert audio.attribute("rtcp") == "6001"
        assert audio.attribute("sendrecv") is None

    def test_line_ends_of_others(self) -> None:
        assert parse_sdp(OFFER.replace(b"\r\n", b"\n")).audio is not None
        assert parse_sdp(OFFER.rstrip(b"\r\n")).audio is not None

    def test_codecs_in_order(self) -> None:
        described = offer("m=video 1 RTP/AVP 31\nm=audio 6000 RTP/AVP 8 0 8 x\n")
        assert described.codecs == ("PCMA", "PCMU")
        assert offer("m=video 1 RTP/AVP 31\n").codecs == ()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "v=0"),
            ("v=1\r\n", "v=0"),
            ("v=0\r\ns=-\r\n", "no o="),
            (HEAD + "m=audio x RTP/AVP 0\r\n", "m="),
            (HEAD + "m=audio 65536 RTP/AVP 0\r\n", "m="),
            (HEAD + "m=audio -1 RTP/AVP 0\r\n", "m="),
            (HEAD + "m=audio\r\n", "m="),
            (HEAD + "m =audio 1 RTP/AVP 0\r\n", "<letter>"),
            (HEAD + "rubbish\r\n", "<letter>"),
            (HEAD.replace("c=IN IP4 192.0.2.1", "c=IN IP9 x"), "c="),
            (HEAD.replace("c=IN IP4 192.0.2.1\r\n", "") + "m=audio 6000 RTP/AVP 0\r\n", "without a c="),
            (HEAD + "m=audio 6000 RTP/AVP 0\r\n" * 40, "more than 32"),
            (HEAD + "a=" + "x" * 40_000, "over"),
        ],
    )
    def test_defects_are_named(self, text: str, words: str) -> None:
        with pytest.raises(SdpDefect) as refused:
            parse_sdp(text.encode())
        assert words in str(refused.value)

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(OFFER) - 1), st.binary(max_size=6), st.integers(0, 6)), max_size=5))
    def test_mutated_offers_are_read_or_refused(self, mutations: list[tuple[int, bytes, int]]) -> None:
        body = OFFER
        for position, insert, remove in mutations:
            body = body[:position] + insert + body[position + remove :]
        with suppress(SdpDefect, NotAcceptable):
            parse_sdp(session().answer(parse_sdp(body)))
