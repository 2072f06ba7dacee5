"""The folder of a Whisper model for CTranslate2, looked through before faster-whisper gets it: what lacks there, it
would fetch from the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from config.load import ConfigError

MULTILINGUAL_TOKENS = 51865
"""Whisper's vocabularies from this size on are of models that know languages."""

_NEEDED = ("model.bin", "config.json", "tokenizer.json")
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


class ModelFolderError(ConfigError):
    """The folder is no Whisper model; the text names what lacks."""


class WhisperFolder(NamedTuple):
    """What the files say of a model."""

    path: Path
    multilingual: bool


def read_folder(path: Path, setting: str) -> WhisperFolder:
    """Look through the folder of a model.

    Args:
        setting: what names it, for error texts: ``[faster_whisper] model``.

    Raises:
        ModelFolderError: files lack, or the vocabulary can't be read.
    """
    if not path.is_dir():
        raise ModelFolderError(f"{setting}: {path} is no folder")
    missing = [name for name in _NEEDED if not (path / name).is_file()]
    vocabulary = next((path / name for name in _VOCABULARIES if (path / name).is_file()), None)
    if vocabulary is None:
        missing.append(" or ".join(_VOCABULARIES))
    if missing or vocabulary is None:
        raise ModelFolderError(
            f"{setting}: {path} is no Whisper model for CTranslate2, it lacks {', '.join(missing)}; "
            "OpenAI's own files are made into one by ct2-transformers-converter"
        )
    try:
        text = vocabulary.read_text(encoding="utf-8")
        tokens = len(json.loads(text)) if vocabulary.suffix == ".json" else len(text.splitlines())
    except (UnicodeDecodeError, ValueError, TypeError) as error:
        raise ModelFolderError(f"{setting}: {vocabulary} can't be read: {error}") from error
    return WhisperFolder(path, tokens >= MULTILINGUAL_TOKENS)
