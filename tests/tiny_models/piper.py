"""A voice of Piper that the real piper-tts loads: eSpeak phonemes in, a tone for each out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
from onnx import TensorProto, helper, save
from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

from tests.tiny_models.tones import failing_nodes, model_of, tone_nodes, unit_samples, work_nodes

LAST_SILENT = 3
"""Pad, begin, end and space."""
SPEAKER_HZ = 40
"""How much higher each speaker is than the one before."""


def build_piper_voice(
    folder: Path,
    name: str = "tiny",
    *,
    sample_rate_hz: int = 22050,
    speakers: int = 1,
    aligned: bool = False,
    length_scale: float = 1.0,
    work: int = 0,
    most: int = 0,
    config: dict[str, Any] | None = None,
) -> Path:
    """Write ``name.onnx`` and ``name.onnx.json`` into ``folder``; the path of the first.

    Args:
        aligned: the model tells the length of each phoneme, as patched voices do.
        work: multiplications of matrices for each phoneme, so that the voice takes time.
        most: with more symbols than this the model fails; 0: it never does.
        config: overrides of the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make, info = helper.make_node, helper.make_tensor_value_info
    nodes = [make("Gather", ["scales", "second"], ["scale"])]
    constants: dict[str, Any] = {"second": numpy.int64(1), "output_shape": [1, 1, -1]}
    inputs = [
        info("input", TensorProto.INT64, ["batch", "phonemes"]),
        info("input_lengths", TensorProto.INT64, ["batch"]),
        info("scales", TensorProto.FLOAT, [3]),
    ]
    if speakers > 1:
        inputs.append(info("sid", TensorProto.INT64, ["batch"]))
        constants |= {"first": numpy.int64(0), "speaker_step": numpy.float32(SPEAKER_HZ)}
        nodes += [
            make("Gather", ["sid", "first"], ["speaker"]),
            make("Cast", ["speaker"], ["speaker_float"], to=TensorProto.FLOAT),
            make("Mul", ["speaker_float", "speaker_step"], ["pitch"]),
        ]
    tones, needed = tone_nodes(
        "input",
        "scale",
        "tones",
        sample_rate_hz=sample_rate_hz,
        silent_to=LAST_SILENT,
        pitch="pitch" if speakers > 1 else "",
    )
    nodes, constants = nodes + tones, constants | needed
    audio = "tones"
    if work:
        busy, needed = work_nodes("input", audio, "late_tones", work)
        nodes, constants, audio = nodes + busy, constants | needed, "late_tones"
    if most:
        failing, needed = failing_nodes("input", audio, "some_tones", most)
        nodes, constants, audio = nodes + failing, constants | needed, "some_tones"
    nodes.append(make("Reshape", [audio, "output_shape"], ["output"]))
    outputs = [info("output", TensorProto.FLOAT, ["batch", 1, "time"])]
    if aligned:
        outputs.append(info("lengths", TensorProto.FLOAT, ["batch", 1, "phonemes"]))
    path = folder / f"{name}.onnx"
    save(model_of(nodes, constants, inputs, outputs), path)
    described = {
        "audio": {"sample_rate": sample_rate_hz, "quality": "test"},
        "espeak": {"voice": "en-us"},
        "phoneme_type": "espeak",
        "num_symbols": 1 + max(max(ids) for ids in DEFAULT_PHONEME_ID_MAP.values()),
        "num_speakers": speakers,
        "speaker_id_map": {f"speaker-{number}": number for number in range(speakers)} if speakers > 1 else {},
        "inference": {"noise_scale": 0.667, "length_scale": length_scale, "noise_w": 0.8},
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        "hop_length": unit_samples(sample_rate_hz),
        "language": {"code": "en_US"},
        "piper_version": "1.0.0",
    }
    (folder / f"{name}.onnx.json").write_text(json.dumps(described | (config or {})))
    return path
