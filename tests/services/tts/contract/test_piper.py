"""Piper's own: folders of voices, speakers, speed, times of the words, and what can't be used, said in words."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from config.engine_sections import ModelsSection, PiperSection
from config.settings import Settings, TtsSection
from services.audio import level
from services.models import MissingModelError
from services.packages import MissingPackageError
from services.tts.engine import Engine, EngineChoiceError, load_engine
from services.tts.engines._piper_voice import find_voice, model_with_alignment

pytest.importorskip("piper", reason="Piper is not installed: pip install 'callbus[piper]'")
pytest.importorskip("onnx", reason="voices are built with the package onnx: pip install 'callbus[dev]'")
pytestmark = pytest.mark.contract

TEXT = "Your card was posted on Monday."


def build(folder: Path, name: str = "tiny", **kwargs: Any) -> Path:
    from tests.tiny_models.piper import build_piper_voice

    return build_piper_voice(folder, name, **kwargs)


async def warm(path: Path | str, *, speed: float = 1.0, folder: str = "", **section: Any) -> Engine:
    settings = Settings(
        tts=TtsSection(engine="piper", speed=speed),
        piper=PiperSection(model=str(path), threads=1, **section),
        models=ModelsSection(folder=folder),
    )
    engine = load_engine("piper", settings.tts, settings)
    await engine.warm()
    return engine


async def pcm_of(engine: Engine, text: str = TEXT) -> bytes:
    pcm = b"".join([chunk.pcm async for chunk in engine.open(text)])
    await engine.close()
    return pcm


async def test_a_voice_is_found_by_name_by_folder_and_by_file(tmp_path):
    path = build(tmp_path / "en_US-tiny", "en_US-tiny")
    other = build(tmp_path / "other" / "inner", "renamed")
    lengths = [
        len(await pcm_of(await warm("en_US-tiny", folder=str(tmp_path)))),
        len(await pcm_of(await warm(path.parent))),
        len(await pcm_of(await warm(path))),
        len(await pcm_of(await warm(other.parent))),
    ]
    assert len(set(lengths)) == 1


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 24000, 44100, 48000])
async def test_the_rate_is_that_of_the_voice(tmp_path, rate_hz):
    engine = await warm(build(tmp_path, sample_rate_hz=rate_hz))
    assert engine.capabilities.sample_rate_hz == rate_hz
    assert 1.5 < len(await pcm_of(engine)) / 2 / rate_hz < 3.0


async def test_speed_is_relative_to_the_voices_own(tmp_path):
    normal = len(await pcm_of(await warm(build(tmp_path, "normal"))))
    slow = build(tmp_path, "slow", length_scale=2.0)
    assert len(await pcm_of(await warm(slow))) == pytest.approx(2 * normal, rel=0.01)
    assert len(await pcm_of(await warm(slow, speed=2.0))) == pytest.approx(normal, rel=0.01)


async def test_each_speaker_sounds_otherwise(tmp_path):
    path = build(tmp_path, speakers=3)
    engine = await warm(path, speaker=2)
    assert await engine.list_voices() == ("0 speaker-0", "1 speaker-1", "2 speaker-2")
    assert await pcm_of(engine) != await pcm_of(await warm(path))
    with pytest.raises(EngineChoiceError, match=r"speaker = 3: the voice tiny\.onnx has speakers 0 to 2"):
        await warm(path, speaker=3)
    single = build(tmp_path, "single")
    with pytest.raises(EngineChoiceError, match="has one speaker, 0"):
        await warm(single, speaker=1)
    engine = await warm(single)
    assert await engine.list_voices() == ()
    await engine.close()


async def test_words_have_the_times_of_their_phonemes(tmp_path):
    engine = await warm(build(tmp_path, aligned=True))
    words = [word async for chunk in engine.open("One of the two. It is 4271 today.") for word in chunk.words]
    await engine.close()
    assert [word.text for word in words] == ["One", "of", "the", "two.", "It", "is", "4271", "today."]
    starts = [word.start_ms for word in words]
    assert starts == sorted(set(starts)), "'of the' is one group of phonemes, and still has two times"
    spans = {word.text: following.start_ms - word.start_ms for word, following in pairwise(words)}
    assert spans["4271"] > 1500, "it is said as four thousand two hundred seventy one"
    assert spans["is"] < 400


async def test_without_onnx_a_plain_voice_has_no_times_and_a_patched_one_has(tmp_path, monkeypatch):
    plain, patched = build(tmp_path, "plain"), build(tmp_path, "patched", aligned=True)
    assert isinstance(model_with_alignment(plain), bytes)
    assert model_with_alignment(patched) == patched
    monkeypatch.setitem(sys.modules, "piper.patch_voice_with_alignment", None)
    told = []
    for path in (plain, patched):
        engine = await warm(path)
        told.append(
            (engine.capabilities.word_times, [word async for chunk in engine.open(TEXT) for word in chunk.words])
        )
        await engine.close()
    assert told[0] == (False, [])
    assert told[1][0]
    assert [word.text for word in told[1][1]] == TEXT.split()


async def test_a_phoneme_that_the_voice_lacks_costs_the_times_their_exactness_only(tmp_path):
    path = build(tmp_path, aligned=True)
    config = json.loads(path.with_name("tiny.onnx.json").read_text())
    del config["phoneme_id_map"]["k"]
    path.with_name("tiny.onnx.json").write_text(json.dumps(config))
    engine = await warm(path)
    words = [word async for chunk in engine.open(TEXT) for word in chunk.words]
    await engine.close()
    assert [word.text for word in words] == TEXT.split()


async def test_brackets_are_no_phonemes(tmp_path):
    path = build(tmp_path)
    plain = await pcm_of(await warm(path), "say h e l now")
    marked = await pcm_of(await warm(path), "say [[h@'loU]] now")
    assert level.rms(marked) > 1000
    assert len(marked) > len(plain)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"audio": {"sample_rate": 96000}}, "says 96000 Hz"),
        ({"audio": {}}, "does not describe a voice"),
        ({"num_speakers": "many"}, "does not describe a voice"),
        ({"phoneme_type": "pinyin"}, r"a Chinese voice needs .*g2pw.onnx"),
        ({"inference": {"length_scale": 0}}, "length scale 0"),
        ({"phoneme_type": "runes"}, "not a voice that Piper opens"),
        ({"phoneme_id_map": {}}, "lacks phoneme_id_map"),
        ({"phoneme_id_map": {"a": [1000]}, "espeak": {"voice": "nobody"}}, "can't speak"),
    ],
)
async def test_a_description_that_is_none_is_told(tmp_path, config, words):
    with pytest.raises(EngineChoiceError, match=words):
        await pcm_of(await warm(build(tmp_path, config=config)))


async def test_files_that_are_missing_or_broken_are_named(tmp_path):
    path = build(tmp_path / "voices", "one")
    with pytest.raises(MissingModelError, match="callbus models pull en_US-nobody"):
        await warm("en_US-nobody", folder=str(tmp_path))
    build(tmp_path / "voices", "two")
    with pytest.raises(EngineChoiceError, match="holds 2 models"):
        find_voice(path.parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineChoiceError, match=r"holds no \.onnx file"):
        find_voice(tmp_path / "empty")
    path.write_bytes(b"no model at all")
    with pytest.raises(EngineChoiceError, match=r"one\.onnx is not a voice that Piper opens.*models pull"):
        await warm(path)
    path.with_name("one.onnx.json").write_text("[1")
    with pytest.raises(EngineChoiceError, match="does not describe a voice"):
        find_voice(path)
    path.with_name("one.onnx.json").unlink()
    with pytest.raises(EngineChoiceError, match=r"one\.onnx\.json is missing"):
        find_voice(path)


async def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(MissingPackageError, match=r"'piper' needs the package piper.*callbus\[piper\]"):
        await warm(tmp_path)
