"""G.711 against the tables of the standard, computed here a second way."""

from __future__ import annotations

import struct

import pytest

from schemas.audio import Codec
from services.audio import g711

pytestmark = pytest.mark.unit


def mulaw_value(code: int) -> int:
    """ITU-T G.711 table 2, as 16-bit samples: bias 132, segments doubling."""
    inverted = ~code & 0xFF
    magnitude = (((inverted & 0x0F) << 3) + 132 << (inverted >> 4 & 7)) - 132
    return -magnitude if inverted & 0x80 else magnitude


def alaw_value(code: int) -> int:
    """ITU-T G.711 table 1, as 16-bit samples: even bits inverted, segments doubling from the second."""
    plain = code ^ 0x55
    segment = plain >> 4 & 7
    magnitude = (plain & 0x0F) << 4
    magnitude = magnitude + 8 if segment == 0 else magnitude + 0x108 << segment - 1
    return magnitude if plain & 0x80 else -magnitude


@pytest.mark.parametrize(("codec", "value"), [(Codec.PCMU, mulaw_value), (Codec.PCMA, alaw_value)])
def test_every_code_decodes_to_the_value_of_the_standard(codec, value):
    decoded = struct.unpack("<256h", g711.decode(bytes(range(256)), codec))
    assert list(decoded) == [value(code) for code in range(256)]


@pytest.mark.parametrize(
    ("codec", "code", "sample"),
    [
        (Codec.PCMU, 0x00, -32124),
        (Codec.PCMU, 0x80, 32124),
        (Codec.PCMU, 0xFF, 0),
        (Codec.PCMU, 0x7F, 0),
        (Codec.PCMU, 0xFE, 8),
        (Codec.PCMA, 0xD5, 8),
        (Codec.PCMA, 0x55, -8),
        (Codec.PCMA, 0xAA, 32256),
        (Codec.PCMA, 0x2A, -32256),
    ],
)
def test_known_points(codec, code, sample):
    assert g711.decode(bytes([code]), codec) == struct.pack("<h", sample)


def test_every_alaw_code_survives_the_way_to_pcm_and_back():
    codes = bytes(range(256))
    assert g711.encode(g711.decode(codes, Codec.PCMA), Codec.PCMA) == codes


def test_every_mulaw_code_survives_but_the_second_zero():
    codes = bytes(range(256))
    assert g711.encode(g711.decode(codes, Codec.PCMU), Codec.PCMU) == codes.replace(b"\x7f", b"\xff")


@pytest.mark.parametrize("codec", list(Codec))
def test_encoding_picks_a_value_within_half_a_step(codec):
    for sample in range(-32768, 32768, 7):
        back = struct.unpack("<h", g711.decode(g711.encode(struct.pack("<h", sample), codec), codec))[0]
        assert abs(back - sample) <= max(16, abs(sample) // 16), sample


@pytest.mark.parametrize("codec", list(Codec))
def test_silence_decodes_to_next_to_nothing(codec):
    payload = g711.silence(codec, 160)
    assert len(payload) == 160
    assert max(abs(value) for value in struct.unpack("<160h", g711.decode(payload, codec))) <= 8


def test_half_a_sample_is_refused():
    with pytest.raises(g711.PcmLengthError, match="3 bytes"):
        g711.encode(b"abc", Codec.PCMU)


def test_nothing_is_nothing():
    assert g711.decode(b"", Codec.PCMA) == b""
    assert g711.encode(b"", Codec.PCMU) == b""
