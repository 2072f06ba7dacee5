"""Models as large as published ones, with weights made by chance, for ``callbus bench engines`` where there are no
others: ``python -m tests.tiny_models.sized FOLDER``. What they cost is real, what they say is not.

Beside them it writes a list of models, ``models.toml``, so that the bench finds them all::

    export CALLBUS_MODELS__FOLDER=FOLDER CALLBUS_MODELS__MANIFEST=FOLDER/models.toml
    callbus bench engines
"""

from __future__ import annotations

import sys
from pathlib import Path

from ops.bench.engine_page import RANDOM

WHISPERS = ("tiny.en", "base.en", "small.en")
LANGUAGE_MODELS = (
    ("smollm-135m", "q8_0"), ("qwen2.5-0.5b", "q4_0"), ("qwen2.5-0.5b", "q8_0"), ("qwen2.5-1.5b", "q4_0"),
)  # fmt: skip
VOICE = f"{RANDOM}piper-medium"
ENTRY = """
[[model]]
name = "{name}"
engine = "{engine}"
description = "Weights made by chance: for its cost alone"
files = [{files}]
"""
WHISPER_FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.json", "preprocessor_config.json")


def entry(name: str, engine: str, files: tuple[str, ...] = ()) -> str:
    """An entry of the list; without ``files`` the model is one file."""
    written = [f'{{ url = "https://models.example.org/{file}", path = "{file}" }}' for file in files]
    one = f'{{ url = "https://models.example.org/{name}" }}'
    return ENTRY.format(name=name, engine=engine, files=", ".join(written) or one)


def build_all(folder: Path) -> Path:
    """Write every model that is not there yet, and the list; the list's path."""
    from tests.tiny_models import sized_gguf, sized_piper, sized_whisper

    folder.mkdir(parents=True, exist_ok=True)
    entries = [entry(VOICE, "piper", (f"{VOICE}.onnx", f"{VOICE}.onnx.json"))]
    if not (folder / VOICE).exists():
        sized_piper.build_sized_piper(folder / VOICE, VOICE)
    for size in WHISPERS:
        name = f"{RANDOM}whisper-{size}-int8"
        entries.append(entry(name, "faster_whisper", WHISPER_FILES))
        if not (folder / name).exists():
            sized_whisper.build_sized_whisper(folder / name, sized_whisper.SIZES[size])
    for model, quantisation in LANGUAGE_MODELS:
        name = f"{RANDOM}{model}-{quantisation}.gguf"
        entries.append(entry(name, "llama_cpp"))
        if not (folder / name).exists():
            sized_gguf.build_sized_gguf(folder / name, sized_gguf.SIZES[model], quantisation)
    listed = folder / "models.toml"
    listed.write_text("".join(entries).lstrip(), encoding="utf-8")
    return listed


if __name__ == "__main__":
    print(build_all(Path(sys.argv[1])))
