"""nats.conf with keys of its own in a folder: for ``callbus up --secure`` and for the tests of permissions.

The folder holds what the containers have: ``keys/`` as ``callbus keys create`` makes it and ``etc/nats/nats.conf``,
which finds ``keys/nats/users.conf`` beside it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import msgspec

from bus.server import ROOT, SECURED_CONFIG
from config.settings import NatsSection
from ops.keys import KeyFolder
from ops.process import StartError

TLS_CONFIG = {"tls": ROOT / "ops" / "nats" / "tls.conf", "mutual": ROOT / "ops" / "nats" / "mutual-tls.conf"}
AUTHORITY = ROOT / "ops" / "nats" / "development-ca"
AUTHORITY_S = 30.0
_STORE_DIR = re.compile(r"^ *store_dir: .*$", re.MULTILINE)
"""The store's place is given when the server starts; it takes it once only."""


class SecuredFolder:
    """Keys, certificates and configuration of one nats-server.

    Args:
        tls: ``""``, ``tls`` (the server shows a certificate) or ``mutual`` (both sides do).
    """

    def __init__(self, folder: Path, tls: str = "") -> None:
        self._folder = folder
        self._tls = tls

    @property
    def keys(self) -> Path:
        return self._folder / "keys"

    def prepare(self) -> Path:
        """Make what is missing; the configuration to start nats-server with.

        Raises:
            StartError: the source tree's nats.conf is not there, or openssl is missing.
            KeyFileError: a key can't be read or written.
        """
        if not SECURED_CONFIG.exists():
            raise StartError(f"{SECURED_CONFIG} is missing: --secure needs callbus as it is in its source folder")
        KeyFolder(self.keys.resolve()).create(if_missing=True)
        folder = self._folder / "etc" / "nats"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "nats.conf"
        config.write_text(_STORE_DIR.sub("", SECURED_CONFIG.read_text(encoding="utf-8")), encoding="utf-8")
        if not self._tls:
            return config
        self._make_certificates()
        variant = TLS_CONFIG[self._tls]
        text = variant.read_text(encoding="utf-8").replace('"/keys/', f'"{self.keys.resolve()}/')
        config = folder / variant.name
        config.write_text(text, encoding="utf-8")
        return config

    def environment(self, user: str) -> dict[str, str]:
        """The variables that make a process this user."""
        own = self.keys.resolve() / user
        found = {"CALLBUS_NATS__NKEY_FILE": str(own / f"{user}.nk")}
        if self._tls:
            found["CALLBUS_NATS__TLS_CA_FILE"] = str(own / "ca.pem")
        if self._tls == "mutual":
            found["CALLBUS_NATS__TLS_CERTIFICATE_FILE"] = str(own / f"{user}.pem")
            found["CALLBUS_NATS__TLS_KEY_FILE"] = str(own / f"{user}.key")
        return found

    def section(self, user: str, section: NatsSection) -> NatsSection:
        """The settings that make this process that user."""
        names = {name.removeprefix("CALLBUS_NATS__").lower(): value for name, value in self.environment(user).items()}
        return msgspec.structs.replace(section, **names)

    def _make_certificates(self) -> None:
        try:
            subprocess.run(
                [str(AUTHORITY), str(self.keys)], capture_output=True, text=True, check=True, timeout=AUTHORITY_S
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or ""
            raise StartError(f"{AUTHORITY.name} could not make certificates: {error} {said}".strip()) from error
