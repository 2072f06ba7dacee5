"""Small parts: frames in order, windows and history, the fold, loading engines."""

from __future__ import annotations

import pytest

from config.settings import AsrSection
from schemas.audio import AudioFlag, AudioFrame, Codec
from services.asr.engine import load_engine
from services.asr.engines.instant import FixedText, FrameCounter
from services.asr.hearing import HISTORY_MS, Hearing
from services.asr.intake import PENDING_LIMIT, Intake
from services.asr.loading import EngineChoiceError
from services.asr.vad.energy import EnergyDetector
from services.audio import g711

pytestmark = pytest.mark.unit


def frame(sequence: int, count: int = 1, media_time: int | None = None, codec: Codec = Codec.PCMU) -> AudioFrame:
    at = sequence * 160 if media_time is None else media_time
    return AudioFrame(codec, AudioFlag.NONE, count, sequence, 0, at, b"\x10" * 160 * count)


def test_frames_in_order_pass_through() -> None:
    intake = Intake()
    assert [intake.push(frame(n)) for n in range(3)] == [[frame(n)] for n in range(3)]
    assert (intake.expected, intake.waiting, intake.earliest_waiting) == (3, False, None)


def test_a_message_of_several_frames_is_cut() -> None:
    assert Intake().push(frame(0, 3)) == [frame(0), frame(1), frame(2)]
    assert Intake(5).push(frame(4, 3)) == [frame(5), frame(6)]
    assert Intake().push(frame(0, 0)) == []


def test_frames_wait_for_those_before_them() -> None:
    intake = Intake()
    assert intake.push(frame(2)) == []
    assert intake.push(frame(3)) == []
    assert intake.earliest_waiting == 2
    assert intake.push(frame(0)) == [frame(0)]
    assert intake.push(frame(1)) == [frame(1), frame(2), frame(3)]
    assert intake.push(frame(1)) == []


def test_a_gap_can_be_given_up() -> None:
    intake = Intake()
    intake.push(frame(5))
    assert intake.skip_to(3) == []
    assert intake.skip_to(2) == []
    assert intake.skip_to(5) == [frame(5)]


def test_what_waits_is_bounded() -> None:
    intake = Intake()
    for sequence in range(1, PENDING_LIMIT + 50):
        intake.push(frame(sequence))
    assert intake.overflowing
    assert len(intake.skip_to(1)) == PENDING_LIMIT


def test_windows_tell_their_time() -> None:
    hearing = Hearing(EnergyDetector(window_samples=256))
    windows = [window for n in range(5) for window in hearing.push(frame(n, media_time=8000 + n * 160))[1]]
    assert [(window.start_ms, window.end_ms) for window in windows] == [(1000, 1032), (1032, 1064), (1064, 1096)]
    assert hearing.end_ms == 1100


def test_windows_tell_their_first_sample_that_can_be_heard() -> None:
    hearing = Hearing(EnergyDetector(window_samples=256))
    quiet, loud = b"\xff" * 160, g711.encode(b"\x00\x40" * 160, Codec.PCMU)
    payloads = (quiet, b"\xff" * 40 + loud[:120], loud, loud, loud)
    windows = [
        window
        for n, payload in enumerate(payloads)
        for window in hearing.push(frame(n, media_time=8000 + n * 160)._replace(payload=payload))[1]
    ]
    assert [window.sound_ms for window in windows] == [1025, 1032, 1064]
    silent = Hearing(EnergyDetector(window_samples=256))
    found = [window for n in range(2) for window in silent.push(frame(n)._replace(payload=quiet))[1]]
    assert [window.sound_ms for window in found] == [0]


def test_windows_tell_their_loudness() -> None:
    hearing = Hearing(EnergyDetector())
    loud, quiet = g711.encode(b"\x00\x40" * 160, Codec.PCMU), b"\xff" * 160
    levels = [
        window.level_dbfs
        for n, payload in enumerate((loud, quiet))
        for window in hearing.push(frame(n)._replace(payload=payload))[1]
    ]
    assert levels == [pytest.approx(-6.0, abs=0.3), -96.0]


def test_short_gaps_are_filled_and_long_ones_jumped() -> None:
    hearing = Hearing(EnergyDetector())
    hearing.push(frame(0))
    filled, windows = hearing.push(frame(1, media_time=480))
    assert [len(piece.pcm) for piece in filled] == [640, 320]
    assert [window.probability for window in windows] == [0.0, 0.0, 1.0]
    jumped, windows = hearing.push(frame(2, media_time=16_000))
    assert [len(piece.pcm) for piece in jumped] == [320]
    assert [(window.start_ms, window.end_ms) for window in windows] == [(2000, 2020)]


def test_a_clock_that_goes_back_takes_nothing_back() -> None:
    hearing = Hearing(EnergyDetector())
    hearing.push(frame(0, media_time=8000))
    pieces, _ = hearing.push(frame(1, media_time=0))
    assert pieces[0].media_ms == 1020


def test_history_is_given_once_and_is_bounded() -> None:
    hearing = Hearing(EnergyDetector())
    for n in range(HISTORY_MS // 20 + 100):
        hearing.push(frame(n))
    everything = hearing.take_history(0)
    assert everything[0].media_ms >= 2000 - 20
    assert hearing.take_history(0) == []
    hearing.push(frame(500), muted=True)
    [piece] = hearing.take_history(0)
    assert piece.pcm == bytes(320)


def test_engines_are_found_by_name_or_class() -> None:
    settings = AsrSection()
    assert isinstance(load_engine("instant", settings), FrameCounter)
    own = load_engine("services.asr.engines.instant:FixedText", settings)
    assert isinstance(own, FixedText)
    own.warm()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("magic", r"\[asr\] engine = 'magic': there is no such one; there are [a-z]+_?[a-z]*, instant, "),
        ("no.such.module:Engine", "module 'no.such.module' can't be imported"),
        (":Engine", "can't be imported"),
        ("services.asr.engines.instant:Nothing", "has no 'Nothing'"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name: str, text: str) -> None:
    with pytest.raises(EngineChoiceError, match=text):
        load_engine(name, AsrSection())
