"""Turn models: Smart Turn as bundled with pipecat, and the instant one."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from config.settings import AsrSection
from schemas.audio import Codec
from services.asr import bundled
from services.asr.loading import EngineChoiceError
from services.asr.turn_model import TurnModel, load_turn_model
from services.asr.turn_models import smart_turn
from services.audio import g711
from services.audio.level import last_voiced_sample
from services.packages import MissingPackageError
from tests.services.asr.speech import Speaker

pytestmark = pytest.mark.unit

needs_smart_turn = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pipecat", "onnxruntime", "soxr")),
    reason="Smart Turn is not installed: pip install 'callbus[silero]'",
)
SENTENCES = (
    "I would like to check my balance.",
    "My card was stolen in Madrid last week.",
    "four two seven one",
    "yes",
)
PAUSE = bytes(16 * 240)


@pytest.fixture(scope="module")
def model() -> TurnModel:
    return load_turn_model("smart_turn", AsrSection())


def say(text: str) -> bytes:
    """PCM from the first sample to the last voiced one."""
    pcm = g711.decode(Speaker().say(text), Codec.PCMU)
    return pcm[: 2 * ((last_voiced_sample(pcm) or 0) + 1)]


@pytest.fixture(scope="module")
def analyzer() -> Any:
    """pipecat's own way to the same model."""
    from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3

    made = LocalSmartTurnAnalyzerV3(sample_rate=8000)
    made.set_sample_rate(8000)
    return made


def theirs(analyzer: Any, pcm: bytes) -> float:
    import numpy

    samples = numpy.frombuffer(pcm, dtype="<i2").astype("float32") / 32768
    return float(analyzer._predict_endpoint(samples)["probability"])


@needs_smart_turn
@pytest.mark.parametrize("sentence", SENTENCES)
def test_it_hears_what_pipecat_hears(model: TurnModel, analyzer: Any, sentence: str) -> None:
    pcm = say(sentence) + PAUSE
    assert model.probability(pcm) == pytest.approx(theirs(analyzer, pcm), abs=0.02)


@needs_smart_turn
def test_it_hears_what_pipecat_hears_of_people_and_of_long_turns(model: TurnModel, analyzer: Any) -> None:
    folder = os.environ.get("CALLBUS_TEST_SPEECH")
    if not folder:
        pytest.skip("CALLBUS_TEST_SPEECH names no folder of recordings")
    from services.audio.wav import read_wav

    for name in ("jfk", "librivox_0870", "yes", "vosk_digits"):
        pcm = read_wav(Path(folder, "clips_8k", f"{name}.wav")).mono()
        last_seconds = pcm[-16 * model.context_ms :]
        assert model.probability(pcm) == model.probability(last_seconds)
        assert model.probability(pcm) == pytest.approx(theirs(analyzer, last_seconds), abs=0.02)


@needs_smart_turn
def test_its_features_are_those_of_pipecat(model: TurnModel) -> None:
    import numpy
    import soxr
    from pipecat.audio.turn.smart_turn._whisper_features import compute_whisper_log_mel_features

    assert isinstance(model, smart_turn.SmartTurnModel)
    pcm = say("I lost my card yesterday.")
    line = numpy.frombuffer(pcm, dtype="<i2").astype("float32") / 32768
    samples = soxr.resample(line, 8000, 16_000, quality="HQ")
    expected = compute_whisper_log_mel_features(numpy.pad(samples, (128_000 - samples.size, 0)))
    assert model.features(pcm).shape == (80, 800)
    assert numpy.abs(model.features(pcm) - expected).max() < 0.001


@needs_smart_turn
def test_a_whole_sentence_is_told_from_one_that_goes_on(model: TurnModel) -> None:
    assert model.probability(say("Please send me a new card.") + PAUSE) > 0.8
    assert model.probability(say("I would like to, um,") + PAUSE) < 0.2


@needs_smart_turn
def test_silence_nothing_and_noise_are_judged_too(model: TurnModel) -> None:
    model.warm()
    for pcm in (b"", bytes(2), bytes(160_000), bytes(range(256)) * 300):
        assert 0.0 <= model.probability(pcm) <= 1.0


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingPackageError, match=r"'smart_turn'.*onnxruntime.*callbus\[silero\]"):
            smart_turn.SmartTurnModel(tmp_path)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "soxr", None)
        with pytest.raises(MissingPackageError, match=r"'smart_turn'.*soxr.*callbus\[silero\]"):
            smart_turn.SmartTurnModel(tmp_path)
    monkeypatch.setattr(smart_turn, "MODEL_IN_PIPECAT", Path("nowhere.onnx"))
    with pytest.raises(MissingPackageError, match=r"pipecat-ai with its file nowhere\.onnx"):
        smart_turn.create(AsrSection())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pipecat-ai"):
        bundled.bundled_file("smart_turn", Path("nowhere.onnx"))


def test_the_instant_model_is_sure_at_once() -> None:
    model = load_turn_model("instant", AsrSection())
    model.warm()
    assert (model.name, model.context_ms, model.probability(b"")) == ("instant", 8000, 1.0)


def test_an_unknown_model_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(EngineChoiceError, match=r"\[asr\] turn_model = 'oracle': .*instant, smart_turn"):
        load_turn_model("oracle", AsrSection())
