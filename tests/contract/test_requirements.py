"""The install stays light: what everybody installs holds nothing large, and nothing that is compiled."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "ops" / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LARGE = re.compile(r"torch.*|nvidia-.*|cuda.*|triton|tensorflow.*|jax.*|transformers|silero-vad")
COMPILED = frozenset({"llama-cpp-python", "pyaudio", "webrtcvad", "pjsua2", "fasttext", "dlib", "pynini"})
"""Packages that have no wheels for a plain Linux, or are known to fall back to a compiler."""
ENGINES = frozenset({"vosk", "faster-whisper", "piper-tts", "kokoro-onnx", "llama-cpp-python"})


def locked(name: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["bootstrap", "runtime", "development", "engines"])
def test_no_lock_holds_a_gigabyte(name: str) -> None:
    found = locked(name)
    assert found
    assert not [package for package in found if LARGE.fullmatch(package)]


@pytest.mark.parametrize("name", ["bootstrap", "runtime", "development"])
def test_what_everybody_installs_compiles_nothing(name: str) -> None:
    assert not COMPILED & set(locked(name))


def test_the_default_install_has_no_engine_that_must_be_chosen() -> None:
    assert not ENGINES & set(locked("runtime"))


def test_the_package_itself_needs_no_engine() -> None:
    needed = {re.split(r"[\[<>=;]", each)[0] for each in PROJECT["dependencies"]}
    assert not needed & (ENGINES | COMPILED | {"pipecat-ai", "onnxruntime", "numpy", "openai", "aiohttp"})


def test_make_engines_installs_every_engine_in_the_versions_of_development() -> None:
    engines, development = locked("engines"), locked("development")
    assert set(engines) >= ENGINES
    assert {name: version for name, version in engines.items() if development.get(name, version) != version} == {}
    assert set(locked("runtime")) <= set(engines)


def test_llama_cpp_is_compiled_for_those_who_ask_for_it_and_nobody_else() -> None:
    extras = PROJECT["optional-dependencies"]
    with_it = [name for name, needs in extras.items() if any(re.search(r"\bllama[-_]cpp", each) for each in needs)]
    assert with_it == ["llama_cpp"]
