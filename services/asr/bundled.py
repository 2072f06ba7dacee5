"""Model files that the installed pipecat wheel carries, and the onnxruntime session that runs one.

pipecat itself is not imported: that would cost half a second and 70 MB.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from services import onnx
from services.packages import MissingPackageError

EXTRA = "silero"
"""The extra that installs the wheel and what runs its models."""


def bundled_file(name: str, path: Path) -> Path:
    """Where ``path`` of the pipecat package lies on this machine. ``name``: the engine that needs it.

    Raises:
        MissingPackageError: pipecat is not installed, or this version of it has the file elsewhere.
    """
    found = importlib.util.find_spec("pipecat")
    for folder in (found.submodule_search_locations or []) if found else []:
        if (Path(folder) / path).is_file():
            return Path(folder) / path
    raise MissingPackageError(name, "pipecat-ai with its file " + path.as_posix(), EXTRA)


def open_session(name: str, path: Path) -> Any:
    """An ``onnxruntime.InferenceSession`` of one thread: a call must not take more than its share of the machine.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    return onnx.open_session(name, path, extra=EXTRA)
