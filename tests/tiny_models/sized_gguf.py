"""A GGUF file with the dimensions of a published model, its weights made by chance: it costs what that one costs.

It says the same two sentences to whatever it is asked. The words of the bank's agent are tokens of it, so that a prompt
has about as many tokens as it has for a real model. Block formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
and ggml's ``ggml-common.h`` (``block_q4_0``, ``block_q8_0``).
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import numpy.typing as npt

from services.llm.agent_file import AGENTS
from services.llm.chat.prompt import RULES
from tests.tiny_models.gguf import BOS, EOS, MARKED_TEMPLATE, _text, _value

BLOCK = 32
F32, Q4_0, Q8_0 = 0, 2, 8
FORMATS = {"q4_0": Q4_0, "q8_0": Q8_0}
SMALL = 1e-6
"""Of a layer's weights: so little does it add that the script goes on."""
STEP = 1 / 64
"""Of the embedding's numbers."""
SCRIPT = "Your card is on its way to you. It will arrive by Monday next week, please wait."
CONTEXT = 4096
JSON = ('":▁"', '":▁{"', '",▁"', '"},▁"', '"},▁{"', '":▁["', '"],▁"', "``", "▁``", "{4}", "[0-9]")
"""What stands between the words of a tool's description."""
BLOCKS_AT_ONCE = 1 << 20
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


class Size(NamedTuple):
    """As llama.cpp names them: embedding, blocks, feed forward, heads, heads of keys and values, vocabulary."""

    width: int
    layers: int
    feed_forward: int
    heads: int
    kv_heads: int
    tokens: int


SIZES = {
    "smollm-135m": Size(576, 30, 1536, 9, 3, 49152),
    "qwen2.5-0.5b": Size(896, 24, 4864, 14, 2, 151936),
    "qwen2.5-1.5b": Size(1536, 28, 8960, 12, 2, 151936),
}


class _Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: int
    make: Callable[[], Iterator[bytes]]

    @property
    def size(self) -> int:
        count = int(numpy.prod(self.shape))
        return count * 4 if self.kind == F32 else count // BLOCK * (18 if self.kind == Q4_0 else 34)


def build_sized_gguf(path: Path, size: Size, quantisation: str) -> Path:
    """Write the file. ``quantisation``: of the layers, ``q4_0`` or ``q8_0``; the vocabulary's have eight bits."""
    tokens = _vocabulary(size.tokens)
    embedding = numpy.random.default_rng(0).integers(-127, 128, (size.tokens, size.width), numpy.int8)
    output = _script(embedding, tokens)
    tensors = [
        _Tensor("token_embd.weight", embedding.shape, Q8_0, lambda: _rows(embedding, STEP)),
        _Tensor("output.weight", output.shape, Q8_0, lambda: _rows(output, STEP)),
        _ones("output_norm.weight", size.width),
        *_layers(size, FORMATS[quantisation]),
    ]
    _write(path, _metadata(path.stem, size, tokens), tensors)
    return path


def _vocabulary(count: int) -> list[str]:
    """Each word of the agent's prompt with its beginnings, so that the tokenizer finds the way to it; then fillers."""
    text = RULES + (AGENTS / "bank.toml").read_text(encoding="utf-8")
    words = sorted(set(re.findall(r"[A-Za-z]+", text)) | {"properties", "description", "string", "object"})
    pieces = [mark + word for word in words for mark in ("▁", "", "_")] + list(JSON)
    beginnings = (piece[:end] for piece in pieces for end in range(1, len(piece) + 1))
    single = ["▁", *(chr(code) for code in range(33, 127))]
    known = dict.fromkeys((*single, *sorted(set(beginnings), key=len), *_spoken()))
    fixed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    fillers = (f"▁filler{number}" for number in itertools.count())
    return [*fixed, *itertools.islice(itertools.chain(known, fillers), count - len(fixed))]


def _spoken() -> list[str]:
    words = [f"▁{word}" for word in SCRIPT.split()]
    assert len(set(words)) == len(words), "a token can have one successor only"
    return words


def _script(embedding: npt.NDArray[numpy.int8], tokens: list[str]) -> npt.NDArray[numpy.int8]:
    """The last matrix: a token's own row points at its follower."""
    output = numpy.zeros_like(embedding)
    numbers = {token: number for number, token in enumerate(tokens)}
    spoken = _spoken()
    # What a prompt can end with: two rows of chance are at right angles, so their sum points at both.
    begin = embedding[[numbers[">"], numbers["▁"]]].astype(numpy.int16)
    output[numbers[spoken[0]]] = (begin.sum(0) // 2).astype(numpy.int8)
    for before, after in itertools.pairwise((*spoken, "</s>")):
        output[numbers[after]] = embedding[numbers[before]]
    return output


def _layers(size: Size, kind: int) -> Iterator[_Tensor]:
    keys = size.kv_heads * size.width // size.heads
    shapes = {
        "attn_q": (size.width, size.width), "attn_k": (keys, size.width), "attn_v": (keys, size.width),
        "attn_output": (size.width, size.width), "ffn_gate": (size.feed_forward, size.width),
        "ffn_up": (size.feed_forward, size.width), "ffn_down": (size.width, size.feed_forward),
    }  # fmt: skip
    for layer in range(size.layers):
        yield _ones(f"blk.{layer}.attn_norm.weight", size.width)
        yield _ones(f"blk.{layer}.ffn_norm.weight", size.width)
        for name, shape in shapes.items():
            yield _Tensor(f"blk.{layer}.{name}.weight", shape, kind, lambda shape=shape: _chance(shape, kind))


def _ones(name: str, width: int) -> _Tensor:
    return _Tensor(name, (width,), F32, lambda: iter([numpy.ones(width, numpy.float32).tobytes()]))


def _chance(shape: tuple[int, ...], kind: int) -> Iterator[bytes]:
    """Blocks of chance, with one small scale."""
    rng = numpy.random.default_rng(shape[0])
    left = int(numpy.prod(shape)) // BLOCK
    while left:
        count = min(left, BLOCKS_AT_ONCE)
        left -= count
        numbers = rng.integers(0, 256, (count, 16 if kind == Q4_0 else 32), numpy.uint8)
        yield _with_scale(numbers, SMALL)


def _rows(matrix: npt.NDArray[numpy.int8], step: float) -> Iterator[bytes]:
    blocks = matrix.reshape(-1, BLOCK).view(numpy.uint8)
    for at in range(0, len(blocks), BLOCKS_AT_ONCE):
        yield _with_scale(blocks[at : at + BLOCKS_AT_ONCE], step)


def _with_scale(numbers: npt.NDArray[numpy.uint8], scale: float) -> bytes:
    head = numpy.frombuffer(numpy.float16(scale).tobytes(), numpy.uint8)
    return bytes(numpy.concatenate([numpy.broadcast_to(head, (len(numbers), 2)), numbers], axis=1).tobytes())


def _metadata(name: str, size: Size, tokens: list[str]) -> dict[str, Any]:
    bytes_end = 259
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *([_BYTE] * 256), *([_NORMAL] * (len(tokens) - bytes_end))]
    return {
        "general.architecture": "llama",
        "general.name": name,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": size.width,
        "llama.block_count": size.layers,
        "llama.feed_forward_length": size.feed_forward,
        "llama.attention.head_count": size.heads,
        "llama.attention.head_count_kv": size.kv_heads,
        "llama.rope.dimension_count": size.width // size.heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0 if at < bytes_end else -float(at) for at in range(len(tokens))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": MARKED_TEMPLATE,
    }


def _write(path: Path, metadata: dict[str, Any], tensors: list[_Tensor]) -> None:
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += [_text(key) + _value(value) for key, value in metadata.items()]
    offset = 0
    for tensor in tensors:
        shape = tensor.shape[::-1]
        parts.append(_text(tensor.name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, tensor.kind, offset))
        offset += tensor.size + -tensor.size % 32
    head = b"".join(parts)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for tensor in tensors:
            for piece in tensor.make():
                file.write(piece)
            file.write(bytes(-tensor.size % 32))
