"""The folder of the models: what is in it, who may change it, and how a model comes into it whole or not at all.

A model is ``<folder>/<name>``. What is being fetched gathers in ``<folder>/.part``, and gets its name by a rename.
``<folder>/models.lock.json`` holds size and sha256 of every file that was put there, and of what it was fetched from.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ops.models.download import Fetched, hash_file

PARTS = ".part"
LOCK = ".lock"
RECORDS = "models.lock.json"


class StoreError(Exception):
    """The folder can't be used as it is; the text says why."""


class Digest(msgspec.Struct, frozen=True):
    """What a file is."""

    size_bytes: int
    sha256: str


class Record(msgspec.Struct, frozen=True):
    """One model that was put here.

    Attributes:
        sources: address -> what came from it, before unpacking.
        files: path in the model's folder -> the file; of a model of one file the path is empty.
    """

    sources: dict[str, Digest] = {}
    files: dict[str, Digest] = {}


class _Records(msgspec.Struct):
    version: int = 1
    models: dict[str, Record] = {}


class Problem(NamedTuple):
    """One file of a model that is not as it was put here."""

    path: str
    what: str


class Store:
    """One folder of models; it need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the folder: one process at a time changes it. The system lets go when the process ends.

        Raises:
            StoreError: another process holds it, or it can't be written.
        """
        try:
            (self.folder / PARTS).mkdir(parents=True, exist_ok=True)
            held = (self.folder / LOCK).open("a+", encoding="ascii")
        except OSError as error:
            raise StoreError(
                f"folder {self.folder} can't be written ({error.strerror}); give another: [models] folder"
            ) from error
        with held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held.seek(0)
                holder = held.read().strip() or "unknown"
                raise StoreError(
                    f"another `callbus models pull` works in {self.folder} (process {holder}); wait until it is done"
                ) from None
            held.truncate(0)
            held.write(str(os.getpid()))
            held.flush()
            try:
                yield
            finally:
                held.truncate(0)

    def path_of(self, name: str) -> Path:
        """Where a model is, or would be."""
        return self.folder / name

    def is_here(self, name: str) -> bool:
        """Whether a model of this name is here, whole or damaged."""
        return self.path_of(name).exists()

    def part_folder(self, name: str) -> Path:
        """Where the model gathers; made where it is missing."""
        folder = self.folder / PARTS / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def size_of(self, name: str) -> int:
        """Bytes of a model on the disk; 0 where it is not here."""
        return sum(path.stat().st_size for path in files_of(self.path_of(name)).values())

    # -- records -----------------------------------------------------------------------------------------------------

    def records(self) -> dict[str, Record]:
        """What was put here, by name.

        Raises:
            StoreError: the file that says it can't be read.
        """
        path = self.folder / RECORDS
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Records).models
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"{path} can't be read ({error}); remove it, and pull the models again") from error

    def record(self, name: str, sources: Mapping[str, Fetched]) -> Record:
        """Note a model as it lies here now."""
        return self._note(name, self.path_of(name), sources)

    def _note(self, name: str, path: Path, sources: Mapping[str, Fetched]) -> Record:
        came = {url: Digest(*fetched) for url, fetched in sources.items()}
        noted = Record(came, {key: Digest(*hash_file(file)) for key, file in files_of(path).items()})
        models = {**self.records(), name: noted}
        text = msgspec.json.format(msgspec.json.encode(_Records(models=dict(sorted(models.items())))), indent=1)
        new = self.folder / (RECORDS + ".new")
        new.write_bytes(text + b"\n")
        new.replace(self.folder / RECORDS)
        return noted

    # -- placing -----------------------------------------------------------------------------------------------------

    def place(self, name: str, staged: Path, sources: Mapping[str, Fetched]) -> Record:
        """Give a whole model its name, in place of an older one; both lie in this folder.

        The record comes first: were the process to end between the two, `verify` would say that the model is not here.
        """
        for file in files_of(staged).values():
            _to_disk(file)
        noted = self._note(name, staged, sources)
        target, old = self.path_of(name), self.folder / PARTS / (name + ".old")
        remove(old)
        if target.is_dir() or (target.exists() and staged.is_dir()):
            target.rename(old)
        staged.replace(target)
        remove(old)
        return noted

    def clear_parts(self, name: str) -> None:
        """Remove what a finished pull leaves."""
        remove(self.folder / PARTS / name)

    def names(self) -> list[str]:
        """What is here, pulled or put here by hand."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.name[0] != "." and path.name != RECORDS)

    # -- verifying ---------------------------------------------------------------------------------------------------

    def compare_sizes(self, name: str, record: Record) -> list[Problem]:
        """Hold a model's files against their recorded sizes, without reading them."""
        found = files_of(self.path_of(name))
        problems = [Problem(key or name, "is missing") for key in record.files if key not in found]
        return problems + [
            Problem(key or name, "has another size than it was put here with")
            for key, digest in record.files.items()
            if key in found and found[key].stat().st_size != digest.size_bytes
        ]

    def verify(self, name: str, record: Record) -> list[Problem]:
        """Hold a model against its record: every file is there and has its bytes. Files beside them do no harm."""
        found = files_of(self.path_of(name))
        problems = []
        for key, digest in record.files.items():
            if key not in found:
                problems.append(Problem(key or name, "is missing"))
            elif Digest(*hash_file(found[key])) != digest:
                problems.append(Problem(key or name, "is not as it was put here"))
        return problems


def files_of(path: Path) -> dict[str, Path]:
    """The files of a model by their path in its folder; the one file of a model that is a file has an empty path."""
    if path.is_file():
        return {"": path}
    return {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}


def remove(path: Path) -> None:
    """Remove a file or a folder, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
