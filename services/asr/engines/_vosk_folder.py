"""The folder of a Vosk model, looked through before libvosk gets it: libvosk says little of what is wrong, on stderr,
and ends the process where the phones of silence are not named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from config.load import ConfigError

DEFAULT_RATE_HZ = 16000
"""Kaldi's rate where ``mfcc.conf`` says none."""
LOWEST_RATE_HZ = 8000

_STATIC = "HCLG.fst"
_DYNAMIC = ("HCLr.fst", "Gr.fst", "disambig_tid.int")
_IVECTOR = ("final.dubm", "final.mat", "global_cmvn.stats", "online_cmvn.conf", "splice.conf")
_OPTION = re.compile(r"--([\w.-]+)=(\S*)")


class ModelFolderError(ConfigError):
    """The folder is no Vosk model; the text names what lacks."""


class VoskFolder(NamedTuple):
    """What the files say of a model.

    Attributes:
        grammars: its graph can be made anew for the phrases of an agent.
        word_times: it says which phones begin words; without that libvosk counts silence to the words beside it.
    """

    path: Path
    sample_rate_hz: int
    grammars: bool
    word_times: bool


class _Layout(NamedTuple):
    """Where the files lie: models of today have folders, those of 2020 have none."""

    model: str
    features: str
    options: str
    graph: str
    boundaries: str


_LAYOUTS = (
    _Layout("am/final.mdl", "conf/mfcc.conf", "conf/model.conf", "graph", "graph/phones/word_boundary.int"),
    _Layout("final.mdl", "mfcc.conf", "", ".", "word_boundary.int"),
)


def read_folder(path: Path, setting: str) -> VoskFolder:
    """Look through the folder of a model.

    Args:
        setting: what names it, for error texts: ``[vosk] model``.

    Raises:
        ModelFolderError: files lack, or say what libvosk can't use.
    """
    if not path.is_dir():
        raise ModelFolderError(f"{setting}: {path} is no folder; unpack the archive of the model")
    layout = next((each for each in _LAYOUTS if (path / each.model).is_file()), None)
    if layout is None:
        raise ModelFolderError(f"{setting}: {path} is no Vosk model, it lacks {_LAYOUTS[0].model}{_hint(path)}")
    missing = [name for name in (layout.features, layout.options) if name and not (path / name).is_file()]
    graph = path / layout.graph
    static = (graph / _STATIC).is_file()
    if not static:
        lacking = [name for name in _DYNAMIC if not (graph / name).is_file()]
        whole = f"{layout.graph}/{_STATIC}"
        if len(lacking) == len(_DYNAMIC):
            missing.append(f"{whole} (or {', '.join(_DYNAMIC)} in its place)")
        else:
            missing.extend(f"{layout.graph}/{name}" for name in lacking)
    if (path / "ivector" / "final.ie").is_file():
        missing.extend(f"ivector/{name}" for name in _IVECTOR if not (path / "ivector" / name).is_file())
    if missing:
        raise ModelFolderError(f"{setting}: the Vosk model {path} is not whole, it lacks {', '.join(missing)}")
    if layout.options and not _options(path / layout.options).get("endpoint.silence-phones"):
        raise ModelFolderError(f"{setting}: {path / layout.options} has no --endpoint.silence-phones")
    word_times = (path / layout.boundaries).is_file()
    return VoskFolder(path, _rate_of(path / layout.features, setting), not static, word_times)


def _hint(path: Path) -> str:
    """Archives hold a folder that bears the model's name; unpacked into such a one, the model is a step deeper."""
    inside = [each for each in sorted(path.iterdir()) if any((each / layout.model).is_file() for layout in _LAYOUTS)]
    return f"; did you mean {inside[0]}?" if inside else ""


def _rate_of(features: Path, setting: str) -> int:
    value = _options(features).get("sample-frequency", str(DEFAULT_RATE_HZ))
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if rate < LOWEST_RATE_HZ or rate != int(rate):
        raise ModelFolderError(f"{setting}: {features}: --sample-frequency={value} is no rate of telephone audio")
    return int(rate)


def _options(path: Path) -> dict[str, str]:
    """The options of a Kaldi configuration file; what follows a ``#`` is a comment."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {match[1]: match[2] for line in lines if (match := _OPTION.fullmatch(line))}
