"""Bring a model onto this machine: fetch or copy its files, check them, unpack them, and give them their place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from ops.models.archive import ArchiveError, unpack
from ops.models.download import Download, DownloadError, Fetched, Limits, Wanted, hash_file
from ops.models.manifest import SCHEMES, Model, ModelFile, Unpack
from ops.models.store import Store, files_of, remove

ARCHIVES: dict[str, Unpack] = {".zip": "zip", ".tar.gz": "tar.gz", ".tgz": "tar.gz"}


class PullError(Exception):
    """A model that could not be had.

    Attributes:
        unreachable: the network is perhaps not there.
    """

    def __init__(self, text: str, *, unreachable: bool = False) -> None:
        super().__init__(text)
        self.unreachable = unreachable


class Watcher(NamedTuple):
    """Who is told what happens.

    Attributes:
        begin: a file begins: its name, its size or 0.
        progress: bytes of it here, bytes in all or 0.
        say: a sentence.
    """

    begin: Callable[[str, int], None] = lambda file, size: None
    progress: Callable[[int, int], None] = lambda done, total: None
    say: Callable[[str], None] = lambda text: None


class Puller:
    """Pulls models into one store, which the caller holds (``Store.changing``)."""

    def __init__(self, store: Store, watcher: Watcher = Watcher(), limits: Limits = Limits()) -> None:  # noqa: B008
        self._store = store
        self._watcher = watcher
        self._limits = limits

    def pull(self, model: Model, origin: str = "") -> bool:
        """Bring a model here, unless it is here and whole.

        Args:
            origin: a file, a folder or an address to take it from in place of the manifest's.

        Returns:
            False: it was here.

        Raises:
            PullError: a file can't be fetched or is not the right one, or the archive is none. Nothing of the model is
                to be seen in the store then; what was fetched stays for the next pull.
            StoreError: the record can't be read.
        """
        record = self._store.records().get(model.name)
        if self._store.is_here(model.name):
            if record is None:
                self._adopt(model)
                return False
            if not self._store.verify(model.name, record):
                return False
            self._watcher.say(f"{model.name} is here, but damaged: it is pulled again")
        known = {url: digest.sha256 for url, digest in record.sources.items()} if record else {}
        parts = self._store.part_folder(model.name)
        sources: dict[str, Fetched] = {}
        try:
            files = [(file, self._bring(model, file, parts, origin, known, sources)) for file in model.files]
            staged = self._staged(model, files, parts)
            self._store.place(model.name, staged, sources)
        except OSError as error:
            raise PullError(f"{error.filename or self._store.folder}: {error.strerror or error}") from error
        self._store.clear_parts(model.name)
        return True

    def _adopt(self, model: Model) -> None:
        """A model that was put here by hand: hold it against the manifest where that can be done, and note it."""
        found = files_of(self._store.path_of(model.name))
        for file in model.files if not model.unpack else ():
            path = found.get("" if model.is_one_file else model.target_of(file))
            if path is None:
                raise PullError(
                    f"{self._store.path_of(model.name)} was put there by hand and lacks {model.target_of(file)}"
                )
            if file.sha256 and hash_file(path).sha256 != file.sha256:
                raise PullError(
                    f"{path} was put there by hand and is not the manifest's; remove it, and `callbus models pull "
                    f"{model.name}` fetches that"
                )
        self._store.record(model.name, {})
        self._watcher.say(f"{model.name} was put here by hand; its files are noted, and verified from now on")

    def _bring(
        self,
        model: Model,
        file: ModelFile,
        parts: Path,
        origin: str,
        known: Mapping[str, str],
        sources: dict[str, Fetched],
    ) -> Path:
        """One file into the folder of parts, whole and checked."""
        source = source_of(model, file, origin)
        pin = file.sha256 or known.get(source, "")
        wanted = Wanted(source, file.size_bytes, pin)
        # Named after the file's place in the model: two files of one model may have the same last part.
        place = parts / (quote(model.target_of(file), safe="") + ".part")
        self._watcher.begin(file.basename, file.size_bytes)
        if is_address(source):
            download = Download(
                wanted, place, limits=self._limits, progress=self._watcher.progress, say=self._watcher.say
            )
            try:
                sources[source] = download.run()
            except DownloadError as error:
                raise PullError(str(error), unreachable=error.unreachable) from error
        else:
            sources[source] = self._copy(wanted, place)
        return place

    def _copy(self, wanted: Wanted, place: Path) -> Fetched:
        path = Path(wanted.url)
        if not path.is_file():
            raise PullError(f"there is no file {path}")
        place.with_name(place.name + ".json").unlink(missing_ok=True)
        shutil.copyfile(path, place)
        fetched = hash_file(place)
        self._watcher.progress(fetched.size_bytes, fetched.size_bytes)
        if wanted.size_bytes not in (0, fetched.size_bytes):
            remove(place)
            raise PullError(f"{path} has {fetched.size_bytes} bytes, and should have {wanted.size_bytes}")
        if wanted.sha256 not in ("", fetched.sha256):
            remove(place)
            raise PullError(f"{path} has the sha256 {fetched.sha256}, and should have {wanted.sha256}")
        return fetched

    def _staged(self, model: Model, files: list[tuple[ModelFile, Path]], parts: Path) -> Path:
        """The model as it will be, still among the parts."""
        if model.is_one_file:
            return files[0][1]
        staged = parts / "staged"
        remove(staged)
        if model.unpack:
            archive = files[0][1]
            self._watcher.say(f"unpacking {files[0][0].basename}")
            try:
                unpack(archive, model.unpack, staged)
            except ArchiveError as error:
                # The archive is what the checksum says, or nobody knows what it should be: it is no use to keep it.
                remove(archive)
                remove(staged)
                raise PullError(f"{files[0][0].url}: {error}") from error
            return staged
        for file, part in files:
            target = staged / model.target_of(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                # A link, so that a pull that is cut here finds its parts again.
                target.hardlink_to(part)
            except OSError:
                part.replace(target)
        return staged


def is_address(origin: str) -> bool:
    """Whether it is an address, and not a path."""
    return urlsplit(origin).scheme in SCHEMES


def source_of(model: Model, file: ModelFile, origin: str) -> str:
    """Where a file of a model comes from: its own address, or its place under ``origin``.

    Raises:
        PullError: a model of several files can't come from one file.
    """
    if not origin:
        return file.url
    if is_address(origin):
        if "@" in urlsplit(origin).netloc:
            raise PullError("--from: an address holds no user and no password")
        if origin.endswith("/"):
            return origin + _name_in(model, file)
        if len(model.files) == 1:
            return origin
        raise PullError(
            f"{model.name} has {len(model.files)} files; end the address with '/', and each is asked for there"
        )
    path = Path(origin).expanduser()
    if path.is_dir():
        found = path / _name_in(model, file)
        if model.unpack and not found.exists():
            raise PullError(
                f"there is no file {found}; if {path} is the model, unpacked, copy it into the models' folder "
                f"as {model.name}"
            )
        return str(found)
    if len(model.files) == 1:
        return str(path)
    names = ", ".join(_name_in(model, each) for each in model.files)
    raise PullError(f"{model.name} has {len(model.files)} files ({names}); give the folder that holds them")


def _name_in(model: Model, file: ModelFile) -> str:
    """What a file is called in a folder that holds all of the model: as in the model's own, where two share a name."""
    alike = sum(each.basename == file.basename for each in model.files)
    return file.basename if alike == 1 else model.target_of(file)


def unknown_model(name: str, origin: str) -> Model:
    """A model that no manifest names, from one file: an archive is unpacked, anything else is the model.

    Raises:
        PullError: it is a folder.
    """
    if not is_address(origin) and Path(origin).expanduser().is_dir():
        raise PullError(
            f"{name} stands in no manifest, and {origin} is a folder, of which nobody knows what belongs to the model: "
            f"give its path as `model`, or copy it into the models' folder as {name}"
        )
    url = origin if is_address(origin) else f"https://by.hand/{quote(Path(origin).name)}"
    path = urlsplit(url).path
    kind: Unpack = next((kind for suffix, kind in ARCHIVES.items() if path.endswith(suffix)), "")
    return Model(name=name, engine="", files=(ModelFile(url=url),), unpack=kind)


def pinned_to(model: Model, sha256: str) -> Model:
    """The model with another checksum; its size is then not known.

    Raises:
        PullError: it has several files.
    """
    if len(model.files) != 1:
        raise PullError(f"{model.name} has {len(model.files)} files; --sha256 goes with a model of one")
    file = msgspec.structs.replace(model.files[0], sha256=sha256, size_bytes=0)
    return msgspec.structs.replace(model, files=(file,))


def by_hand(model: Model, store: Store) -> list[str]:
    """How to put a model on a machine that has no network."""
    lines = ["without a network here, fetch on another machine:"]
    lines += [f"  {file.url}" for file in model.files]
    lines += ["bring them over in one folder, and then:", f"  callbus models pull {model.name} --from FOLDER"]
    return [*lines, f"the model then lies at {store.path_of(model.name)}"]
