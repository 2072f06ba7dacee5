"""Which models there are, and where each is fetched from: config/models.toml, and a file of the user's own.

A model of one file without ``path`` and ``unpack`` is that file, named as the model; every other model is a folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from config.engine_sections import ModelsSection
from config.load import ConfigError
from ops.models.store import RECORDS

DEFAULT_MANIFEST = Path(__file__).resolve().parents[2] / "config" / "models.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
SCHEMES = ("https", "http")

Unpack = Literal["", "zip", "tar.gz"]


class ManifestError(ConfigError):
    """A manifest that can't be used; the text names the file, the model and what is wrong."""


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file that is fetched.

    Attributes:
        size_bytes: of what is fetched; 0: not known.
        sha256: of what is fetched; empty: not pinned, so the first pull records it.
        path: where it goes in the model's folder; empty: the last part of the address.
    """

    url: str
    size_bytes: Annotated[int, Meta(ge=0)] = 0
    sha256: str = ""
    path: str = ""

    @property
    def basename(self) -> str:
        """The file's own name, without folders."""
        return PurePosixPath(self.path or unquote(urlsplit(self.url).path)).name


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of a manifest. ``language``: ``en``, or several: ``en, de``; empty: any."""

    name: str
    engine: str
    files: tuple[ModelFile, ...]
    licence: str = ""
    language: str = ""
    description: str = ""
    unpack: Unpack = ""

    @property
    def is_one_file(self) -> bool:
        """Whether the model is a file of the models' folder, and not a folder in it."""
        return not self.unpack and len(self.files) == 1 and not self.files[0].path

    @property
    def size_bytes(self) -> int:
        """Of everything that is fetched; 0: not known."""
        sizes = [file.size_bytes for file in self.files]
        return sum(sizes) if all(sizes) else 0

    @property
    def pinned(self) -> bool:
        """Whether the manifest holds the checksum of every file."""
        return all(file.sha256 for file in self.files)

    def target_of(self, file: ModelFile) -> str:
        """Where a file of a model that is not unpacked goes, in the model's folder."""
        return file.path or file.basename


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    model: tuple[Model, ...] = ()


def read_manifest(path: Path) -> dict[str, Model]:
    """The models of one file, by name.

    Raises:
        ManifestError: it can't be read, or a model in it is not allowed.
    """
    try:
        document = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Document)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ManifestError(f"manifest {path} can't be used: {error}") from error
    models: dict[str, Model] = {}
    for model in document.model:
        problem = problem_of(model) or ("it stands there twice" if model.name in models else "")
        if problem:
            raise ManifestError(f"manifest {path}: model {model.name!r}: {problem}")
        models[model.name] = model
    return models


def load_manifest(section: ModelsSection) -> dict[str, Model]:
    """The models that callbus knows, and those of ``[models] manifest``; of two with one name the latter's.

    Raises:
        ManifestError: as :func:`read_manifest`.
    """
    models = read_manifest(DEFAULT_MANIFEST)
    if section.manifest:
        models |= read_manifest(Path(section.manifest).expanduser())
    return dict(sorted(models.items(), key=lambda item: (item[1].engine, item[0])))


def problem_of(model: Model) -> str:
    """What is wrong with a model; empty: nothing."""
    if not NAME.fullmatch(model.name):
        return "a name is made of letters, digits, '.', '_' and '-', and begins with a letter or digit"
    if model.name.startswith(RECORDS):
        return f"{RECORDS} is the folder's own record; choose another name"
    if not model.files:
        return "it has no files"
    if model.unpack and len(model.files) != 1:
        return "what is unpacked is one file, an archive"
    for file in model.files:
        problem = _problem_of_file(file)
        if problem:
            return f"file {file.url!r}: {problem}"
    return _problem_of_targets([str(PurePosixPath(model.target_of(file))) for file in model.files])


def _problem_of_file(file: ModelFile) -> str:
    try:
        parts = urlsplit(file.url)
        usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not file.url.isprintable() or " " in file.url:
        return f"an address begins with {' or '.join(scheme + '://' for scheme in SCHEMES)}"
    if parts.username or parts.password:
        return "an address holds no user and no password"
    if not file.basename:
        return "the address names no file; give path"
    if file.sha256 and not SHA256.fullmatch(file.sha256):
        return "sha256 is 64 digits of 0-9a-f, or empty"
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or "\\" in file.path:
        return f"path {file.path!r} leads out of the model's folder"
    return ""


def _problem_of_targets(targets: Sequence[str]) -> str:
    twice = sorted({target for target in targets if targets.count(target) > 1})
    return f"two files go to {twice[0]!r}" if twice else ""
