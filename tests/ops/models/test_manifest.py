"""The manifest: what stands in it is usable, and what is not is named."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config.engine_sections import ModelsSection
from config.settings import Settings
from ops.engines import ENGINE_PACKAGES
from ops.models.manifest import DEFAULT_MANIFEST, ManifestError, load_manifest, read_manifest

pytestmark = pytest.mark.unit

GOOD = 'files = [{ url = "https://example.org/m.gguf" }]'
HOSTS = {"alphacephei.com", "huggingface.co", "github.com"}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_of_the_settings_stand_in_it() -> None:
    models, settings = read_manifest(DEFAULT_MANIFEST), Settings()
    for (_, engine), needs in ENGINE_PACKAGES.items():
        if needs.model:
            name = getattr(settings, engine).model
            assert models[name].engine == engine, name


def test_each_has_what_the_list_shows_and_comes_from_a_host_of_models() -> None:
    with_models = {engine for (_, engine), needs in ENGINE_PACKAGES.items() if needs.model}
    for model in read_manifest(DEFAULT_MANIFEST).values():
        assert model.engine in with_models, model.name
        assert model.licence and model.language and model.description, model.name
        assert {urlsplit(file.url).hostname for file in model.files} <= HOSTS, model.name
        assert all(urlsplit(file.url).scheme == "https" for file in model.files), model.name


def test_where_the_files_go_is_what_the_engines_open() -> None:
    models = read_manifest(DEFAULT_MANIFEST)
    assert models["qwen2.5-1.5b-instruct-q4_k_m.gguf"].is_one_file
    assert models["llama-3.2-1b-instruct-q4_k_m.gguf"].is_one_file
    vosk, voice = models["vosk-model-small-en-us-0.15"], models["en_US-lessac-medium"]
    assert not vosk.is_one_file
    assert [voice.target_of(file) for file in voice.files] == [
        "en_US-lessac-medium.onnx",
        "en_US-lessac-medium.onnx.json",
    ]
    whisper = models["faster-whisper-base.en"]
    assert {whisper.target_of(file) for file in whisper.files} == {
        "config.json",
        "model.bin",
        "tokenizer.json",
        "vocabulary.txt",
    }


def test_a_users_own_entries_win(tmp_path: Path) -> None:
    own = written(
        tmp_path,
        f'[[model]]\nname = "mine"\nengine = "llama_cpp"\n{GOOD}\n'
        f'[[model]]\nname = "kokoro-v1.0"\nengine = "kokoro"\n{GOOD}\n',
    )
    models = load_manifest(ModelsSection(manifest=str(own)))
    assert models["mine"].files[0].url == "https://example.org/m.gguf"
    assert len(models["kokoro-v1.0"].files) == 1
    assert "en_US-lessac-medium" in models


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "can't be used"),
        ('[[model]]\nname = "a"\nengine = "vosk"', "files"),
        ('[[model]]\nname = "a"\nengine = "vosk"\nfiles = []', "no files"),
        ('[[model]]\nname = "a"\nengine = "vosk"\nlicense = "x"\n' + GOOD, "license"),
        ('[[model]]\nname = "../a"\nengine = "vosk"\n' + GOOD, "a name is made of"),
        ('[[model]]\nname = ".part"\nengine = "vosk"\n' + GOOD, "a name is made of"),
        ('[[model]]\nname = "models.lock.json"\nengine = "vosk"\n' + GOOD, "own record"),
        (f'[[model]]\nname = "a"\nengine = "vosk"\n{GOOD}\n' * 2, "twice"),
        ('[[model]]\nname = "a"\nengine = "vosk"\nunpack = "rar"\n' + GOOD, "rar"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "file:///etc/passwd" }]', "begins with"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://[" }]', "begins with"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://e.org:x/m" }]', "begins with"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://e.org/m n" }]', "begins with"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://u:p@example.org/m" }]', "no user"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://example.org/" }]', "names no file"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://e.org/m", sha256 = "abc" }]', "64 digits"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://e.org/m", size_bytes = -1 }]', "size_bytes"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://e.org/m", path = "../m" }]', "leads out"),
        ('[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://e.org/m", path = "/m" }]', "leads out"),
        (
            '[[model]]\nname = "a"\nengine = "v"\nfiles = [{ url = "https://e.org/m" }, { url = "https://f.org/m" }]',
            "two files go",
        ),
        (
            '[[model]]\nname = "a"\nengine = "v"\n'
            'files = [{ url = "https://e.org/m" }, { url = "https://f.org/n", path = "./m" }]',
            "two files go",
        ),
        (
            '[[model]]\nname = "a"\nengine = "v"\nunpack = "zip"\n'
            'files = [{ url = "https://e.org/m" }, { url = "https://e.org/n" }]',
            "an archive",
        ),
    ],
)
def test_a_mistake_is_named_with_its_file(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        read_manifest(written(tmp_path, text))
    assert "models.toml" in str(caught.value)


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="none"):
        load_manifest(ModelsSection(manifest=str(tmp_path / "none.toml")))
