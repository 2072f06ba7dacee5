"""Kokoro's own: voices and their languages, speed, times of the words, and what can't be used, said in words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from config.engine_sections import KokoroSection
from config.settings import Settings, TtsSection
from services.models import MissingModelError
from services.packages import MissingPackageError
from services.tts.engine import Engine, EngineChoiceError, load_engine
from services.tts.engines import kokoro

pytest.importorskip("kokoro_onnx", reason="Kokoro is not installed: pip install 'callbus[kokoro]'")
pytest.importorskip("onnx", reason="models are built with the package onnx: pip install 'callbus[dev]'")
pytestmark = pytest.mark.contract

TEXT = "Your card was posted on Monday."


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from tests.tiny_models.kokoro import build_kokoro_model

    return build_kokoro_model(tmp_path_factory.mktemp("kokoro"), timed=True)


async def warm(path: Path | str, *, speed: float = 1.0, **section: Any) -> Engine:
    settings = Settings(
        tts=TtsSection(engine="kokoro", speed=speed), kokoro=KokoroSection(model=str(path), threads=1, **section)
    )
    engine = load_engine("kokoro", settings.tts, settings)
    await engine.warm()
    return engine


async def pcm_of(engine: Engine, text: str = TEXT, language: str = "en") -> bytes:
    return b"".join([chunk.pcm async for chunk in engine.open(text, language=language)])


async def test_speed(model):
    normal, fast = await warm(model), await warm(model, speed=2.0)
    assert len(await pcm_of(fast)) < 0.7 * len(await pcm_of(normal))
    for speed in (0.5, 2.0):
        assert await pcm_of(await warm(model, speed=speed))


async def test_a_sentence_in_another_language_has_a_voice_and_phonemes_of_it(model):
    engine = await warm(model)
    voices = {language: engine.voice_for(language) for language in ("en", "en-GB", "es_419", "FR", "it-IT", "de", "ja")}
    assert voices == {
        "en": "af_heart", "en-GB": "af_heart", "es_419": "ef_dora", "FR": "ff_siwis", "it-IT": "if_sara",
        "de": "af_heart", "ja": "af_heart",
    }  # fmt: skip
    assert await pcm_of(engine, TEXT, "fr") != await pcm_of(engine, TEXT, "en")
    assert await pcm_of(engine, TEXT, "de") == await pcm_of(engine, TEXT, "en")
    await engine.close()


async def test_a_voice_that_was_chosen_speaks_every_language(model):
    engine = await warm(model, voice="bf_emma")
    assert await pcm_of(engine, TEXT, "fr") == await pcm_of(engine, TEXT, "en")
    default = await warm(model)
    assert await pcm_of(engine) != await pcm_of(default)
    await engine.close()
    await default.close()


async def test_voices_are_listed_without_loading(model):
    settings = Settings(kokoro=KokoroSection(model=str(model)))
    engine = load_engine("kokoro", settings.tts, settings)
    assert await engine.list_voices() == ("af_heart", "af_sky", "bf_emma", "ef_dora", "ff_siwis", "if_sara")
    assert not engine.capabilities.word_times
    await engine.close()


async def test_words_of_another_language_leave_no_marks_among_the_phonemes(model):
    engine = await warm(model, voice="ff_siwis")
    marked = [word async for chunk in engine.open("Bonjour, c'est computer science.") for word in chunk.words]
    assert [word.text for word in marked] == ["Bonjour,", "c'est", "computer", "science."]
    assert "(" not in engine._phonemes("Le computer science", "fr-fr")
    await engine.close()


async def test_a_pause_stands_between_pieces(model):
    engine = await warm(model)
    one, two = "Your card was posted on Monday.", "It will be with you on Friday."
    apart = len(await pcm_of(engine, one)) + len(await pcm_of(engine, two))
    assert len(await pcm_of(engine, f"{one} {two}")) == apart
    assert (await pcm_of(engine, one))[-12000:] == bytes(12000), "a quarter of a second after a sentence"
    await engine.close()


async def test_what_can_not_be_used_is_told(model, tmp_path):
    for voice, words in (("zz_nobody", "has no such voice.*--voices"), ("jf_alpha", "has no such voice")):
        with pytest.raises(EngineChoiceError, match=words):
            await warm(model, voice=voice)
    with pytest.raises(MissingModelError, match="callbus models pull kokoro-v9"):
        await warm("kokoro-v9")
    with pytest.raises(EngineChoiceError, match=r"must hold one model .* not 0 and 0"):
        kokoro.find_files(tmp_path)
    (tmp_path / "kokoro-v1.0.onnx").write_bytes(b"no model")
    (tmp_path / "voices-v1.0.bin").write_bytes(b"no voices")
    with pytest.raises(EngineChoiceError, match="is no file of voices"):
        kokoro.find_files(tmp_path)
    (tmp_path / "voices-v1.0.bin").write_bytes((model / "voices-v1.0.bin").read_bytes())
    with pytest.raises(EngineChoiceError, match="not a model that onnxruntime opens"):
        await warm(tmp_path)


async def test_a_voice_of_a_language_that_needs_other_phonemes_is_refused(tmp_path):
    from tests.tiny_models.kokoro import build_kokoro_model

    folder = build_kokoro_model(tmp_path, voices=("af_heart", "jf_alpha"))
    with pytest.raises(EngineChoiceError, match="voices whose names begin with a, b, e, f, h, i, p"):
        await warm(folder, voice="jf_alpha")


async def test_voices_that_do_not_belong_to_the_model_are_told(model, tmp_path):
    import numpy

    (tmp_path / "kokoro-v1.0.onnx").write_bytes((model / "kokoro-v1.0.onnx").read_bytes())
    with (tmp_path / "voices-v1.0.bin").open("wb") as file:
        numpy.savez(file, af_heart=numpy.zeros((510, 1, 7), numpy.float32))
    with pytest.raises(EngineChoiceError, match=r"can't speak.*does voices-v1\.0\.bin belong to it"):
        await warm(tmp_path)


async def test_a_missing_package_is_named_with_its_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "kokoro_onnx", None)
    with pytest.raises(MissingPackageError, match=r"kokoro_onnx.*callbus\[kokoro\]"):
        await warm(model)
