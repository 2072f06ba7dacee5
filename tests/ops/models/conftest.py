"""A server of model files, a store, and models to put into it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.models.download import Limits
from ops.models.manifest import Model, ModelFile
from ops.models.store import Store
from tests.fakes.model_server import ModelServer, model_server

QUICK = Limits(attempts=3, pause_s=0.0, longest_pause_s=0.0, stall_s=5.0, step_bytes=1000)
"""Does not wait between two tries."""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not repeat: the same ones every time."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def one_file(server: ModelServer, data: bytes, name: str = "small.gguf", pinned: bool = True) -> Model:
    """A model of one file, served."""
    server.put("/files/weights.gguf", data)
    pin = sha256(data) if pinned else ""
    file = ModelFile(url=server.address("/files/weights.gguf"), size_bytes=len(data) if pinned else 0, sha256=pin)
    return Model(name=name, engine="llama_cpp", files=(file,), licence="MIT")
