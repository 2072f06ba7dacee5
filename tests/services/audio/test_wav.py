"""WAV files: what is read, what is refused and how it says so."""

from __future__ import annotations

import io
import struct
import wave

import pytest

from schemas.audio import Codec
from services.audio import g711
from services.audio.wav import Wav, WavError, build_wav, interleave, parse_wav, read_wav, write_wav

pytestmark = pytest.mark.unit


def riff(
    format_tag: int, bits: int, body: bytes, *, channels: int = 1, rate_hz: int = 8000, extension: bytes = b""
) -> bytes:
    block = channels * bits // 8
    layout = struct.pack("<HHIIHH", format_tag, channels, rate_hz, rate_hz * block, block, bits) + extension
    chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"fmt " + struct.pack("<I", len(layout)) + layout
    chunks += b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def test_what_is_written_reads_back(tmp_path):
    path = tmp_path / "sound.wav"
    write_wav(path, b"\1\2\3\4", 8000, channels=2)
    assert read_wav(path) == Wav(8000, 2, b"\1\2\3\4")


def test_the_standard_library_reads_what_is_written():
    with wave.open(io.BytesIO(build_wav(b"\1\2" * 16000, 16000))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.readframes(16000) == b"\1\2" * 16000


@pytest.mark.parametrize(("tag", "codec"), [(6, Codec.PCMA), (7, Codec.PCMU)])
def test_g711_files(tag, codec):
    codes = bytes(range(256))
    assert parse_wav(riff(tag, 8, codes, extension=b"\0\0")).pcm == g711.decode(codes, codec)


def test_extensible_format_names_the_real_one_in_its_guid():
    extension = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + bytes(14)
    assert parse_wav(riff(0xFFFE, 16, b"\1\2", extension=extension)) == Wav(8000, 1, b"\1\2")


def test_stereo_channels_and_mono():
    wav = parse_wav(riff(1, 16, struct.pack("<4h", 100, 300, -100, -300), channels=2))
    assert wav.channel(0) == struct.pack("<2h", 100, -100)
    assert wav.channel(1) == struct.pack("<2h", 300, -300)
    assert wav.mono() == struct.pack("<2h", 200, -200)
    with pytest.raises(IndexError, match="channel 2 of 2"):
        wav.channel(2)


def test_mono_file_is_its_own_channel():
    wav = Wav(8000, 1, b"\1\2" * 80)
    assert wav.channel(0) == wav.mono() == wav.pcm
    assert wav.duration_ms == 10


def test_interleave_fills_the_shorter_side():
    assert interleave(struct.pack("<2h", 1, 2), struct.pack("<h", 9)) == struct.pack("<4h", 1, 9, 2, 0)


def test_data_of_unknown_length_ends_with_the_file():
    data = bytearray(build_wav(b"\1\2\3\4", 8000))
    data[40:44] = b"\xff\xff\xff\xff"
    assert parse_wav(bytes(data)).pcm == b"\1\2\3\4"


def test_cut_file_loses_only_the_half_sample():
    assert parse_wav(build_wav(b"\1\2\3\4", 8000)[:-1]).pcm == b"\1\2"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a WAV file"),
        (b"OggS" + bytes(40), "not a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "without a data chunk"),
        (b"RIFF\0\0\0\0WAVEdata\2\0\0\0ab", "without a format chunk"),
        (riff(1, 24, b"abc"), "24 bits"),
        (riff(3, 32, b"abcd"), "WAV format 3"),
        (riff(1, 16, b"ab" * 6, channels=6), "6 channels"),
        (riff(1, 16, b"ab", rate_hz=0), "0 Hz"),
    ],
)
def test_other_bytes_are_refused_in_words(data, words):
    with pytest.raises(WavError, match=words):
        parse_wav(data)


def test_the_error_names_the_file(tmp_path):
    path = tmp_path / "noise.wav"
    path.write_bytes(b"noise")
    with pytest.raises(WavError, match=r"noise\.wav: not a WAV file"):
        read_wav(path)
