"""Builds the smallest GGUF files that llama.cpp loads: one that says what it is told, one that talks nonsense.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Tensors = Mapping[str, npt.NDArray[np.float32]]

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED_TEMPLATE = (
    "{{ bos_token }}{% for t in tools or [] %}{{ t | tojson }} in <tool_call>\n{% endfor %}"
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function | tojson }}{% endfor %}\n{% endfor %}<assistant>"
)
"""A template that knows tools, as Qwen's and Hermes' do."""

BOS, EOS = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_PROMPT_ENDS = (">", "?", ".", "!", ":", "▁", "<0x0A>", "<0x3E>")


def byte_words(text: str) -> list[str]:
    """A text as tokens of single bytes: each character outside ASCII lies across several."""
    return [f"<0x{byte:02X}>" for byte in text.encode()]


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Tensors) -> Path:
    """Write a file: version 3, tensors of 32-bit floats."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += [_text(key) + _value(value) for key, value in metadata.items()]
    offset, data = 0, []
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        parts.append(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset))
        written = np.ascontiguousarray(tensor, np.float32).tobytes()
        data.append(written + bytes(-len(written) % 32))
        offset += len(data[-1])
    head = b"".join(parts)
    path.write_bytes(head + bytes(-len(head) % 32) + b"".join(data))
    return path


def _text(text: str) -> bytes:
    written = text.encode()
    return struct.pack("<Q", len(written)) + written


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    kind = {str: 8, float: 6, int: 5}[type(value[0])]
    items = [_text(each) if kind == 8 else struct.pack("<f" if kind == 6 else "<i", each) for each in value]
    return struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)


def _vocabulary(words: Sequence[str], marks: Sequence[str]) -> tuple[list[str], list[int]]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *([_BYTE] * 256)]
    for more, kind in ((marks, _CONTROL), (["▁", *(chr(code) for code in range(33, 127))], _NORMAL), (words, _NORMAL)):
        new = [each for each in more if each not in tokens]
        tokens += new
        kinds += [kind] * len(new)
    return tokens, kinds


def _llama(
    path: Path, tokens: list[str], kinds: list[int], tensors: Tensors, sizes: Mapping[str, int], template: str | None
) -> Path:
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": path.stem,
        "llama.context_length": sizes["context"],
        "llama.embedding_length": sizes["width"],
        "llama.block_count": sizes["layers"],
        "llama.feed_forward_length": sizes["feed_forward"],
        "llama.attention.head_count": sizes["heads"],
        "llama.attention.head_count_kv": sizes["heads"],
        "llama.rope.dimension_count": sizes["width"] // sizes["heads"],
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0 if number < 259 else -float(number) for number in range(len(tokens))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
    }
    if template is not None:
        metadata["tokenizer.chat_template"] = template
    return write_gguf(path, metadata, tensors)


def _layers(
    tensors: dict[str, npt.NDArray[np.float32]], sizes: Mapping[str, int], rng: np.random.Generator | None
) -> None:
    width, hidden = sizes["width"], sizes["feed_forward"]

    def weights(*shape: int) -> npt.NDArray[np.float32]:
        if rng is None:
            return np.zeros(shape, np.float32)
        return (rng.standard_normal(shape) * 0.05).astype(np.float32)

    for number in range(sizes["layers"]):
        block = f"blk.{number}."
        tensors[block + "attn_norm.weight"] = tensors[block + "ffn_norm.weight"] = np.ones(width, np.float32)
        for name in ("q", "k", "v", "output"):
            tensors[f"{block}attn_{name}.weight"] = weights(width, width)
        tensors[block + "ffn_gate.weight"] = weights(hidden, width)
        tensors[block + "ffn_up.weight"] = weights(hidden, width)
        tensors[block + "ffn_down.weight"] = weights(width, hidden)


def scripted_model(
    path: Path, script: Sequence[str], *, template: str | None = TEMPLATE, context: int = 2048, ends: bool = True
) -> Path:
    """A model that says ``script``, a token for each entry and none twice, whatever it is asked, and then ends.

    ``ends`` False: after the last token it begins again with the first. Its attention and its layers are zero: the next
    token depends on the last one alone.
    """
    assert len(set(script)) == len(script), "a token can have one successor only"
    sizes = {"width": 128, "layers": 1, "feed_forward": 32, "heads": 1, "context": context}
    tokens, kinds = _vocabulary(script, ())
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((len(tokens), sizes["width"])).astype(np.float32)
    normal = embedding / np.sqrt((embedding**2).mean(1, keepdims=True))
    output = np.zeros_like(embedding)
    number = {token: index for index, token in enumerate(tokens)}
    for end in _PROMPT_ENDS:
        if end not in script:
            output[number[script[0]]] += normal[number[end]]
    for before, after in zip(script, [*script[1:], "</s>" if ends else script[0]], strict=True):
        output[number[after]] += normal[number[before]]
    tensors = {"token_embd.weight": embedding, "output.weight": output}
    tensors["output_norm.weight"] = np.ones(sizes["width"], np.float32)
    _layers(tensors, sizes, None)
    return _llama(path, tokens, kinds, tensors, sizes, template)


def random_model(
    path: Path,
    *,
    seed: int = 0,
    width: int = 64,
    layers: int = 2,
    words: int = 200,
    context: int = 4096,
    template: str | None = TEMPLATE,
    marks: Sequence[str] = (),
) -> Path:
    """A model with weights of chance. ``marks``: control tokens of its own."""
    sizes = {"width": width, "layers": layers, "feed_forward": 2 * width, "heads": 4, "context": context}
    tokens, kinds = _vocabulary([f"▁w{number}" for number in range(words)], marks)
    rng = np.random.default_rng(seed)
    embedding = (rng.standard_normal((len(tokens), width)) * 0.5).astype(np.float32)
    output = (rng.standard_normal((len(tokens), width)) * 0.5).astype(np.float32)
    tensors = {"token_embd.weight": embedding, "output.weight": output}
    tensors["output_norm.weight"] = np.ones(width, np.float32)
    _layers(tensors, sizes, rng)
    return _llama(path, tokens, kinds, tensors, sizes, template)
