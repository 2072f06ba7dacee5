"""Loudness and the edges of speech."""

from __future__ import annotations

import math
import struct

import pytest

from services.audio import level
from services.audio.g711 import PcmLengthError

pytestmark = pytest.mark.unit


def pcm(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def test_rms_of_known_signals():
    assert level.rms(b"") == 0
    assert level.rms(pcm(0, 0, 0)) == 0
    assert level.rms(pcm(*[1000, -1000] * 50)) == 1000
    assert level.rms(pcm(-32768)) == 32768


def test_dbfs():
    assert level.dbfs(pcm(0)) == -math.inf
    assert level.dbfs(pcm(-32768)) == 0.0
    assert level.dbfs(pcm(16384)) == pytest.approx(-6.02, abs=0.01)


@pytest.mark.parametrize("index", [0, 1, 79, 80, 81, 159, 160, 399])
def test_the_one_loud_sample_is_found_from_both_sides(index):
    values = [level.VOICED_THRESHOLD] * 400
    values[index] = -level.VOICED_THRESHOLD - 1
    assert level.first_voiced_sample(pcm(*values)) == index
    assert level.last_voiced_sample(pcm(*values)) == index


def test_nothing_voiced():
    quiet = pcm(*[5] * 1600)
    assert level.first_voiced_sample(quiet) is None
    assert level.last_voiced_sample(quiet) is None
    assert level.last_voiced_sample(b"") is None
    assert level.leading_silence_ms(quiet, 8000) == 200


def test_leading_silence_rounds_down():
    assert level.leading_silence_ms(pcm(*[0] * 399, 9000), 8000) == 49
    assert level.leading_silence_ms(pcm(9000), 8000) == 0


def test_most_negative_sample_counts():
    assert level.first_voiced_sample(pcm(0, -32768)) == 1


@pytest.mark.parametrize("function", [level.rms, level.first_voiced_sample])
def test_half_a_sample_is_refused(function):
    with pytest.raises(PcmLengthError):
        function(b"abc")
