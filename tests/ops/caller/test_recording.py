"""Two tracks with true timing, and what is measured on them."""

from __future__ import annotations

import struct

import pytest

from ops.caller.recording import CallRecording, SpeechDetector, Track
from services.audio.wav import parse_wav
from tests.ops.caller.callee import tone

pytestmark = pytest.mark.unit


def track(*stretches: tuple[int, int]) -> Track:
    """Tones at (start, end) in milliseconds."""
    made = Track()
    for start, end in stretches:
        made.put(8 * start, tone(end - start))
    return made


def test_holes_are_silence_and_overlaps_replace():
    made = Track()
    made.put(2, struct.pack("<3h", 1, 2, 3))
    made.put(4, struct.pack("<2h", 8, 9))
    assert made.pcm == struct.pack("<6h", 0, 0, 1, 2, 8, 9)
    assert made.ticks == 6


def test_a_track_moves_as_a_whole():
    made = Track()
    made.put(0, struct.pack("<3h", 1, 2, 3))
    made.shift(2)
    assert made.pcm == struct.pack("<5h", 0, 0, 1, 2, 3)
    made.shift(-3)
    assert made.pcm == struct.pack("<2h", 2, 3)


def test_first_and_last_sound():
    made = track((100, 200), (300, 350))
    assert made.first_voiced(0) == 800
    assert made.first_voiced(1600, 2300) is None
    assert made.last_voiced(0, 2000) == 1599
    assert made.last_voiced(1650, 2000) is None


@pytest.mark.parametrize(
    ("stretches", "after", "until", "expected"),
    [
        ([(1500, 1600)], 1000, None, 1500),
        ([(0, 900), (1500, 1600)], 1000, None, 1500),
        ([(0, 1100), (1500, 1600)], 1000, None, 1500),
        ([(0, 1100), (1250, 1600)], 1000, None, None),
        ([(1500, 1600)], 1000, 1400, None),
        ([], 1000, None, None),
        ([(0, 100)], 0, None, 0),
        ([(1000, 1100)], 1000, None, 1000),
    ],
)
def test_an_answer_is_the_first_sound_after_silence(stretches, after, until, expected):
    found = track(*stretches).answer_after(8 * after, None if until is None else 8 * until)
    assert found == (None if expected is None else 8 * expected)


def test_stereo_left_is_this_side():
    recording = CallRecording()
    recording.said.put(0, struct.pack("<2h", 1, 2))
    recording.heard.put(1, struct.pack("<2h", 7, 8))
    wav = parse_wav(recording.wav())
    assert (wav.sample_rate_hz, wav.channels) == (8000, 2)
    assert wav.channel(0) == struct.pack("<3h", 1, 2, 0)
    assert wav.channel(1) == struct.pack("<3h", 0, 7, 8)


def test_speech_is_energy_and_a_click_is_none():
    detector = SpeechDetector()
    detector.feed(0, bytes(320))
    assert not detector.has_spoken
    detector.feed(160, tone(20))
    detector.feed(320, tone(20))
    assert not detector.has_spoken, "40 ms are a click"
    detector.feed(480, tone(20))
    assert detector.has_spoken
    assert detector.silent_ms(480 + 160 + 800) == 100
    detector.forget()
    assert not detector.has_spoken
    assert detector.silent_ms(480 + 160 + 800) == 100
