"""GGUF files, looked at before llama.cpp gets them: it does not survive every file that is none.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Numbers are little-endian.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

from services.llm.engine import EngineError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_MOST = 1 << 20
"""More tensors or more metadata than this is damage."""

MOST_LAYERS = 512
"""``LLAMA_MAX_LAYERS``: llama.cpp ends the process over a model that says it has more, or none."""

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9

_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Type of a tensor -> numbers in a block, bytes of a block. Of a type that is not here only the place is checked."""


class GgufFile(NamedTuple):
    """What a model's file says of itself; arrays are left out."""

    architecture: str
    metadata: dict[str, Any]
    tensors: int


class _DamageError(Exception):
    """The file ends too early or says what can't be."""


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.place = 0

    def number(self, layout: str) -> Any:
        size = struct.calcsize(layout)
        if self.place + size > len(self.data):
            raise _DamageError
        (value,) = struct.unpack_from(layout, self.data, self.place)
        self.place += size
        return value

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.place:
            raise _DamageError
        self.place += size

    def text(self) -> str:
        size = self.number("<Q")
        start = self.place
        self.skip(size)
        return self.data[start : self.place].decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """A value; None for an array, which is passed over."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            self._pass_over_array()
            return None
        if kind not in _SCALARS:
            raise _DamageError
        return self.number(_SCALARS[kind])

    def _pass_over_array(self) -> None:
        kind, count = self.number("<I"), self.number("<Q")
        if kind in _SCALARS:
            self.skip(count * struct.calcsize(_SCALARS[kind]))
        elif kind in (_STRING, _ARRAY) and count <= len(self.data):
            for _ in range(count):
                if kind == _STRING:
                    self.skip(self.number("<Q"))
                else:
                    self._pass_over_array()
        else:
            raise _DamageError


def read_gguf(path: Path) -> GgufFile:
    """Check a model's file and read what it says of itself.

    Raises:
        EngineError: it is no GGUF file, is damaged, or is not whole.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise EngineError(f"{path} is no GGUF file; [llama_cpp] model must name one")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(_Reader(data), path)
    except _DamageError as error:
        raise EngineError(f"{path} is damaged or not whole ({size} bytes); fetch it again") from error
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} can't be read: {error}") from error


def _read(reader: _Reader, path: Path) -> GgufFile:
    reader.place = 4
    version = reader.number("<I")
    if version not in VERSIONS:
        raise EngineError(f"{path} has version {version} of GGUF, not one of {VERSIONS}; fetch a newer file")
    tensors, entries = reader.number("<Q"), reader.number("<Q")
    if tensors > _MOST or entries > _MOST:
        raise _DamageError
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        key = reader.text()
        value = reader.value(reader.number("<I"))
        if value is not None:
            metadata[key] = value
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not tensors:
        raise EngineError(f"{path} holds no model; [llama_cpp] model must name a language model's file")
    layers = metadata.get(f"{architecture}.block_count", 1)
    if not isinstance(layers, int) or not 1 <= layers <= MOST_LAYERS:
        raise _DamageError
    ends = [_tensor_end(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise _DamageError
    start = -(-reader.place // alignment) * alignment
    if start + max(ends) > len(reader.data):
        raise _DamageError
    return GgufFile(architecture, metadata, tensors)


def _tensor_end(reader: _Reader) -> int:
    """Where a tensor ends, in bytes from the start of all tensors."""
    reader.text()
    dimensions = reader.number("<I")
    if dimensions > 8:
        raise _DamageError
    numbers = 1
    for _ in range(dimensions):
        numbers *= reader.number("<Q")
    kind, offset = reader.number("<I"), reader.number("<Q")
    per_block, block_bytes = _BLOCKS.get(kind, (1, 0))
    end: int = offset + -(-numbers // per_block) * block_bytes
    return end
