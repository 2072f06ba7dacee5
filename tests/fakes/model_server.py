"""A server of files as they are met on the way to a model: it cuts, stalls, changes, redirects, or refuses."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

STEP = 4096


@dataclass
class Served:
    """One file, and how it is served.

    Attributes:
        ranges: whether parts can be asked for.
        cuts: per request, in order: close the connection after so many bytes of the body; then whole.
        statuses: per request, in order: answer with this status and no file; then the file.
        stall_after: stop after so many bytes, and leave the connection open.
        lengthless: say nothing of the length; the end is where the connection ends.
    """

    data: bytes = b""
    etag: str = '"1"'
    last_modified: str = ""
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"
    redirect: str = ""
    stall_after: int | None = None
    lengthless: bool = False
    pace_s: float = 0.0
    wrong_range: bool = False
    careless: bool = False
    """Sends a part of whatever is there now, without looking at If-Range."""


class Asked(NamedTuple):
    """One request."""

    path: str
    range: str
    if_range: str


class ModelServer:
    """Files by path; ``asked`` holds every request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.stopping = threading.Event()

    def put(self, path: str, data: bytes, **how: Any) -> Served:
        self.files[path] = Served(data, **how)
        return self.files[path]

    def address(self, path: str) -> str:
        return self.url + path


@contextlib.contextmanager
def model_server() -> Iterator[ModelServer]:
    """Run one on a free port of this machine."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listener.daemon_threads = True
    server = ModelServer(f"http://127.0.0.1:{listener.server_port}")
    listener.model_server = server  # type: ignore[attr-defined]
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        listener.shutdown()
        listener.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        return

    def do_GET(self) -> None:
        server: ModelServer = self.server.model_server  # type: ignore[attr-defined]
        asked = Asked(self.path, self.headers.get("Range", ""), self.headers.get("If-Range", ""))
        server.asked.append(asked)
        self.close_connection = True
        served = server.files.get(self.path)
        if served is None:
            self._refuse(404, {})
        elif served.statuses:
            self._refuse(served.statuses.pop(0), served.headers)
        elif served.redirect:
            self._refuse(302, {"Location": served.redirect})
        else:
            self._serve(served, asked, server.stopping)

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _serve(self, served: Served, asked: Asked, stopping: threading.Event) -> None:
        start, total = 0, len(served.data)
        match = re.fullmatch(r"bytes=(\d+)-", asked.range)
        same = served.careless or asked.if_range in ("", served.etag, served.last_modified)
        if served.ranges and match and same:
            start = int(match[1])
            if start >= total:
                self._refuse(416, {"Content-Range": f"bytes */{total}"})
                return
        self.send_response(206 if start else 200)
        if start:
            shown = start + 1 if served.wrong_range else start
            self.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
        if not served.lengthless:
            self.send_header("Content-Length", str(total - start))
        for name, value in (("ETag", served.etag), ("Last-Modified", served.last_modified), *served.headers.items()):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Type", served.content_type)
        self.send_header("Connection", "close")
        self.end_headers()
        self._body(served, start, stopping)

    def _body(self, served: Served, start: int, stopping: threading.Event) -> None:
        body = served.data[start:]
        if served.cuts:
            body = body[: served.cuts.pop(0)]
        sent = 0
        with contextlib.suppress(OSError):
            for at in range(0, len(body), STEP):
                step = body[at : at + STEP]
                if served.stall_after is not None:
                    step = step[: max(0, served.stall_after - sent)]
                self.wfile.write(step)
                sent += len(step)
                if served.stall_after is not None and sent >= served.stall_after:
                    stopping.wait(30)
                    return
                if served.pace_s:
                    time.sleep(served.pace_s)
