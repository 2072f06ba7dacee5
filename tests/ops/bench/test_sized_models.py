"""Models of the dimensions of published ones: the real libraries load them, and they do what the bench counts on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.engine_sections import FasterWhisperSection, LlamaCppSection, ModelsSection, PiperSection
from config.settings import Settings
from ops.bench.engine_subjects import subjects
from schemas.llm import ListenFor
from services.asr.engine import load_engine as load_asr
from services.llm.engine import Request, Sentence
from services.llm.engine import load_engine as load_llm
from services.tts.engine import load_engine as load_tts
from tests.services.asr.contract.cases import voice
from tests.tiny_models import sized

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """For files of megabytes, which are not kept."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_a_whisper_says_about_as_much_as_a_caller_does(folder: Path) -> None:
    pytest.importorskip("faster_whisper", reason="faster-whisper is missing: pip install 'callbus[faster_whisper]'")
    from services.audio.resample import resample
    from tests.tiny_models import sized_whisper

    path = sized_whisper.build_sized_whisper(folder / "w", sized_whisper.Size(1, 64, 1))
    settings = Settings(faster_whisper=FasterWhisperSection(model=str(path), partial_ms=0))
    run = load_asr("faster_whisper", settings.asr, settings).open(ListenFor(phrases=("where is my card",)))
    run.accept(resample(voice(1500), 8000, 16000))
    assert run.finish().text.split() == list(sized_whisper.SCRIPT)


@pytest.mark.parametrize("quantisation", ["q4_0", "q8_0"])
async def test_a_language_model_answers_the_banks_callers(quantisation: str, folder: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp is missing: pip install 'callbus[llama_cpp]'")
    from tests.tiny_models import sized_gguf

    size = sized_gguf.Size(256, 2, 512, 4, 2, 24_000)
    path = sized_gguf.build_sized_gguf(folder / "m.gguf", size, quantisation)
    section = LlamaCppSection(model=str(path), slots=1, threads=1, temperature=0.0)
    settings = Settings(llama_cpp=section)
    engine = load_llm("llama_cpp", settings.llm, settings)
    await engine.warm()
    said = [each.text async for each in engine.open(Request("c" * 32, "default", 1, "hello")) if type(each) is Sentence]
    assert " ".join(said) == sized_gguf.SCRIPT
    await engine.close()  # type: ignore[attr-defined]


async def test_a_voice_is_as_long_as_speech(folder: Path) -> None:
    pytest.importorskip("piper", reason="Piper is missing: pip install 'callbus[piper]'")
    pytest.importorskip("onnx", reason="the package onnx is missing, which builds the voice")
    from tests.tiny_models import sized_piper

    path = sized_piper.build_sized_piper(folder, "v")
    # As large as those that are published.
    assert 55e6 < path.stat().st_size < 65e6
    settings = Settings(piper=PiperSection(model=str(path), threads=1))
    engine = load_tts("piper", settings.tts, settings)
    samples = sum([len(chunk.pcm) // 2 async for chunk in engine.open("Where is my credit card?")])
    assert 0.8 < samples / sized_piper.SAMPLE_RATE_HZ < 3
    await engine.close()


def test_the_bench_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ops.bench import engine_subjects

    monkeypatch.setattr(engine_subjects, "lacking", lambda stage, engine: [])
    monkeypatch.delenv(engine_subjects.TRAINED_VARIABLE, raising=False)
    listed = tmp_path / "models.toml"
    entries = [
        sized.entry("random-v", "piper", ("random-v.onnx", "random-v.onnx.json")),
        sized.entry("random-w", "faster_whisper", sized.WHISPER_FILES),
        sized.entry("random-m.gguf", "llama_cpp"),
    ]
    listed.write_text("".join(entries), encoding="utf-8")
    (tmp_path / "random-v").mkdir()
    (tmp_path / "random-w").mkdir()
    (tmp_path / "random-m.gguf").touch()
    settings = Settings(models=ModelsSection(folder=str(tmp_path), manifest=str(listed)))
    labels = {each.label for each in subjects(settings) if not each.reason}
    assert {"piper (random-v)", "faster_whisper (random-w)", "llama_cpp (random-m.gguf)"} <= labels
