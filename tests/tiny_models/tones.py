"""Voices of a few kilobytes as ONNX graphs: each symbol of the input becomes a tone of its own for a fixed time.

They honour the scale of lengths, tell the length of each symbol where that is wanted, and can be made to work for as
long as a big voice does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
UNIT_MS = 5
UNITS_OF_SYMBOL = 6
"""A symbol lasts 30 ms; voices of Piper have a pad after each, so that a phoneme lasts 60 ms, as people's do."""
LOWEST_HZ = 180
STEP_HZ = 9
VOLUME = 0.3
WORK_SIZE = 96

Values = dict[str, Any]


def unit_samples(sample_rate_hz: int) -> int:
    """Samples of the unit in which lengths are counted."""
    return sample_rate_hz * UNIT_MS // 1000


def tone_nodes(
    symbols: str, scale: str, output: str, *, sample_rate_hz: int, silent_to: int, pitch: str = ""
) -> tuple[list[NodeProto], Values]:
    """Nodes from int64 symbols ``[1, P]`` to the audio ``output`` ``[P * length]``, and the constants they need.

    Args:
        scale: name of a float scalar: how much longer than normal each symbol is.
        silent_to: symbols up to this one are silence.
        pitch: name of a float scalar that is added to every pitch, in Hertz; empty: none.

    The int64 lengths ``[1, 1, P]`` in units are the tensor ``lengths``, made by the graph's only ``Ceil``.
    """
    constants: Values = {
        "units": numpy.float32(UNITS_OF_SYMBOL),
        "unit_samples": numpy.float32(unit_samples(sample_rate_hz)),
        "zero": numpy.float32(0),
        "one": numpy.float32(1),
        "silent_to": numpy.int64(silent_to),
        "volume": numpy.float32(VOLUME),
        "lowest": numpy.float32(LOWEST_HZ),
        "step": numpy.float32(STEP_HZ),
        "turn": numpy.float32(2 * numpy.pi / sample_rate_hz),
        "flat": numpy.array([-1], numpy.int64),
        "last_axis": numpy.array([2], numpy.int64),
        "middle_axis": numpy.array([1], numpy.int64),
    }
    make = helper.make_node
    nodes = [
        make("Cast", [symbols], ["as_float"], to=TensorProto.FLOAT),
        make("Mul", ["as_float", "zero"], ["zeros"]),
        make("Mul", ["units", scale], ["scaled"]),
        make("Add", ["zeros", "scaled"], ["raw_lengths"]),
        make("Unsqueeze", ["raw_lengths", "middle_axis"], ["raw_lengths_3"]),
        make("Ceil", ["raw_lengths_3"], ["lengths"]),
        make("ReduceMax", ["lengths"], ["length"], keepdims=0),
        make("Mul", ["length", "unit_samples"], ["samples"]),
        make("Range", ["zero", "samples", "one"], ["times"]),
        make("Mul", ["as_float", "step"], ["above"]),
        make("Add", ["above", "lowest"], ["hertz" if not pitch else "plain_hertz"]),
        *([make("Add", ["plain_hertz", pitch], ["hertz"])] if pitch else []),
        make("Mul", ["hertz", "turn"], ["radians"]),
        make("Unsqueeze", ["radians", "last_axis"], ["radians_3"]),
        make("Mul", ["radians_3", "times"], ["phases"]),
        make("Sin", ["phases"], ["waves"]),
        make("Greater", [symbols, "silent_to"], ["is_voiced"]),
        make("Cast", ["is_voiced"], ["voiced"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["voiced", "last_axis"], ["voiced_3"]),
        make("Mul", ["waves", "voiced_3"], ["gated"]),
        make("Mul", ["gated", "volume"], ["loud"]),
        make("Reshape", ["loud", "flat"], [output]),
    ]
    return nodes, constants


def work_nodes(symbols: str, audio: str, output: str, rounds: int) -> tuple[list[NodeProto], Values]:
    """Nodes that multiply matrices ``rounds`` times for each symbol, and give the audio on unchanged."""
    make = helper.make_node
    matrix = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            make("Identity", ["go_on"], ["go_on_out"]),
            make("MatMul", ["carried", "matrix"], ["carried_out"]),
        ],
        "work",
        [
            matrix("round", TensorProto.INT64, []),
            matrix("go_on", TensorProto.BOOL, []),
            matrix("carried", TensorProto.FLOAT, [WORK_SIZE, WORK_SIZE]),
        ],
        [
            matrix("go_on_out", TensorProto.BOOL, []),
            matrix("carried_out", TensorProto.FLOAT, [WORK_SIZE, WORK_SIZE]),
        ],
    )
    constants: Values = {
        "matrix": numpy.eye(WORK_SIZE, dtype=numpy.float32),
        "rounds": numpy.int64(rounds),
        "true": numpy.bool_(True),
        "nothing": numpy.float32(0),
    }
    nodes = [
        make("Size", [symbols], ["count"]),
        make("Mul", ["count", "rounds"], ["all_rounds"]),
        make("Loop", ["all_rounds", "true", "matrix"], ["worked"], body=body),
        make("ReduceSum", ["worked"], ["sum"], keepdims=0),
        make("Mul", ["sum", "nothing"], ["vain"]),
        make("Add", [audio, "vain"], [output]),
    ]
    return nodes, constants


def failing_nodes(symbols: str, audio: str, output: str, most: int) -> tuple[list[NodeProto], Values]:
    """Nodes that give the audio on unchanged, and fail where there are more than ``most`` symbols."""
    make = helper.make_node
    nodes = [
        make("Size", [symbols], ["size"]),
        make("Gather", ["table", "size"], ["found"]),
        make("Add", [audio, "found"], [output]),
    ]
    return nodes, {"table": numpy.zeros(most + 1, numpy.float32)}


def model_of(
    nodes: Sequence[NodeProto], constants: Values, inputs: Sequence[Any], outputs: Sequence[Any]
) -> ModelProto:
    """The checked model."""
    graph = helper.make_graph(
        list(nodes),
        "tone_voice",
        list(inputs),
        list(outputs),
        [numpy_helper.from_array(numpy.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model)
    return model
