"""A Kokoro model that the real kokoro-onnx loads: phonemes in, a tone for each out, as high as the voice is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from onnx import TensorProto, helper, save

from tests.tiny_models.tones import failing_nodes, model_of, tone_nodes, work_nodes

SAMPLE_RATE_HZ = 24000
LAST_SILENT = 16
"""Pad, punctuation and space of Kokoro's vocabulary."""
STYLE = 256
LONGEST = 510
VOICES = ("af_heart", "af_sky", "bf_emma", "ef_dora", "ff_siwis", "if_sara")


def build_kokoro_model(
    folder: Path, *, timed: bool = False, work: int = 0, most: int = 0, voices: Sequence[str] = VOICES
) -> Path:
    """Write the model and its voices into ``folder``, under the names of the published files; the folder.

    Args:
        timed: the model tells the length of each phoneme, as newer exports do.
        work: multiplications of matrices for each phoneme, so that the model takes time.
        most: with more symbols than this the model fails; 0: it never does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make, info = helper.make_node, helper.make_tensor_value_info
    nodes = [
        make("ReduceMax", ["speed"], ["speed_scalar"], keepdims=0),
        make("Div", ["one", "speed_scalar"], ["scale"]),
        make("ReduceMax", ["style"], ["pitch"], keepdims=0),
    ]
    tones, constants = tone_nodes(
        "tokens", "scale", "tones", sample_rate_hz=SAMPLE_RATE_HZ, silent_to=LAST_SILENT, pitch="pitch"
    )
    nodes += tones
    audio = "tones"
    if work:
        busy, needed = work_nodes("tokens", audio, "late_tones", work)
        nodes, constants, audio = nodes + busy, constants | needed, "late_tones"
    if most:
        failing, needed = failing_nodes("tokens", audio, "some_tones", most)
        nodes, constants, audio = nodes + failing, constants | needed, "some_tones"
    nodes.append(make("Identity", [audio], ["audio"]))
    outputs: list[Any] = [info("audio", TensorProto.FLOAT, ["samples"])]
    if timed:
        nodes.append(make("Cast", ["lengths"], ["duration"], to=TensorProto.INT64))
        outputs.append(info("duration", TensorProto.INT64, [1, 1, "length"]))
    inputs = [
        info("tokens", TensorProto.INT64, [1, "length"]),
        info("style", TensorProto.FLOAT, [1, STYLE]),
        info("speed", TensorProto.FLOAT, [1]),
    ]
    save(model_of(nodes, constants, inputs, outputs), folder / "kokoro-v1.0.onnx")
    styles = {name: numpy.full((LONGEST, 1, STYLE), 50.0 * number, numpy.float32) for number, name in enumerate(voices)}
    with (folder / "voices-v1.0.bin").open("wb") as file:
        numpy.savez_compressed(file, **styles)
    return folder
