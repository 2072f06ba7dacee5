"""A voice with the layers of Piper's of medium quality, its weights made by chance: it costs what one of those costs.

It makes a noise. Layers and sizes are those of VITS as Piper trains it (text encoder, flow, HiFi-GAN decoder); in place
of the predictor of durations, which costs little, each symbol has the same length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
from onnx import TensorProto, helper, save
from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

from tests.tiny_models.tones import model_of

SAMPLE_RATE_HZ = 22050
SYMBOLS = 256
WIDTH, HEADS, ENCODER_LAYERS, FILTER = 192, 2, 6, 768
FLOWS, FLOW_LAYERS, FLOW_KERNEL = 4, 4, 5
DECODER_WIDTH = 256
UPSAMPLING = ((8, 16), (8, 16), (4, 8))
"""Rate and kernel of each step: 256 samples a frame."""
BLOCKS = ((3, (1, 2)), (5, (2, 6)), (7, (3, 12)))
"""Kernel and dilations of the decoder's residual blocks."""
FRAMES = 3
"""Of a symbol: 35 ms. Half of the symbols are pads, so a phoneme has 70 ms, as people's have."""


class _Graph:
    """Nodes of a graph in the order in which they are made; names are numbers."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._rng = numpy.random.default_rng(0)

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def weights(self, *shape: int) -> str:
        """Numbers of chance whose sums are as large as what goes in."""
        inputs = int(numpy.prod(shape[1:])) or 1
        return self.constant((self._rng.standard_normal(shape) / numpy.sqrt(inputs)).astype(numpy.float32))

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """The first output's name; others are called like it, with ``_1`` and so on behind."""
        name = f"n{len(self.nodes)}"
        names = [name, *(f"{name}_{number}" for number in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return name

    def conv(self, signal: str, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> str:
        pad = dilation * (kernel - 1) // 2
        bias = self.constant(numpy.zeros(outputs, numpy.float32))
        weights = self.weights(outputs, inputs, kernel)
        return self.add("Conv", signal, weights, bias, pads=[pad, pad], dilations=[dilation], kernel_shape=[kernel])

    def turned(self, signal: str) -> str:
        return self.add("Transpose", signal, perm=[0, 2, 1])

    def normed(self, signal: str) -> str:
        """Over the channels, which come last."""
        ones, zeros = (self.constant(make(WIDTH, numpy.float32)) for make in (numpy.ones, numpy.zeros))
        return self.add("LayerNormalization", signal, ones, zeros, axis=-1)

    def split(self, signal: str, size: int) -> tuple[str, str]:
        halves = self.add("Split", signal, self.constant([size, size]), outputs=2, axis=1)
        return halves, f"{halves}_1"


def build_sized_piper(folder: Path, name: str) -> Path:
    """Write ``name.onnx`` and ``name.onnx.json`` into ``folder``; the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = _Graph()
    audio = _decoder(graph, _flow(graph, _stretched(graph, _encoder(graph))))
    graph.nodes.append(helper.make_node("Reshape", [audio, graph.constant([1, 1, -1])], ["output"]))
    info = helper.make_tensor_value_info
    inputs = [
        info("input", TensorProto.INT64, ["batch", "phonemes"]),
        info("input_lengths", TensorProto.INT64, ["batch"]),
        info("scales", TensorProto.FLOAT, [3]),
    ]
    outputs = [info("output", TensorProto.FLOAT, ["batch", 1, "time"])]
    path = folder / f"{name}.onnx"
    save(model_of(graph.nodes, graph.constants, inputs, outputs), path)
    described = {
        "audio": {"sample_rate": SAMPLE_RATE_HZ, "quality": "medium"},
        "espeak": {"voice": "en-us"},
        "phoneme_type": "espeak",
        "num_symbols": SYMBOLS,
        "num_speakers": 1,
        "speaker_id_map": {},
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
    }
    (folder / f"{name}.onnx.json").write_text(json.dumps(described), encoding="utf-8")
    return path


def _encoder(graph: _Graph) -> str:
    """Symbols as channels, ``[1, WIDTH, symbols]``."""
    signal = graph.add("Gather", graph.weights(SYMBOLS, WIDTH), "input")
    heads, whole = graph.constant([1, -1, HEADS, WIDTH // HEADS]), graph.constant([1, -1, WIDTH])
    for _ in range(ENCODER_LAYERS):
        parts = []
        for turn in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            part = graph.add("MatMul", signal, graph.weights(WIDTH, WIDTH))
            parts.append(graph.add("Transpose", graph.add("Reshape", part, heads), perm=turn))
        query, key, value = parts
        likeness = graph.add("Softmax", graph.add("MatMul", query, key), axis=-1)
        attended = graph.add("Transpose", graph.add("MatMul", likeness, value), perm=[0, 2, 1, 3])
        attended = graph.add("MatMul", graph.add("Reshape", attended, whole), graph.weights(WIDTH, WIDTH))
        signal = graph.normed(graph.add("Add", signal, attended))
        inner = graph.add("Relu", graph.conv(graph.turned(signal), WIDTH, FILTER, 3))
        signal = graph.normed(graph.add("Add", signal, graph.turned(graph.conv(inner, FILTER, WIDTH, 3))))
    return graph.turned(signal)


def _stretched(graph: _Graph, signal: str) -> str:
    """Each symbol as frames, with some chance."""
    means, _ = graph.split(graph.conv(signal, WIDTH, 2 * WIDTH, 1), WIDTH)
    column = graph.add("Unsqueeze", means, graph.constant([3]))
    frames = graph.add("Tile", column, graph.constant([1, 1, 1, FRAMES]))
    signal = graph.add("Reshape", frames, graph.constant([1, WIDTH, -1]))
    return graph.add("Add", signal, graph.add("RandomNormalLike", signal, scale=0.667))


def _flow(graph: _Graph, signal: str) -> str:
    half = WIDTH // 2
    for _ in range(FLOWS):
        first, second = graph.split(signal, half)
        inner = graph.conv(first, half, WIDTH, 1)
        for layer in range(FLOW_LAYERS):
            gate, value = graph.split(graph.conv(inner, WIDTH, 2 * WIDTH, FLOW_KERNEL), WIDTH)
            acts = graph.add("Mul", graph.add("Tanh", gate), graph.add("Sigmoid", value))
            if layer < FLOW_LAYERS - 1:
                rest, _ = graph.split(graph.conv(acts, WIDTH, 2 * WIDTH, 1), WIDTH)
                inner = graph.add("Add", inner, rest)
            else:
                inner = graph.add("Add", inner, graph.conv(acts, WIDTH, WIDTH, 1))
        second = graph.add("Sub", second, graph.conv(inner, WIDTH, half, 1))
        signal = graph.add("Concat", second, first, axis=1)
    return signal


def _decoder(graph: _Graph, signal: str) -> str:
    width = DECODER_WIDTH
    signal = graph.conv(signal, WIDTH, width, 7)
    for rate, kernel in UPSAMPLING:
        signal = graph.add("LeakyRelu", signal, alpha=0.1)
        pad = (kernel - rate) // 2
        weights = graph.weights(width, width // 2, kernel)
        signal = graph.add("ConvTranspose", signal, weights, strides=[rate], pads=[pad, pad], kernel_shape=[kernel])
        width //= 2
        sums = []
        for kernel_size, dilations in BLOCKS:
            block = signal
            for dilation in dilations:
                inner = graph.conv(graph.add("LeakyRelu", block, alpha=0.1), width, width, kernel_size, dilation)
                block = graph.add("Add", block, inner)
            sums.append(block)
        signal = graph.add("Mul", graph.add("Sum", *sums), graph.constant(numpy.float32(1 / len(BLOCKS))))
    return graph.add("Tanh", graph.conv(graph.add("LeakyRelu", signal, alpha=0.1), width, 1, 7))
