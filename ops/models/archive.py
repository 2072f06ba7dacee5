"""Unpack an archive that somebody else made: nothing of it may land outside the folder, or fill the disk."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

MAX_MEMBERS = 20_000
MAX_GROWTH = 40
"""Unpacked bytes per byte of the archive: models hardly shrink, so more is a trap."""
MIN_LIMIT_BYTES = 64 << 20
STEP_BYTES = 1 << 20


class ArchiveError(Exception):
    """An archive that can't be unpacked, or must not be; the text says why."""


class Member(NamedTuple):
    """A regular file of an archive: where it goes in the folder, its size as the archive says it."""

    path: PurePosixPath
    size_bytes: int
    source: zipfile.ZipInfo | tarfile.TarInfo


def unpack(archive: Path, kind: str, folder: Path) -> None:
    """Unpack into a folder that does not exist yet, without the archive's own top folder.

    Args:
        kind: ``zip`` or ``tar.gz``.

    Raises:
        ArchiveError: it is damaged, has a member that leads out of the folder or is no plain file, or is too large.
        OSError: the folder can't be written.
    """
    limit = max(MIN_LIMIT_BYTES, archive.stat().st_size * MAX_GROWTH)
    try:
        if kind == "zip":
            with zipfile.ZipFile(archive) as opened:
                _unpack(_zip_members(opened), opened.open, folder, limit)
        else:
            with tarfile.open(archive, "r:gz") as tar:
                _unpack(_tar_members(tar), tar.extractfile, folder, limit)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise ArchiveError(f"{archive.name} is no good {kind} archive: {error}") from error
    except OSError as error:
        if isinstance(error, shutil.Error) or error.errno is None:  # gzip's own errors have no number
            raise ArchiveError(f"{archive.name} is no good {kind} archive: {error}") from error
        raise


def _unpack(members: Iterator[Member], opener: object, folder: Path, limit: int) -> None:
    found = _without_top(list(members))
    if not found:
        raise ArchiveError("the archive holds no file")
    size = sum(member.size_bytes for member in found)
    if size > limit:
        raise ArchiveError(f"the archive would unpack to {size} bytes; more than {limit} is not a model")
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ArchiveError(f"unpacked it has {size >> 20} MB, and {free >> 20} MB are free in {folder.parent}")
    for member in found:
        target = folder.joinpath(*member.path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        assert callable(opener)
        with opener(member.source) as source, target.open("xb") as file:
            limit -= _copy(source, file, limit)


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> int:
    """Copy, counting what really comes: the archive's own sizes may lie."""
    done = 0
    while step := source.read(STEP_BYTES):
        done += len(step)
        if done > limit:
            raise ArchiveError("the archive unpacks to more than it says")
        target.write(step)
    return done


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for number, info in enumerate(archive.infolist()):
        _check_number(number)
        mode = info.external_attr >> 16
        if info.is_dir():
            _safe_path(info.filename)
            continue
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            raise ArchiveError(f"member {info.filename!r} is a link or a device, not a file")
        if info.flag_bits & 0x1:
            raise ArchiveError(f"member {info.filename!r} is encrypted")
        yield Member(_safe_path(info.orig_filename), info.file_size, info)


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for number, info in enumerate(archive):
        _check_number(number)
        path = _safe_path(info.name)
        if info.isdir():
            continue
        if not info.isreg():
            raise ArchiveError(f"member {info.name!r} is a link or a device, not a file")
        yield Member(path, info.size, info)


def _check_number(number: int) -> None:
    if number >= MAX_MEMBERS:
        raise ArchiveError(f"the archive has more than {MAX_MEMBERS} members")


def _safe_path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name:
        raise ArchiveError(f"member {name!r} leads out of the folder")
    return path


def _without_top(members: Sequence[Member]) -> list[Member]:
    """Without the one folder that holds everything, where there is one; no two members may go to one place."""
    tops = {member.path.parts[0] for member in members if member.path.parts}
    strip = 1 if len(tops) == 1 and all(len(member.path.parts) > 1 for member in members) else 0
    found = [member._replace(path=PurePosixPath(*member.path.parts[strip:])) for member in members]
    seen: set[PurePosixPath] = set()
    for member in found:
        if member.path in seen or not member.path.parts:
            raise ArchiveError(f"member {member.path} stands there twice, or has no name")
        seen.add(member.path)
    clash = next((path for path in seen for parent in path.parents if parent in seen), None)
    if clash is not None:
        raise ArchiveError(f"member {clash} lies in a folder that is a file")
    return found
