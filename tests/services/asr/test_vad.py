"""Voice activity detectors: Silero as bundled with pipecat, and the energy one."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
from pathlib import Path

import pytest

from config.settings import AsrSection
from ops.caller.speech import file_pcm
from schemas.audio import AudioFlag, AudioFrame, Codec
from services.asr.detector import VoiceModel, load_detector
from services.asr.hearing import Hearing
from services.asr.loading import EngineChoiceError
from services.asr.turn.gate import Gate, VoiceBegan, VoiceEnded
from services.asr.vad import silero
from services.audio import g711
from services.audio.level import first_voiced_sample, last_voiced_sample
from services.packages import MissingPackageError
from tests.services.asr.harness import voice
from tests.services.asr.speech import Speaker, frames

pytestmark = pytest.mark.unit

needs_silero = pytest.mark.skipif(
    importlib.util.find_spec("pipecat") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="Silero is not installed: pip install 'callbus[silero]'",
)


@pytest.fixture(scope="module")
def model() -> VoiceModel:
    return load_detector("silero", AsrSection())


def changes(model: VoiceModel, payload: bytes) -> list[VoiceBegan | VoiceEnded]:
    return [change for change, _ in heard(model, payload)]


def heard(model: VoiceModel, payload: bytes) -> list[tuple[VoiceBegan | VoiceEnded, int]]:
    """What the gate says of mu-law audio, each with the media time at which it says so."""
    hearing, gate = Hearing(model.open()), Gate(0.7, 200, 200)
    found = []
    for number, part in enumerate(frames(payload)):
        frame = AudioFrame(Codec.PCMU, AudioFlag.NONE, 1, number, 0, number * 160, part)
        for window in hearing.push(frame)[1]:
            change = gate.hear(*window)
            if change is not None:
                found.append((change, hearing.end_ms))
    return found


@needs_silero
@pytest.mark.parametrize("voice", ["en-us+klatt4", "en-us+f1", "en-us+f2", "en+m7"])
def test_speech_is_found_where_a_meter_finds_it(model: VoiceModel, voice: str) -> None:
    """As audio begins and ends, to 40 ms; and said soon enough to stop an agent within 350 ms."""
    speaker = Speaker()
    sentences = (
        "where is my credit card",
        "four two seven one",
        "stop",
        "sorry",
        "hold on please",
        "yes please do that",
    )
    begins, ends, delays = [], [], []
    for number, sentence in enumerate(sentences):
        payload = b"\xff" * (8000 + number * 43) + speaker.say(sentence, voice) + b"\xff" * 8000
        pcm = g711.decode(payload, Codec.PCMU)
        onset_ms, end_ms = (first_voiced_sample(pcm) or 0) / 8, (last_voiced_sample(pcm) or 0) / 8
        found = heard(model, payload)
        (first, said_ms), (last, _) = found[0], found[-1]
        assert isinstance(first, VoiceBegan)
        assert isinstance(last, VoiceEnded)
        begins.append(abs(first.at_ms - onset_ms))
        ends.append(abs(last.at_ms - end_ms))
        delays.append(said_ms - onset_ms)
    assert max(begins) <= 40, begins
    assert statistics.median(ends) <= 40, ends
    assert 190 <= statistics.median(delays) <= 250, delays
    assert max(delays) <= 310, delays


@needs_silero
@pytest.mark.parametrize("level_dbfs", [-50, -35, -20])
def test_noise_is_not_the_beginning_of_speech(model: VoiceModel, level_dbfs: int) -> None:
    # A linear congruential generator: the same noise every time.
    state, samples = 1, bytearray()
    amplitude = int(32768 * 3**0.5 * 10 ** (level_dbfs / 20))
    for _ in range(10 * 8000):
        state = (state * 1_103_515_245 + 12_345) % 2**31
        samples += ((state >> 8) % (2 * amplitude) - amplitude).to_bytes(2, "little", signed=True)
    assert heard(model, g711.encode(bytes(samples), Codec.PCMU)) == []


@needs_silero
@pytest.mark.parametrize("name", ["noise/office_ambience_8k.wav", "noise/hold_ring_8k.wav", "dtmf/dtmf-1.wav"])
def test_sounds_of_a_telephone_are_not_the_beginning_of_speech(model: VoiceModel, name: str) -> None:
    folder = os.environ.get("CALLBUS_TEST_SPEECH")
    if not folder:
        pytest.skip("CALLBUS_TEST_SPEECH is not set: no recordings here")
    pcm = file_pcm(Path(folder, name))[: 16_000 * 30]
    assert heard(model, g711.encode(pcm, Codec.PCMU)) == []


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
