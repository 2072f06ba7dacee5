"""The binary audio message: golden bytes, round trip, defects named."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.audio import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    AudioFlag,
    AudioFormatError,
    Codec,
    pack_audio,
    segment_sequence,
    split_segment_sequence,
    unpack_audio,
)

pytestmark = pytest.mark.contract


def test_golden_bytes() -> None:
    data = pack_audio(
        b"\xff" * 4, sequence=7, codec=Codec.PCMA, flags=AudioFlag.GAP | AudioFlag.END, frame_count=2, utterance=300,
        media_time=160,
    )  # fmt: skip
    assert data.hex() == "01080502" + "00000007" + "0000012c" + "000000a0" + "ffffffff"
    frame = unpack_audio(data)
    assert frame == (Codec.PCMA, AudioFlag.GAP | AudioFlag.END, 2, 7, 300, 160, b"\xff" * 4)
    assert frame.frames() == [b"\xff\xff", b"\xff\xff"]
    assert HEADER_BYTES == 16


@given(
    st.binary(max_size=400),
    st.integers(0, 2**32 - 1),
    st.sampled_from(list(Codec)),
    st.integers(0, 15),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
def test_round_trip(payload: bytes, sequence: int, codec: Codec, flags: int, utterance: int, media_time: int) -> None:
    data = pack_audio(
        payload, sequence=sequence, codec=codec, flags=AudioFlag(flags), utterance=utterance, media_time=media_time
    )
    assert unpack_audio(data) == (codec, AudioFlag(flags), 1, sequence, utterance, media_time, payload)


@given(st.integers(0, 4095), st.integers(0, 2**20 - 1))
def test_segment_sequence(segment: int, frame: int) -> None:
    assert split_segment_sequence(segment_sequence(segment, frame)) == (segment, frame)


@pytest.mark.parametrize(
    ("data", "defect"),
    [
        (b"", "shorter than its 16-byte header"),
        (b"\x01" * 15, "shorter than its 16-byte header"),
        (struct.pack("!BBBBIII", 2, 0, 0, 1, 0, 0, 0), "version 2"),
        (struct.pack("!BBBBIII", 1, 9, 0, 1, 0, 0, 0), "codec number 9"),
        (struct.pack("!BBBBIII", 1, 0, 0, 3, 0, 0, 0) + b"1234", "do not divide into 3"),
        (struct.pack("!BBBBIII", 1, 0, 0, 1, 0, 0, 0) + b"x" * (MAX_PAYLOAD_BYTES + 1), "over the limit"),
    ],
)
def test_defects_are_named(data: bytes, defect: str) -> None:
    with pytest.raises(AudioFormatError, match=defect):
        unpack_audio(data)


@given(st.binary(max_size=64))
def test_any_bytes_parse_or_name_a_defect(data: bytes) -> None:
    try:
        frame = unpack_audio(data)
    except AudioFormatError:
        return
    assert b"".join(frame.frames()) == (frame.payload if frame.frame_count else b"")


def test_empty_and_codec_facts() -> None:
    assert unpack_audio(pack_audio(b"", sequence=0, frame_count=0, flags=AudioFlag.END)).frames() == []
    assert unpack_audio(pack_audio(b"", sequence=0)).frames() == []
    assert (Codec.PCMU.silence, Codec.PCMA.silence) == (0xFF, 0xD5)
    assert Codec.PCMU.clock_rate_hz == 8000 and Codec.PCMU.bytes_per_ms == 8
