"""faster-whisper: when partials are made, how long audio is cut, what is not heard, and folders that are no model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from config.engine_sections import FasterWhisperSection, ModelsSection
from config.load import ConfigError
from config.settings import AsrSection, Settings
from schemas.llm import ListenFor
from services.asr.engine import EngineError, load_engine
from services.asr.engines._whisper_folder import ModelFolderError
from services.audio.resample import resample
from services.models import MissingModelError
from services.packages import MissingPackageError
from tests.services.asr.contract.cases import TINY_SENTENCE, voice, whisper_engine
from tests.services.asr.contract.listening import transcribe

pytestmark = pytest.mark.unit

for _package in ("faster_whisper", "ctranslate2"):
    pytest.importorskip(_package, reason="faster-whisper is not installed: pip install 'callbus[faster_whisper]'")

from tests.tiny_models import whisper  # noqa: E402

RATE_HZ = 16000
SECOND = RATE_HZ * 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper.build(tmp_path_factory.mktemp("whisper"), TINY_SENTENCE)


@pytest.fixture(scope="module")
def speech() -> bytes:
    """A second and a half at 16,000 Hz, and half a second of silence."""
    return resample(voice(1500), 8000, RATE_HZ)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def counted(engine: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What the model is asked from now on: (seconds of audio, hotwords)."""
    asked: list[tuple[float, str]] = []
    real = engine._transcribe

    def transcribe(samples: Any, hotwords: str) -> Any:
        asked.append((len(samples) / RATE_HZ, hotwords))
        return real(samples, hotwords)

    monkeypatch.setattr(engine, "_transcribe", transcribe)
    return asked


def test_partials_come_with_new_audio_while_there_is_time(
    model: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = whisper_engine(model, partial_ms=400)
    clock = engine.clock = Clock()
    asked = counted(engine, monkeypatch)
    run = engine.open(ListenFor())
    heard = []
    for at in range(0, 15 * 3200, 3200):
        clock.now += 0.1
        heard.append(run.accept(speech[at : at + 3200]))
    assert [round(seconds, 1) for seconds, _ in asked] == [0.4, 0.8, 1.2]
    assert [text for text in heard if text is not None] == [TINY_SENTENCE]
    # Audio that waited comes without pause: there is no time for partials of it.
    asked.clear()
    for at in range(0, 40 * 3200, 3200):
        run.accept((speech * 3)[at : at + 3200])
    assert [round(seconds, 1) for seconds, _ in asked] == [1.6]
    clock.now += 0.2
    run.accept(speech[:3200])
    assert len(asked) == 2


def test_partials_are_left_out_while_another_caller_is_heard(model: Path, speech: bytes) -> None:
    engine: Any = whisper_engine(model)
    run = engine.open(ListenFor())
    with engine._hearing:
        assert run.accept(speech) is None
    assert run.accept(speech) == TINY_SENTENCE


def test_no_partials_where_none_are_wanted(model: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = whisper_engine(model, partial_ms=0)
    asked = counted(engine, monkeypatch)
    assert not engine.capabilities.partials
    assert transcribe(engine, ListenFor(), speech).text == TINY_SENTENCE
    assert len(asked) == 1


def test_long_audio_is_cut_where_the_caller_pauses(model: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = whisper_engine(model, partial_ms=0, window_s=5)
    asked = counted(engine, monkeypatch)
    run = engine.open(ListenFor())
    loud = speech[SECOND // 4 : -SECOND // 4]
    pcm = loud * 2 + bytes(SECOND // 2) + loud * 2
    partials = [text for at in range(0, len(pcm), 3200) if (text := run.accept(pcm[at : at + 3200])) is not None]
    transcript = run.finish()
    assert len(asked) == 2 and 3.0 <= asked[0][0] <= 3.5
    assert sum(seconds for seconds, _ in asked) == pytest.approx(len(pcm) / SECOND)
    assert partials == [TINY_SENTENCE]
    assert transcript.text == f"{TINY_SENTENCE} {TINY_SENTENCE}"
    assert 0.9 < transcript.confidence <= 1.0


def test_a_silent_line_is_not_asked_about(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = whisper_engine(model)
    asked = counted(engine, monkeypatch)
    assert transcribe(engine, ListenFor(), b"\x50\x00\xb0\xff" * (RATE_HZ * 20)).text == ""
    assert asked == []


@pytest.mark.parametrize(
    ("nature", "text"),
    [
        ({"no_speech": True, "unsure": True}, ""),
        ({"no_speech": True}, TINY_SENTENCE),
        ({"unsure": True}, TINY_SENTENCE),
    ],
)
def test_what_it_takes_for_silence_and_guesses_at_was_not_said(
    nature: dict[str, bool], text: str, speech: bytes, tmp_path: Path
) -> None:
    engine = whisper_engine(whisper.build(tmp_path, TINY_SENTENCE, **nature))
    transcript = transcribe(engine, ListenFor(), speech)
    assert transcript.text == text
    assert (transcript.confidence < 0.1) == ("unsure" in nature)


@pytest.mark.parametrize("sentence", ["thank you for watching", "you"])
def test_what_stands_under_films_was_not_said_in_silence(sentence: str, speech: bytes, tmp_path: Path) -> None:
    silent = whisper_engine(whisper.build(tmp_path / "silent", sentence, no_speech=True))
    assert transcribe(silent, ListenFor(), speech).text == ""
    speaking = whisper_engine(whisper.build(tmp_path / "speaking", sentence))
    assert transcribe(speaking, ListenFor(), speech).text == sentence


def test_a_text_without_end_ends(speech: bytes, tmp_path: Path) -> None:
    engine = whisper_engine(whisper.build(tmp_path, "my card is lost", endless=True))
    assert len(transcribe(engine, ListenFor(), speech).text.split()) < 8
    short = speech[SECOND // 4 :][: SECOND // 4]
    assert len(transcribe(engine, ListenFor(), short).text) < 30


def test_the_agents_words_are_hints(model: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = whisper_engine(model, partial_ms=0)
    asked = counted(engine, monkeypatch)
    transcribe(engine, ListenFor(state="x", phrases=("my überweisung [card]", "<digit> a balance")), speech)
    many = tuple(f"word{number}" for number in range(100))
    transcribe(engine, ListenFor(state="x", phrases=many), speech)
    assert asked[0][1] == "überweisung, card, balance"
    assert len(asked[1][1]) <= 200
    assert asked[1][1].startswith("word0, word1, ")


def test_languages(model: Path, speech: bytes, tmp_path: Path) -> None:
    def made(folder: Path, language: str) -> Any:
        settings = Settings(
            asr=AsrSection(language=language), faster_whisper=FasterWhisperSection(model=str(folder), partial_ms=0)
        )
        return load_engine("faster_whisper", settings.asr, settings)

    assert made(model, "en-GB").capabilities.languages == ("en",)
    with pytest.raises(ConfigError, match=r"\[asr\] language = 'de': the model .* knows English alone"):
        made(model, "de")
    folder = whisper.build(tmp_path, "wo ist meine karte", multilingual=True)
    german = made(folder, "de-AT")
    assert german.capabilities.languages == ()
    assert transcribe(german, ListenFor(), speech).text == "wo ist meine karte"
    with pytest.raises(ConfigError, match="does not know 'xx'; it knows af, am, "):
        made(folder, "xx").warm()


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_what_lacks_is_named_and_never_fetched(model: Path, tmp_path: Path, name: str) -> None:
    for file in model.iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(ModelFolderError, match=f"no Whisper model for CTranslate2, it lacks {name}"):
        whisper_engine(tmp_path)
    (tmp_path / name).write_bytes(b"\0rubbish")
    with pytest.raises(ConfigError, match=r"\[faster_whisper\] model: .* can't be (read|loaded on cpu)"):
        whisper_engine(tmp_path).warm()


def test_folders_that_are_none(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="is no folder"):
        whisper_engine(model / "model.bin")
    settings = Settings(models=ModelsSection(folder=str(tmp_path)))
    with pytest.raises(MissingModelError, match=r"callbus models pull faster-whisper-base\.en"):
        load_engine("faster_whisper", settings.asr, settings)


def test_what_the_machine_cannot_do_is_said(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be loaded on cpu: .*compute type"):
        whisper_engine(model, compute_type="int3").warm()


def test_what_ctranslate2_raises_says_nothing_of_the_words(
    model: Path, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = whisper_engine(model, partial_ms=0)
    monkeypatch.setattr(engine, "_transcribe", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(EngineError, match=r"Whisper fails on 2.0 s of audio: out of memory"):
        transcribe(engine, ListenFor(), speech)
    monkeypatch.undo()
    assert transcribe(engine, ListenFor(), speech).text == TINY_SENTENCE
    monkeypatch.setattr(engine, "_transcribe", lambda *_: (_ for _ in ()).throw(ValueError("broken")))
    with pytest.raises(ConfigError, match="hears nothing: broken"):
        engine.warm()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    settings = Settings()
    with pytest.raises(MissingPackageError, match=r"pip install 'callbus\[faster_whisper\]'"):
        load_engine("faster_whisper", settings.asr, settings)
