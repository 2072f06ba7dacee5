"""The two files of a Piper voice: the model, and the description beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from services.tts.engine import EngineChoiceError

RATES_HZ = range(8000, 48_001)
CHINESE_MODEL = Path("g2pW") / "g2pw.onnx"


class PiperFiles(NamedTuple):
    """A voice on this machine. ``config`` is its description as it stands in the file."""

    model: Path
    config: dict[str, Any]
    sample_rate_hz: int
    speakers: int
    length_scale: float
    speaker_names: tuple[str, ...]


def find_voice(path: Path) -> PiperFiles:
    """The voice in a folder, or of a model's file.

    Raises:
        EngineChoiceError: a file is missing or unusable; the text says which.
    """
    model = _model_in(path) if path.is_dir() else path
    description = model.with_name(model.name + ".json")
    try:
        config = json.loads(description.read_text(encoding="utf-8"))
        rate, speakers = int(config["audio"]["sample_rate"]), int(config["num_speakers"])
        scale = float(config.get("inference", {}).get("length_scale", 1.0))
        names = tuple(f"{number} {name}" for name, number in config.get("speaker_id_map", {}).items())
        missing = [name for name in ("num_symbols", "espeak", "phoneme_id_map") if not config.get(name)]
    except FileNotFoundError:
        raise EngineChoiceError(
            f"[piper] model: {description} is missing: a voice is its .onnx and the .onnx.json beside it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineChoiceError(
            f"[piper] model: {description} does not describe a voice ({type(error).__name__} {error}): "
            "fetch it again with callbus models pull"
        ) from error
    if missing or rate not in RATES_HZ or not 0 < scale < 100:
        found = f"lacks {', '.join(missing)}" if missing else f"says {rate} Hz, length scale {scale}"
        raise EngineChoiceError(
            f"[piper] model: {description} {found}: voices have {RATES_HZ.start} to {RATES_HZ.stop - 1} Hz"
        )
    _refuse_downloads(model, config)
    return PiperFiles(model, config, rate, max(1, speakers), scale, names)


def model_with_alignment(path: Path) -> Path | bytes:
    """The model so changed that it tells how long each phoneme is, where the package ``onnx`` is there to change it.

    The model as it is where it tells that already, or can't.
    """
    try:
        import onnx
        from piper.patch_voice_with_alignment import add_alignment_output
    except ImportError:
        return path
    model = onnx.load(str(path))
    try:
        add_alignment_output(model)
    except ValueError:
        return path
    return bytes(model.SerializeToString())


def _model_in(folder: Path) -> Path:
    own = folder / f"{folder.name}.onnx"
    if own.is_file():
        return own
    models = sorted(folder.glob("*.onnx"))
    if len(models) != 1:
        found = f"holds {len(models)} models: name one of them" if models else "holds no .onnx file"
        raise EngineChoiceError(f"[piper] model: the folder {folder} {found}")
    return models[0]


def _refuse_downloads(model: Path, config: dict[str, Any]) -> None:
    """piper-tts would fetch the model of Chinese pronunciation by itself, unchecked, in the middle of a call."""
    wanted = model.parent / CHINESE_MODEL
    if config.get("phoneme_type") == "pinyin" and not wanted.is_file():
        raise EngineChoiceError(f"[piper] model: a Chinese voice needs {wanted}, which is not there")
