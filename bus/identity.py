"""Who a process is to the NATS server, and how it knows the server: its key, its certificate, its authority.

Nothing here is ever logged but paths, names and public keys.
"""

from __future__ import annotations

import importlib.util
import ssl
from pathlib import Path
from typing import Any

from bus.errors import BusError
from config.settings import NatsSection

SEED_PREFIX = "SU"
REFUSED = "authorization violation"


class SeedError(BusError):
    """A file that should hold the seed of a NATS user and does not; the text says what is wrong with it."""


class NoTlsError(ConnectionError):
    """The server, or somebody before it, offers no TLS where it is asked for."""

    def __init__(self) -> None:
        super().__init__("it offers no TLS, and [nats] tls_ca_file asks for it: nothing is sent to it in the clear")


def user_of(settings: NatsSection, name: str) -> str:
    """The user's name: the key file's (``asr.nk``), else the first part of the connection's. Replies come below it."""
    return Path(settings.nkey_file).stem if settings.nkey_file else name.split("-")[0]


def options_of(settings: NatsSection) -> dict[str, Any]:
    """What nats-py is told about keys and TLS.

    Raises:
        BusError: a file is missing or unfit; the text names the setting.
    """
    options: dict[str, Any] = {}
    if settings.nkey_file and settings.credentials_file:
        raise BusError("[nats] nkey_file and credentials_file name two users; leave one of them empty")
    if settings.credentials_file:
        options["user_credentials"] = _credentials(settings.credentials_file)
    if settings.nkey_file:
        try:
            options["nkeys_seed_str"] = read_seed(Path(settings.nkey_file))
        except SeedError as error:
            raise BusError(f"[nats] nkey_file: {error}") from None
    context = tls_context(settings)
    if context is not None:
        options["tls"] = context
    return options


def read_seed(path: Path) -> str:
    """The seed in a file.

    Raises:
        SeedError: no such file, not to be read, or no user's seed in it.
    """
    try:
        seed = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise SeedError(f"{path} is no file; make it with: callbus keys create --out DIR") from None
    except OSError as error:
        raise SeedError(f"{path} can't be read: {error.strerror}; it must belong to whoever runs this") from None
    except UnicodeDecodeError:
        seed = ""
    if not seed.startswith(SEED_PREFIX) or not _is_seed(seed):
        raise SeedError(f"{path} holds no seed of a NATS user (one line that begins with {SEED_PREFIX})")
    return seed


def public_key_of(seed: str) -> str:
    """``U...``, which may be shown."""
    import nkeys

    pair = nkeys.from_seed(bytearray(seed.encode("ascii")))
    public = bytes(pair.public_key).decode("ascii")
    pair.wipe()
    return public


def tls_context(settings: NatsSection) -> ssl.SSLContext | None:
    """TLS 1.3, checked with our authority alone; None where no authority is set.

    Raises:
        BusError: a file is missing or unfit, or one setting lacks another.
    """
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if bool(certificate) != bool(key):
        lacking = "tls_key_file" if certificate else "tls_certificate_file"
        raise BusError(f"[nats] {lacking} is empty: a certificate and its key are given together, or neither")
    if not settings.tls_ca_file:
        if certificate:
            raise BusError("[nats] tls_certificate_file is set and tls_ca_file is not: name the servers' authority too")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load("tls_ca_file", settings.tls_ca_file, lambda path: context.load_verify_locations(cafile=path))
    if certificate:
        for setting, path in (("tls_certificate_file", certificate), ("tls_key_file", key)):
            _load(setting, path, lambda path: Path(path).read_bytes())
        _load("tls_certificate_file", certificate, lambda path: context.load_cert_chain(path, key))
    return context


def explained(error: BaseException, settings: NatsSection, user: str) -> str:
    """What an attempt to connect failed of, and what to do; empty where the error speaks for itself."""
    text = str(error)
    if REFUSED in text.lower():
        if not settings.nkey_file and not settings.credentials_file:
            return (
                f"it refuses {user!r}, which shows no key; set [nats] nkey_file (CALLBUS_NATS__NKEY_FILE) to one that "
                "`callbus keys create` made"
            )
        return (
            f"it refuses user {user!r}{_key_shown(settings)}; is it in that server's users.conf? `callbus keys create "
            "--out DIR --if-missing` writes it, then nats-server must be restarted or told to reload"
        )
    if isinstance(error, NoTlsError):
        return text
    if isinstance(error, ssl.SSLCertVerificationError):
        where = f"by {settings.tls_ca_file}" if settings.tls_ca_file else "by any authority known here; set tls_ca_file"
        return f"its certificate is not vouched for {where} ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        needs = "" if settings.tls_certificate_file else "; where it asks for certificates, set tls_certificate_file"
        return f"TLS failed ({error.reason or text}){needs}"
    return ""


def _key_shown(settings: NatsSection) -> str:
    if not settings.nkey_file:
        return ""
    return f" with the public key {public_key_of(read_seed(Path(settings.nkey_file)))}"


def _is_seed(seed: str) -> bool:
    import nkeys

    try:
        prefix, raw = nkeys.decode_seed(seed.encode("ascii"))
    except Exception:  # the package raises errors of several kinds, some of binascii
        return False
    return bool(prefix == nkeys.PREFIX_BYTE_USER and len(raw) == 32)


def _load(setting: str, path: str, how: Any) -> None:
    try:
        how(path)
    except ssl.SSLError as error:
        raise BusError(f"[nats] {setting} = {path!r} is not what it should be: {error.reason or error}") from None
    except OSError as error:
        raise BusError(f"[nats] {setting} = {path!r} can't be read: {error.strerror}") from None


def _credentials(path: str) -> str:
    if not Path(path).is_file():
        raise BusError(f"[nats] credentials_file = {path!r} is no file; mend the path, or leave it empty")
    if importlib.util.find_spec("nkeys") is None:
        raise BusError("[nats] credentials_file needs the package nkeys: pip install 'callbus[nkeys]'")
    return path
