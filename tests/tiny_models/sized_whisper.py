"""A Whisper model with the dimensions of a published one, its weights made by chance: it costs what that one costs.

Its words mean nothing; each audio has the same seven, about as many tokens as a short sentence has.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from ctranslate2.specs import whisper_spec
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

MELS, POSITIONS, TEXT_POSITIONS = 80, 1500, 448
TOKENS = 51864
"""The vocabulary of Whisper's English models."""
SCRIPT = ("ba", "be", "bi", "bo", "bu", "da", "de")
SMALL = 1e-3
"""Of the weights: so little does a layer add to the row of tokens that the script goes on. int8 scales row by row."""


class Size(NamedTuple):
    """Of encoder and decoder alike."""

    layers: int
    width: int
    heads: int


SIZES = {"tiny.en": Size(4, 384, 6), "base.en": Size(6, 512, 8), "small.en": Size(12, 768, 12)}


def build_sized_whisper(folder: Path, size: Size) -> Path:
    """Write a model in int8 into ``folder``."""
    rng = numpy.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=numpy.float32) * SMALL

    def zeros(*shape: int) -> Any:
        return numpy.zeros(shape, numpy.float32)

    def set_linear(linear: Any, outputs: int, inputs: int) -> None:
        linear.weight, linear.bias = weights(outputs, inputs), zeros(outputs)

    width = size.width
    spec = whisper_spec.WhisperSpec(size.layers, size.heads, size.layers, size.heads)
    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = weights(width, MELS, 3), zeros(width)
    encoder.conv2.weight, encoder.conv2.bias = weights(width, width, 3), zeros(width)
    encoder.position_encodings.encodings = weights(POSITIONS, width)
    decoder.position_encodings.encodings = zeros(TEXT_POSITIONS, width)
    norms = [encoder.layer_norm, decoder.layer_norm]
    for layer in (*encoder.layer, *decoder.layer):
        set_linear(layer.self_attention.linear[0], 3 * width, width)
        set_linear(layer.self_attention.linear[1], width, width)
        set_linear(layer.ffn.linear_0, 4 * width, width)
        set_linear(layer.ffn.linear_1, width, 4 * width)
        norms += [layer.self_attention.layer_norm, layer.ffn.layer_norm]
    for layer in decoder.layer:
        for number, outputs in enumerate((width, 2 * width, width)):
            set_linear(layer.attention.linear[number], outputs, width)
        norms.append(layer.attention.layer_norm)
    for norm in norms:
        norm.gamma, norm.beta = numpy.ones(width, numpy.float32), zeros(width)
    tokens, specials = _tokens()
    embeddings = rng.standard_normal((len(tokens), width), dtype=numpy.float32)
    decoder.embeddings.weight = embeddings
    decoder.projection.weight = _script(embeddings, {token: number for number, token in enumerate(tokens)})
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = spec.config.suppress_ids_begin = spec.config.lang_ids = []
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    _save_tokenizer(folder, tokens, specials)
    return folder


def _tokens() -> tuple[list[str], list[str]]:
    """All tokens, and those of them that are marks."""
    marks = ["<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"]
    marks += ["<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    marks += [f"<|{step * 0.02:.2f}|>" for step in range(POSITIONS + 1)]
    words = ["<unk>", *SCRIPT]
    words += [f"w{number}" for number in range(TOKENS - len(words) - len(marks))]
    return [*words, *marks], marks


def _script(embeddings: Any, numbers: dict[str, int]) -> Any:
    """The last matrix: after each token of the script comes the next one."""
    normal = (embeddings - embeddings.mean(1, keepdims=True)) / embeddings.std(1, keepdims=True)
    weight = numpy.zeros_like(embeddings)
    chain = [*SCRIPT, "<|endoftext|>"]
    begins = [(mark, chain[0]) for mark in ("<|startoftranscript|>", "<|notimestamps|>")]
    for token, follower in (*begins, *itertools.pairwise(chain)):
        weight[numbers[follower]] += normal[numbers[token]]
    return weight


def _save_tokenizer(folder: Path, tokens: list[str], marks: list[str]) -> None:
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    tokenizer.save(str(folder / "tokenizer.json"))
    features = {"feature_size": MELS, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
    (folder / "preprocessor_config.json").write_text(json.dumps(features), encoding="utf-8")
