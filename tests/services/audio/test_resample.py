"""Resampling: length, level and independence of how the flow is cut."""

from __future__ import annotations

import math
import struct
import sys

import pytest

from services.audio import level
from services.audio.resample import Resampler, ResamplerMissingError, resample

pytestmark = pytest.mark.unit


def tone(hz: float, rate_hz: int, seconds: float, amplitude: int = 10_000) -> bytes:
    count = int(rate_hz * seconds)
    return struct.pack(
        f"<{count}h", *(round(amplitude * math.sin(2 * math.pi * hz * i / rate_hz)) for i in range(count))
    )


@pytest.mark.parametrize(("from_hz", "to_hz"), [(22050, 8000), (16000, 8000), (8000, 16000), (48000, 8000)])
def test_length_and_level_stay(from_hz, to_hz):
    out = resample(tone(440, from_hz, 1.0), from_hz, to_hz)
    assert abs(len(out) // 2 - to_hz) <= 1
    assert level.rms(out) == pytest.approx(level.rms(tone(440, to_hz, 1.0)), rel=0.02)


def test_what_8_khz_cannot_hold_is_filtered_out():
    assert level.rms(resample(tone(6000, 22050, 0.5), 22050, 8000)) < 100


def test_cutting_the_flow_anywhere_gives_the_same_audio():
    pcm = tone(300, 22050, 0.4)
    whole = resample(pcm, 22050, 8000)
    resampler = Resampler(22050, 8000)
    sizes = [1, 2, 3, 1324 * 2, 7, 999]
    out, position, turn = b"", 0, 0
    while position < len(pcm):
        size = sizes[turn % len(sizes)]
        out += resampler.feed(pcm[position : position + size])
        position, turn = position + size, turn + 1
    assert out + resampler.finish() == whole


def test_equal_rates_pass_through():
    resampler = Resampler(8000, 8000)
    assert resampler.feed(b"abcd") == b"abcd"
    assert resampler.feed(b"e") == b""
    assert resampler.feed(b"f") == b"ef"
    assert resampler.finish() == b""


def test_rates_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        Resampler(0, 8000)


def test_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(ResamplerMissingError, match=r"callbus\[espeak\]"):
        Resampler(22050, 8000)
