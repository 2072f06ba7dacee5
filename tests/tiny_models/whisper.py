"""The smallest Whisper model that the real CTranslate2 and faster-whisper load: 1.5 MB, and it says what it is told.

No attention and no knowledge of audio: the last matrix makes of each token the one that follows it in a sentence. So
the text of any audio is that sentence, token by token through the real decoder, at a real cost that is small. It can be
made unsure of its words, or sure that nobody spoke, or never to end.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy
from ctranslate2.specs import whisper_spec
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

WIDTH = 64
POSITIONS = 1500
TEXT_POSITIONS = 448
MELS = 80
MULTILINGUAL_TOKENS = 51865
LANGUAGES = ("en", "de", "fr")

_START, _END, _PLAIN, _SILENCE = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>", "<|nospeech|>"


def build(
    folder: Path,
    sentence: str,
    *,
    no_speech: bool = False,
    unsure: bool = False,
    endless: bool = False,
    multilingual: bool = False,
) -> Path:
    """Write a model into ``folder``.

    Args:
        sentence: what it says; each word stands in it once.
        no_speech: it takes any audio for silence.
        unsure: its words are little likelier than all others.
        endless: after the last word comes the first one again.
        multilingual: its vocabulary is as large as that of models which know languages.
    """
    words = sentence.split()
    if len(set(words)) < len(words):
        raise ValueError("each word of the sentence must stand in it once: the next token depends on the last alone")
    tokens = _tokens(words, multilingual)
    numbers = {token: number for number, token in enumerate(tokens)}
    specials = tokens[numbers[_END] :]
    spec = _plain_spec(len(tokens), width=WIDTH if not multilingual else 16)
    chain = [*words, words[0] if endless else _END]
    steps = [(_START, chain[0]), (_PLAIN, chain[0]), *itertools.pairwise(chain)]
    weighted = [(numbers[token], numbers[follower], 0.05 if unsure else 1.0) for token, follower in steps]
    if no_speech:
        weighted[0] = (numbers[_START], numbers[_SILENCE], 1.0)
    spec.decoder.projection.weight = _next_tokens(spec.decoder.embeddings.weight, weighted)
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [numbers[f"<|{language}|>"] for language in LANGUAGES] if multilingual else []
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize(quantization=None)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    tokenizer.save(str(folder / "tokenizer.json"))
    features = {"feature_size": MELS, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
    (folder / "preprocessor_config.json").write_text(json.dumps(features), encoding="utf-8")
    return folder


def _tokens(words: list[str], multilingual: bool) -> list[str]:
    """Text before ``<|endoftext|>``, everything else after it: so Whisper tells text from marks."""
    marks = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", _SILENCE, _PLAIN]
    marks = [_END, _START, *([f"<|{language}|>" for language in LANGUAGES] if multilingual else ()), *marks]
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    room = MULTILINGUAL_TOKENS - len(words) - len(marks) - len(times) if multilingual else 20
    # The empty token: CTranslate2 4 tells by it that a model knows languages, earlier ones by the size.
    languages = [""] if multilingual else []
    return ["<unk>", *languages, *words, *(f"filler{number}" for number in range(room)), *marks, *times]


def _plain_spec(tokens: int, width: int) -> Any:
    """One layer each of encoder and decoder that change nothing."""
    zeros = lambda *shape: numpy.zeros(shape, numpy.float32)  # noqa: E731
    spec = whisper_spec.WhisperSpec(1, 1, 1, 1)
    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = zeros(width, MELS, 3), zeros(width)
    encoder.conv2.weight, encoder.conv2.bias = zeros(width, width, 3), zeros(width)
    encoder.position_encodings.encodings = zeros(POSITIONS, width)
    decoder.position_encodings.encodings = zeros(TEXT_POSITIONS, width)
    decoder.embeddings.weight = numpy.random.default_rng(0).standard_normal((tokens, width)).astype(numpy.float32)
    cross = decoder.layer[0].attention
    norms = [encoder.layer_norm, decoder.layer_norm, cross.layer_norm]
    linears = [(cross.linear[0], width), (cross.linear[1], 2 * width), (cross.linear[2], width)]
    for layer in (encoder.layer[0], decoder.layer[0]):
        own, ffn = layer.self_attention, layer.ffn
        norms += [own.layer_norm, ffn.layer_norm]
        linears += [(own.linear[0], 3 * width), (own.linear[1], width), (ffn.linear_0, width), (ffn.linear_1, width)]
    for norm in norms:
        norm.gamma, norm.beta = numpy.ones(width, numpy.float32), zeros(width)
    for linear, outputs in linears:
        linear.weight, linear.bias = zeros(outputs, width), zeros(outputs)
    return spec


def _next_tokens(embeddings: Any, steps: list[tuple[int, int, float]]) -> Any:
    """The last matrix: a token's own vector, normalised as the last layer does it, points at its follower.

    ``steps``: token, follower, how sure that is.
    """
    normal = (embeddings - embeddings.mean(1, keepdims=True)) / embeddings.std(1, keepdims=True)
    weight = numpy.zeros_like(embeddings)
    for token, follower, scale in steps:
        weight[follower] += scale * normal[token]
    return weight
