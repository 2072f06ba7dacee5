"""Vosk: folders that are no model, grammars, long audio, and what libvosk keeps to itself."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.engine_sections import ModelsSection, VoskSection
from config.settings import Settings
from schemas.llm import ListenFor
from services.asr.engine import EngineError, load_engine
from services.asr.engines._vosk_folder import ModelFolderError, read_folder
from services.models import MissingModelError
from services.packages import MissingPackageError
from tests.services.asr.contract.cases import TINY, TINY_SENTENCE, voice, vosk_engine
from tests.services.asr.contract.listening import transcribe
from tests.tiny_models import kaldi

pytestmark = pytest.mark.unit

pytest.importorskip("vosk", reason="Vosk is not installed: pip install 'callbus[vosk]'")

WORD = kaldi.WORD_MS


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Models whose graph is made at run time, and not."""
    folder = tmp_path_factory.mktemp("vosk")
    return {grammars: kaldi.build(folder / str(grammars), TINY_SENTENCE, grammars=grammars) for grammars in (0, 1)}


@pytest.fixture(scope="module")
def engine(models: dict[bool, Path]) -> Any:
    made = vosk_engine(models[True])
    made.warm()
    return made


@pytest.fixture
def model(models: dict[bool, Path], tmp_path: Path) -> Path:
    """One to spoil."""
    return Path(shutil.copytree(models[False], tmp_path / "model"))


def test_a_model_says_what_it_is(models: dict[bool, Path], tmp_path: Path) -> None:
    assert [read_folder(models[grammars], "x")[1:] for grammars in (False, True)] == [
        (8000, False, False),
        (8000, True, False),
    ]
    wide = kaldi.build(tmp_path, "yes", sample_rate_hz=16000)
    assert read_folder(wide, "x").sample_rate_hz == 16000
    (wide / "conf" / "mfcc.conf").write_text("--use-energy=false\n", encoding="utf-8")
    assert read_folder(wide, "x").sample_rate_hz == 16000
    assert not vosk_engine(models[True], grammar=False).capabilities.grammars


def test_a_model_without_folders_is_one_too(model: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("am/final.mdl", "conf/mfcc.conf", "graph/HCLG.fst", "graph/words.txt"):
        shutil.copy(model / name, flat)
    assert read_folder(flat, "x") == (flat, 8000, False, False)
    assert transcribe(vosk_engine(flat), ListenFor(), voice(3 * WORD + 60)).text == "i want to"
    (flat / "word_boundary.int").touch()
    assert read_folder(flat, "x").word_times


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda model: (model / "am/final.mdl").unlink(), "is no Vosk model, it lacks am/final.mdl$"),
        (lambda model: (model / "conf/mfcc.conf").unlink(), "is not whole, it lacks conf/mfcc.conf$"),
        (lambda model: (model / "conf/model.conf").unlink(), "is not whole, it lacks conf/model.conf$"),
        (lambda model: (model / "graph/HCLG.fst").unlink(), r"lacks graph/HCLG.fst \(or HCLr.fst, Gr.fst, disambig_"),
        (lambda model: (model / "graph/HCLG.fst").rename(model / "graph/HCLr.fst"), "graph/Gr.fst, graph/disambig_tid"),
        (lambda model: (model / "conf/model.conf").write_text("--beam=13\n"), "no --endpoint.silence-phones"),
        (lambda model: (model / "conf/mfcc.conf").write_text("--sample-frequency=many\n"), "=many is no rate"),
        (lambda model: [(model / "ivector").mkdir(), (model / "ivector/final.ie").touch()], "ivector/final.dubm, ivec"),
    ],
)
def test_a_folder_that_libvosk_would_die_of_is_refused(model: Path, spoil: Callable[[Path], object], text: str) -> None:
    spoil(model)
    with pytest.raises(ModelFolderError, match=text):
        vosk_engine(model)


def test_a_model_one_folder_deeper_is_pointed_at(model: Path) -> None:
    with pytest.raises(ModelFolderError, match=rf"did you mean {model}\?"):
        read_folder(model.parent, "[vosk] model")
    with pytest.raises(ModelFolderError, match="is no folder; unpack"):
        read_folder(model / "am" / "final.mdl", "[vosk] model")


def test_an_absent_model_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    settings = Settings(vosk=VoskSection(model="vosk-x"), models=ModelsSection(folder=str(tmp_path)))
    with pytest.raises(MissingModelError, match="callbus models pull vosk-x"):
        load_engine("vosk", settings.asr, settings)


@pytest.mark.parametrize("name", ["am/final.mdl", "graph/HCLG.fst", "graph/words.txt"])
def test_a_model_that_libvosk_refuses_is_an_error_of_the_configuration(model: Path, name: str) -> None:
    whole = (model / name).read_bytes()
    (model / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"\[vosk\] model: libvosk can't load .*; its reason is on stderr"):
        vosk_engine(model).warm()


def test_a_model_that_makes_no_recogniser_is_an_error_of_the_engine(model: Path) -> None:
    (model / "conf/mfcc.conf").write_text("--sample-frequency=8000\n", encoding="utf-8")
    with pytest.raises(EngineError, match="makes no recogniser"):
        vosk_engine(model).warm()


def test_it_says_nothing_of_its_own_accord(engine: Any, capfd: pytest.CaptureFixture[str]) -> None:
    transcribe(engine, TINY, voice(5 * WORD))
    assert capfd.readouterr() == ("", "")


def test_a_grammar_decides_between_words_that_sound_alike(engine: Any) -> None:
    pcm = voice(3 * WORD + 60)
    assert transcribe(engine, TINY, pcm).text == "check my balance"
    assert transcribe(engine, ListenFor(state="b", phrases=("i want (balance | money)",)), pcm).text == "i want balance"


def test_speech_of_which_no_word_is_known_is_no_word(engine: Any) -> None:
    """As long as one word, where the agent expects three: what is left of the grammar is "[unk]"."""
    transcript = transcribe(engine, TINY, voice(WORD - 30))
    assert (transcript.text, transcript.confidence, transcript.words) == ("", 0.0, ())


def test_what_cannot_be_heard_is_said_once(engine: Any) -> None:
    listen_for = ListenFor(state="odd", phrases=("check my balance", "(größe | cash) today", "a (b"))
    with capture_logs() as logs:
        for state in ("odd", "odd", "odd too"):
            engine.open(ListenFor(state=state, phrases=listen_for.phrases)).cancel()
    assert [line["event"] for line in logs] == ["word_unknown", "word_unknown", "phrase_refused"]
    assert "'größe'" in logs[0]["message"] and "'cash'" in logs[1]["message"]
    with capture_logs() as logs:
        for _ in range(2):
            run = engine.open(ListenFor(state="alien", phrases=("余额",)))
            run.cancel()
    assert [line["event"] for line in logs] == ["word_unknown", "grammar_empty"]


def test_many_grammars_do_not_pile_up(engine: Any) -> None:
    for number in range(200):
        engine.open(ListenFor(state=f"s{number}", phrases=("check my balance",))).cancel()
    assert len(engine._grammars) <= 128


def test_a_pause_is_no_end(tmp_path: Path) -> None:
    """Vosk ends an utterance there; the run goes on, with times that go on."""
    engine = vosk_engine(kaldi.build(tmp_path, TINY_SENTENCE, word_times=True))
    pcm = voice(2 * WORD + 60) + bytes(16000) + voice(3 * WORD + 60)
    run = engine.open(ListenFor())
    partials = [text for at in range(0, len(pcm), 960) if (text := run.accept(pcm[at : at + 960])) is not None]
    transcript = run.finish()
    assert transcript.text == "i want i want to"
    assert partials[-1] == transcript.text
    assert all(later != earlier for earlier, later in itertools.pairwise(partials))
    starts = [word.start_ms for word in transcript.words]
    assert starts == sorted(starts)
    second_voice_ms = (250 + 2 * WORD + 60 + 250) + 1000 + 250
    assert abs(starts[2] - second_voice_ms) < 2 * WORD
    assert transcript.confidence == pytest.approx(1.0)


def test_times_in_which_silence_counts_as_words_are_left_out(models: dict[bool, Path], tmp_path: Path) -> None:
    told = []
    for folder in (kaldi.build(tmp_path, TINY_SENTENCE, word_times=True), models[False]):
        engine = vosk_engine(folder)
        transcript = transcribe(engine, ListenFor(), voice(2 * WORD + 60))
        told.append((transcript.text, transcript.confidence, engine.capabilities.word_times, len(transcript.words)))
    assert told == [("i want", 1.0, True, 2), ("i want", 1.0, False, 0)]


def test_a_wide_model_needs_a_resampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = kaldi.build(tmp_path, "yes", sample_rate_hz=16000)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingPackageError, match="a model of 16000 Hz' needs the package soxr"):
        vosk_engine(wide)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vosk", None)
    settings = Settings()
    with pytest.raises(MissingPackageError, match=r"pip install 'callbus\[vosk\]'"):
        load_engine("vosk", settings.asr, settings)
