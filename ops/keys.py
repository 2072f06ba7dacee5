"""One key pair (nkey) per NATS user, made once and kept in files; the public halves become the users of nats.conf.

A seed is never printed, logged or put into an error text. What users may do is not kept: it is rendered anew from
``bus.permissions`` each time, so that an update of the program brings its permissions along.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nkeys

from bus import accounts, permissions
from bus.errors import BusError
from bus.identity import SeedError, public_key_of, read_seed

NAMES = (*(user.name for user in permissions.users()), "system")
USERS_FILE = "users.conf"
CLUSTER_FILE = "cluster.conf"
CLUSTER_SERVERS = ("nats-1", "nats-2", "nats-3")
STORE_KEY_BYTES = 32
_STORE_KEY = re.compile(r'^JETSTREAM_KEY: "([0-9a-f]+)"$', re.MULTILINE)
SYSTEM = "the server's own account: for `nats server`, never for callbus itself"


class KeyFileError(BusError):
    """A file that is missing, in the way, or holds no key; the text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file and the sentence about it."""

    path: Path
    sentence: str


@dataclass(frozen=True, slots=True)
class UserKey:
    """One user as it is on disk. ``defect``: what is wrong with its file, empty where nothing is."""

    name: str
    what: str
    path: Path
    public_key: str
    defect: str = ""


@dataclass(slots=True)
class KeyFolder:
    """The folder that ``callbus keys create`` fills.

    ``<user>/<user>.nk`` holds a seed (0600), ``nats/users.conf`` what nats-server is to know (0600: it holds the key
    that the store is encrypted with).

    Attributes:
        owner: numeric user that the files shall belong to; None: whoever runs this.
    """

    folder: Path
    owner: int | None = None
    made: list[MadeFile] = field(default_factory=list)

    @property
    def users_file(self) -> Path:
        return self.folder / "nats" / USERS_FILE

    def seed_file(self, name: str) -> Path:
        """Where a user's seed lies."""
        return self.folder / name / f"{name}.nk"

    def create(self, *, if_missing: bool = False, force: bool = False) -> list[MadeFile]:
        """Make what is missing; the sentences say what was made and what was kept.

        ``if_missing`` keeps what is there, ``force`` replaces it: processes and nats-server must then be restarted,
        and a store that is encrypted with the old key can't be read any more.

        Raises:
            KeyFileError: keys are there and neither was said; a file holds no key; a folder can't be written.
        """
        present = [path for path in (*map(self.seed_file, NAMES), self.users_file) if path.exists()]
        if present and not (if_missing or force):
            raise KeyFileError(
                f"{present[0]} is there already; --if-missing keeps the keys that are there, --force makes new ones"
            )
        self.made = []
        public = {name: self._seed(name, force) for name in NAMES}
        self._write_users(public, force)
        self._write_routes(force)
        return self.made

    def show(self) -> list[UserKey]:
        """Every user with its public key, or with what is wrong."""
        return [self._shown(name) for name in NAMES]

    def _seed(self, name: str, force: bool) -> str:
        path = self.seed_file(name)
        if path.exists() and not force:
            try:
                public = public_key_of(read_seed(path))
            except SeedError as error:
                raise KeyFileError(f"{error}; --force makes new keys") from None
            self._protect(path)
            self.made.append(MadeFile(path, f"kept the key of {name} in {path}"))
            return public
        seed = bytes(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)).decode("ascii")
        self._write(path, f"{seed}\n")
        self.made.append(MadeFile(path, f"made a key for {name} in {path}"))
        return public_key_of(seed)

    def _write_users(self, public: dict[str, str], force: bool) -> None:
        path = self.users_file
        before = _text_of(path) if path.exists() else ""
        known = _STORE_KEY.search(before)
        if path.exists() and not known and not force:
            raise KeyFileError(
                f"{path} names no JETSTREAM_KEY: without it an encrypted store can't be read; restore the file, or "
                "begin with an empty store and --force"
            )
        key = known[1] if known and not force else secrets.token_hex(STORE_KEY_BYTES)
        text = users_conf(public, key)
        if text == before:
            self._protect(path)
            self.made.append(MadeFile(path, f"kept users, permissions and the store's key in {path}"))
            return
        self._write(path, text)
        how = (
            "renewed users and permissions, and kept the store's key,"
            if known and not force
            else ("wrote users, permissions and a new key of the store")
        )
        self.made.append(MadeFile(path, f"{how} in {path}"))

    def _write_routes(self, force: bool) -> None:
        """What servers of a cluster know each other by."""
        path = self.folder / "nats" / CLUSTER_FILE
        if path.exists() and not force:
            self._protect(path)
            return
        password = secrets.token_hex(24)
        routes = ", ".join(f'"nats://route:{password}@{server}:6222"' for server in CLUSTER_SERVERS)
        self._write(
            path,
            "# Made by `callbus keys create`, for ops/nats/cluster. Secret. Put your own servers' names in.\n"
            f'CLUSTER_PASSWORD: "{password}"\nCLUSTER_ROUTES: [ {routes} ]\n',
        )
        self.made.append(MadeFile(path, f"made the password of a cluster's routes in {path}"))

    def _write(self, path: Path, text: str) -> None:
        """Whole or not at all, and never readable by others, not for a moment."""
        draft = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._give(path.parent)
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())  # after a power cut it is there, or nobody was told that it is
            self._give(draft)
            draft.replace(path)
        except OSError as error:
            raise KeyFileError(f"{path} can't be written: {error.strerror}; give another folder: --out DIR") from error

    def _protect(self, path: Path) -> None:
        """A file that somebody has opened to others is closed again."""
        try:
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            self._give(path.parent)
            self._give(path)
        except OSError as error:
            raise KeyFileError(f"{path} can't be protected (0600): {error.strerror}") from error

    def _give(self, path: Path) -> None:
        if self.owner is not None and path.stat().st_uid != self.owner:
            os.chown(path, self.owner, self.owner)

    def _shown(self, name: str) -> UserKey:
        path = self.seed_file(name)
        what = SYSTEM if name == "system" else permissions.user(name).what
        try:
            public = public_key_of(read_seed(path))
            mode = path.stat().st_mode & 0o777
        except (SeedError, OSError) as error:
            return UserKey(name, what, path, "", str(error))
        defect = f"{path} can be read by others (mode {mode:o}): chmod 600 {path}" if mode & 0o077 else ""
        if not defect and f'"{public}"' not in (_text_of(self.users_file) if self.users_file.exists() else ""):
            defect = f"{self.users_file} does not know this key: callbus keys create --out {self.folder} --if-missing"
        return UserKey(name, what, path, public, defect)


def users_conf(public: dict[str, str], store_key: str) -> str:
    """What nats.conf includes: the store's key, every user with its permissions, and what passes between accounts."""
    return "\n".join(
        (
            "# Made by `callbus keys create`: public keys, what each user may do, and the key of the store. Secret.",
            "# Change nothing here: the next run writes it anew. What users may do stands in docs/security.md.",
            f'JETSTREAM_KEY: "{store_key}"',
            f'SYSTEM_USERS: [ {{ nkey: "{public["system"]}" }} ]',
            *(_users_of(account, public) for account in (accounts.STORE, accounts.LIVE)),
            accounts.render(),
            "",
        )
    )


def _users_of(account: str, public: dict[str, str]) -> str:
    users = [permissions.render(user, public[user.name]) for user in permissions.users() if user.account == account]
    return "\n".join((f"USERS_OF_{account}: [", *users, "]"))


def rows_of(keys: list[UserKey]) -> Iterator[str]:
    """One line a user, for people."""
    for key in keys:
        yield f"{key.name:<8} {key.public_key or '-':<58} {key.what}"


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} can't be read: {error}") from None
