"""Files that are no model: an error that says so, and never a crash of the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.engine_sections import LlamaCppSection
from services.llm.engine import EngineError
from services.llm.engines.llama_cpp import LlamaCppModel
from tests.services.llm.llama import model_of
from tests.tiny_models.gguf import random_model

pytest.importorskip("llama_cpp", reason="llama-cpp-python is missing: pip install 'callbus[llama_cpp]'")
pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def chance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights of chance, as small as it gets."""
    return random_model(tmp_path_factory.mktemp("models") / "chance.gguf")


@pytest.fixture
def bad(request: pytest.FixtureRequest, tmp_path: Path, chance: Path) -> Path:
    """A model's file that something was done to."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(request.param(chance.read_bytes()))
    return path


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda data: b"", "is no GGUF file"),
        (lambda data: b"RIFF" + data[4:], "is no GGUF file"),
        (lambda data: data[:4], "can't be read|damaged"),
        (lambda data: data[:40], "is damaged or not whole"),
        (lambda data: data[: len(data) // 2], "is damaged or not whole"),
        (lambda data: data[:-64], "is damaged or not whole"),
        (lambda data: data[:4] + b"\x09" + data[5:], "version 9 of GGUF"),
        (lambda data: data[:8] + b"\xff" * 8 + data[16:], "is damaged"),
        (lambda data: data[:24] + b"\xff" * 8 + data[32:], "is damaged"),
        (lambda data: data.replace(b"llama.block_count\4\0\0\0\2", b"llama.block_count\4\0\0\0\0"), "is damaged"),
        (lambda data: data.replace(b"llama.block_count\4\0\0\0\2\0", b"llama.block_count\4\0\0\0\2\2"), "is damaged"),
        (lambda data: data.replace(b"general.architecture", b"general.architecturf"), "holds no model"),
        (lambda data: data.replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"), "llama.cpp can't load"),
        (lambda data: data.replace(b"\0llama", b"\0lxama"), "llama.cpp can't load .*unknown model architecture"),
    ],
    indirect=["bad"],
)
async def test_a_file_that_is_no_model_is_an_error_and_no_crash(bad: Path, words: str) -> None:
    async with model_of(bad) as model:
        for _ in range(2):
            with pytest.raises(EngineError, match=words) as caught:
                await model.warm()
            assert str(bad) in str(caught.value)


async def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="can't be read"):
        await LlamaCppModel(LlamaCppSection(), tmp_path / "missing.gguf").warm()
