"""Where the model of an engine lies on this machine. What fetches it is ``callbus models pull``."""

from __future__ import annotations

import os
from pathlib import Path

from config.engine_sections import ModelsSection
from config.load import ConfigError

DEFAULT_FOLDER = Path("~/.cache/callbus/models")


class MissingModelError(ConfigError):
    """A model that the settings name is not on this machine; the text says which command fetches it."""


def models_folder(section: ModelsSection) -> Path:
    """The folder of the models; it need not exist."""
    return Path(section.folder or DEFAULT_FOLDER).expanduser()


def is_path(name: str) -> bool:
    """Whether a model's name is a path: it holds a separator, or begins with a dot or ``~``."""
    return name.startswith((".", "~")) or os.sep in name


def find_model(name: str, section: ModelsSection, *, setting: str) -> Path:
    """The file or folder of a model: a path as it is, a name in the models' folder.

    Args:
        setting: what names it, for error texts: ``[vosk] model``.

    Raises:
        MissingModelError: it is not there.
    """
    if not name:
        raise MissingModelError(f"{setting} is empty; `callbus models list` says what there is, or give a path")
    if is_path(name):
        path = Path(name).expanduser()
        if not path.exists():
            raise MissingModelError(f"{setting} = {name!r}: there is no such file or folder")
        return path
    path = models_folder(section) / name
    if not path.exists():
        raise MissingModelError(f"{setting} = {name!r} is not on this machine ({path}): callbus models pull {name}")
    return path
