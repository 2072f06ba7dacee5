"""Voice activity detectors: Silero as bundled with pipecat, and the energy one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from config.settings import AsrSection
from schemas.audio import Codec
from services.asr.detector import VoiceModel, load_detector
from services.asr.hearing import Hearing
from services.asr.loading import EngineChoiceError, MissingPackageError
from services.asr.turn.gate import Gate, VoiceBegan, VoiceEnded
from services.asr.vad import silero
from services.audio import g711
from services.audio.level import first_voiced_sample, last_voiced_sample
from tests.services.asr.harness import voice
from tests.services.asr.speech import Speaker

pytestmark = pytest.mark.unit

needs_silero = pytest.mark.skipif(
    importlib.util.find_spec("pipecat") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="Silero is not installed: pip install 'callbus[silero]'",
)


@pytest.fixture(scope="module")
def model() -> VoiceModel:
    return load_detector("silero", AsrSection())


def changes(model: VoiceModel, payload: bytes) -> list[VoiceBegan | VoiceEnded]:
    detector = model.open()
    gate = Gate(0.7, 200, 200)
    found = []
    pcm = g711.decode(payload, Codec.PCMU)
    size = detector.window_samples * 2
    for at in range(0, len(pcm) - size + 1, size):
        change = gate.hear(detector.probability(pcm[at : at + size]), at // 16, (at + size) // 16)
        if change is not None:
            found.append(change)
    return found


@needs_silero
@pytest.mark.parametrize("sentence", ["where is my credit card", "four two seven one", "yes please do that"])
def test_silero_finds_speech_where_it_is(model: VoiceModel, sentence: str) -> None:
    speech = Speaker().say(sentence)
    payload = b"\xff" * 8000 + speech + b"\xff" * 8000
    pcm = g711.decode(payload, Codec.PCMU)
    found = changes(model, payload)
    first, last = found[0], found[-1]
    assert isinstance(first, VoiceBegan)
    assert isinstance(last, VoiceEnded)
    assert abs(first.at_ms - (first_voiced_sample(pcm) or 0) / 8) <= 150
    assert abs(last.at_ms - (last_voiced_sample(pcm) or 0) / 8) <= 150


@needs_silero
def test_silero_hears_no_speech_in_silence_or_a_tone(model: VoiceModel) -> None:
    assert not changes(model, b"\xff" * 24_000)
    assert not changes(model, bytes((0x20, 0xA0)[at // 8 % 2] for at in range(24_000)))


@needs_silero
def test_silero_detectors_do_not_share_state(model: VoiceModel) -> None:
    pcm = g711.decode(Speaker().say("where is my credit card"), Codec.PCMU)[4000 : 4000 + 512 * 10]
    windows = [pcm[at : at + 512] for at in range(0, len(pcm), 512)]
    alone = model.open()
    expected = [alone.probability(window) for window in windows]
    first, second = model.open(), model.open()
    pairs = [(first.probability(window), second.probability(window)) for window in windows]
    assert pairs == [(value, value) for value in expected]
    first.reset()
    assert [first.probability(window) for window in windows] == expected


@needs_silero
def test_silero_clears_its_state_in_long_silence(model: VoiceModel) -> None:
    detector = model.open()
    assert isinstance(detector, silero.SileroDetector)
    for _ in range(silero.RESET_AFTER_WINDOWS - 1):
        detector.probability(bytes(512))
    assert detector._windows == silero.RESET_AFTER_WINDOWS - 1
    detector.probability(bytes(512))
    assert detector._windows == 0


def test_silero_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"onnxruntime.*callbus\[silero\]"):
        silero.SileroModel(tmp_path)
    monkeypatch.setattr(silero, "MODEL_IN_PIPECAT", Path("nowhere.onnx"))
    with pytest.raises(MissingPackageError, match=r"pipecat-ai with its file nowhere\.onnx"):
        silero.create(AsrSection())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pipecat-ai"):
        silero.model_path()


def test_the_energy_detector_tells_loud_from_quiet() -> None:
    detector = load_detector("energy", AsrSection()).open()
    detector.reset()
    assert detector.probability(g711.decode(voice(1), Codec.PCMU)) == 1.0
    assert detector.probability(bytes(320)) == 0.0
    assert Hearing(detector).end_ms == 0


def test_an_unknown_detector_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(EngineChoiceError, match=r"\[asr\] vad = 'ears': .*energy, silero"):
        load_detector("ears", AsrSection())
