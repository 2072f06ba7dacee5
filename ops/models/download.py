"""Fetch one file over HTTP into a part file, going on where an earlier try was cut.

The part file grows in place; beside it stands what the server called that version of the file (ETag, Last-Modified), so
that two versions are never joined. Standard library only: proxies come from the environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

AGENT = "callbus"
STEP_BYTES = 256 << 10
SPARE_BYTES = 32 << 20
"""Left free on the disk."""
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")

Progress = Callable[[int, int], None]
"""Bytes that are here, and bytes in all (0: the server does not say)."""


class DownloadError(Exception):
    """A file that can't be fetched; the text says why, and what mends it.

    Attributes:
        unreachable: no server was reached: perhaps this machine has no network.
    """

    def __init__(self, text: str, *, unreachable: bool = False) -> None:
        super().__init__(text)
        self.unreachable = unreachable


class Limits(NamedTuple):
    """How patient a download is.

    Attributes:
        attempts: tries in a row without ``step_bytes`` of progress.
        pause_s: before the second try; doubled each time, up to ``longest_pause_s``.
        stall_s: deadline of a connection, of an answer, and of each ``step_bytes``.
    """

    attempts: int = 5
    pause_s: float = 1.0
    longest_pause_s: float = 30.0
    stall_s: float = 30.0
    step_bytes: int = 64 << 10


class Wanted(NamedTuple):
    """What must come. ``size_bytes`` 0, ``sha256`` empty: not known."""

    url: str
    size_bytes: int = 0
    sha256: str = ""


class Fetched(NamedTuple):
    """What came."""

    size_bytes: int
    sha256: str


class Version(msgspec.Struct):
    """Which version of the file the part is of; stands beside it as JSON."""

    url: str = ""
    etag: str = ""
    last_modified: str = ""

    @property
    def validator(self) -> str:
        """For If-Range: a strong ETag, else the date; empty: the server gave neither."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class _CutError(Exception):
    """This try failed; another may not. ``unreachable``: as in :class:`DownloadError`."""

    def __init__(self, text: str, *, unreachable: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.unreachable = unreachable
        self.wait_s = wait_s


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything less."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("https", req.type):
            raise DownloadError(f"{req.full_url} leads to {newurl}, which is not https: not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Download:
    """One file. ``run`` may be called once."""

    def __init__(
        self,
        wanted: Wanted,
        part: Path,
        *,
        limits: Limits = Limits(),  # noqa: B008
        progress: Progress = lambda done, total: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``part``: where the bytes gather; its folder exists. ``say``: told of every new try."""
        self._wanted = wanted
        self._part = part
        self._version_file = part.with_name(part.name + ".json")
        self._limits = limits
        self._progress = progress
        self._say = say
        self._hash = hashlib.sha256()
        self._done = 0
        self._total = 0
        self._old_bytes = 0
        self._opener = urllib.request.build_opener(SafeRedirects)

    def run(self) -> Fetched:
        """Fetch it all, and hold it against size and checksum; the part file is whole afterwards.

        What says its version stays beside it: another run finds the whole file and asks for nothing more.

        Raises:
            DownloadError: it can't be fetched, or is not what was wanted. What is here stays for the next run, unless
                it is known to be wrong.
        """
        self._take_up_part()
        failed = 0
        while True:
            before = self._done
            try:
                self._attempt()
                return self._checked()
            except _CutError as cut:
                failed = 1 if self._done - before >= self._limits.step_bytes else failed + 1
                if failed >= self._limits.attempts:
                    raise DownloadError(f"{self._wanted.url}: {cut}", unreachable=cut.unreachable) from cut
                pause_s = min(self._limits.pause_s * 2 ** (failed - 1), self._limits.longest_pause_s)
                pause_s = max(pause_s, min(cut.wait_s, self._limits.longest_pause_s))
                self._say(f"{cut}; going on from {self._done} bytes in {pause_s:.0f} s")
                time.sleep(pause_s)

    def discard(self) -> None:
        """Remove what is here."""
        with _on_this_disk(self._part):
            self._part.unlink(missing_ok=True)
            self._version_file.unlink(missing_ok=True)
        self._hash = hashlib.sha256()
        self._done = self._old_bytes = 0

    # -- one try -----------------------------------------------------------------------------------------------------

    def _take_up_part(self) -> None:
        if not self._part.exists():
            return
        version = self._version()
        if version is None or version.url != self._wanted.url or not (version.validator or self._wanted.sha256):
            self.discard()
            return
        with self._part.open("rb") as file:
            while step := file.read(STEP_BYTES):
                self._hash.update(step)
                self._done += len(step)
        self._old_bytes = self._done

    def _version(self) -> Version | None:
        try:
            return msgspec.json.decode(self._version_file.read_bytes(), type=Version)
        except (OSError, msgspec.MsgspecError):
            return None

    def _attempt(self) -> None:
        if self._done and self._done == (self._wanted.size_bytes or self._total):
            return
        try:
            with contextlib.closing(self._opener.open(self._request(), timeout=self._limits.stall_s)) as response:
                self._begin(response)
                self._receive(response)
        except urllib.error.HTTPError as error:
            self._refused(error)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DownloadError(
                    f"{self._wanted.url}: the server's certificate is not trusted: {error.reason}"
                ) from error
            raise _CutError(f"no connection to {self._host}: {_words(error.reason)}", unreachable=True) from error
        except (http.client.HTTPException, OSError) as error:
            raise _CutError(f"the connection to {self._host} was cut: {_words(error)}") from error

    @property
    def _host(self) -> str:
        return urlsplit(self._wanted.url).netloc

    def _request(self) -> urllib.request.Request:
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
        if self._done:
            version = self._version() or Version()
            if not (version.validator or self._wanted.sha256):
                self.discard()
                return urllib.request.Request(self._wanted.url, headers=headers)
            headers["Range"] = f"bytes={self._done}-"
            if version.validator:
                headers["If-Range"] = version.validator
        return urllib.request.Request(self._wanted.url, headers=headers)

    def _begin(self, response: Any) -> None:
        """Read the head of an answer: does it go on where the part ends, or begin anew, or is it something else?"""
        headers = response.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(f"{self._wanted.url}: the server sends it encoded ({headers['Content-Encoding']})")
        if headers.get_content_type() == "text/html" and not self._wanted.url.endswith((".html", ".htm")):
            raise DownloadError(
                f"{self._wanted.url}: a web page came in place of the file; does the network ask for a login?"
            )
        found = Version(self._wanted.url, headers.get("ETag", ""), headers.get("Last-Modified", ""))
        said = headers.get("Content-Length", "")
        length = int(said) if said.isdecimal() else 0
        if response.status == 206:
            self._check_range(headers.get("Content-Range", ""), found)
        else:
            self.discard()
            if not (said.isdecimal() or response.chunked or self._wanted.size_bytes or self._wanted.sha256):
                raise DownloadError(
                    f"{self._wanted.url}: the server does not say how long the file is, so one that is cut would be "
                    "taken for whole; say what it must have: --sha256"
                )
            self._total = length
            with _on_this_disk(self._version_file):
                self._version_file.write_bytes(msgspec.json.encode(found))
        size = self._wanted.size_bytes
        if size and self._total and self._total != size:
            self.discard()
            raise DownloadError(f"{self._wanted.url}: the file there has {self._total} bytes, and should have {size}")
        missing = (self._total or size) - self._done
        free = shutil.disk_usage(self._part.parent).free
        if missing + SPARE_BYTES > free:
            text = f"{missing >> 20} MB are to come, and {free >> 20} MB are free in {self._part.parent}"
            raise DownloadError(f"{text}; free some, or set [models] folder")

    def _check_range(self, content_range: str, found: Version) -> None:
        match = CONTENT_RANGE.fullmatch(content_range.strip())
        version = self._version() or Version()
        if match is None or match[1] is None or int(match[1]) != self._done:
            self.discard()
            raise _CutError(f"the server sent another part than was asked for ({content_range or 'no Content-Range'})")
        if found.etag and version.etag and found.etag != version.etag:
            self.discard()
            raise _CutError("the file on the server has changed")
        self._total = int(match[3]) if match[3] != "*" else 0

    def _receive(self, response: Any) -> None:
        began, came = time.monotonic(), 0
        with _on_this_disk(self._part):
            opened = self._part.open("ab")
        with opened as file:
            while step := response.read1(STEP_BYTES):
                self._write(file, step)
                came += len(step)
                now = time.monotonic()
                if came >= self._limits.step_bytes:
                    began, came = now, 0
                elif now - began > self._limits.stall_s:
                    raise _CutError(f"{self._host} sent {came} bytes in {self._limits.stall_s:.0f} s")
                self._progress(self._done, self._total or self._wanted.size_bytes)
        total = self._total or self._wanted.size_bytes
        if self._done < total:
            raise _CutError(f"the connection to {self._host} was cut")

    def _write(self, file: IO[bytes], step: bytes) -> None:
        with _on_this_disk(self._part):
            file.write(step)
            file.flush()
        self._hash.update(step)
        self._done += len(step)

    def _refused(self, error: urllib.error.HTTPError) -> None:
        with error:
            if error.code == 416:
                self._range_refused(error)
                return
            if error.code in RETRIED:
                after = error.headers.get("Retry-After", "")
                wait_s = float(after) if after.isdecimal() else 0.0
                raise _CutError(f"{self._host} answers {error.code} {error.reason}", wait_s=wait_s) from error
        why = {
            401: "it asks for an account; fetch it by hand and use --from FILE",
            403: "it is not given to everybody; fetch it by hand and use --from FILE",
            404: "there is no such file; does the manifest still hold the right address?",
            410: "it is no longer there; use another address with --from URL",
        }.get(error.code, "")
        text = f"{self._wanted.url}: the server answers {error.code} {error.reason}"
        raise DownloadError(f"{text}: {why}" if why else text) from error

    def _range_refused(self, error: urllib.error.HTTPError) -> None:
        """416: the part is the whole file already, or is longer than the file is now."""
        match = CONTENT_RANGE.fullmatch(error.headers.get("Content-Range", "").strip())
        if match is not None and match[3] == str(self._done):
            self._total = self._done
            return
        self.discard()
        raise _CutError("the file on the server is shorter than what is here") from error

    # -- all of it is here -------------------------------------------------------------------------------------------

    def _checked(self) -> Fetched:
        fetched = Fetched(self._done, self._hash.hexdigest())
        wanted = self._wanted
        right_size = not wanted.size_bytes or fetched.size_bytes == wanted.size_bytes
        if right_size and wanted.sha256 in ("", fetched.sha256):
            return fetched
        resumed = self._old_bytes > 0
        self.discard()
        if resumed:
            raise _CutError("what was here from before does not fit to what came now; it is removed")
        if not right_size:
            raise DownloadError(
                f"{wanted.url}: {fetched.size_bytes} bytes came, and it should have {wanted.size_bytes}"
            )
        raise DownloadError(
            f"{wanted.url}: what came has the sha256 {fetched.sha256}, and should have {wanted.sha256}; it is removed. "
            "The file there has changed, or was changed on its way; where you trust it: --sha256"
        )


@contextlib.contextmanager
def _on_this_disk(path: Path) -> Iterator[None]:
    """What fails here is no fault of the network, and is not tried again."""
    try:
        yield
    except OSError as error:
        raise DownloadError(f"{path} can't be written: {error.strerror}") from error


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def hash_file(path: Path) -> Fetched:
    """Size and sha256 of a file."""
    size = 0
    found = hashlib.sha256()
    with path.open("rb") as file:
        while step := file.read(STEP_BYTES):
            size += len(step)
            found.update(step)
    return Fetched(size, found.hexdigest())
