"""The HTTP pages of a process, from a thread of their own: ``/metrics``, ``/health`` (live?), ``/ready`` (takes work?).

Served where ``[metrics] port`` is set, from the first moment of the process on. 200: yes, 503: no; the body is JSON
that says why. The thread reads what the event loop has written down, and never waits for it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from bus import metrics
from bus.health import Health
from bus.logs import get_logger
from config.settings import MetricsSection

log = get_logger(__name__)

READ_S = 5.0
"""A client that asks nothing for so long is sent away."""
CLIENTS = 16
"""So many are answered at once; more are sent away, so that no flood of them takes the process's memory."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, section: MetricsSection, health: Health) -> None:
        self.health = health
        self.address_family = socket.AF_INET6 if ":" in section.host else socket.AF_INET
        self._free = threading.BoundedSemaphore(CLIENTS)
        super().__init__((section.host, section.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("page_failed", message="a page was not delivered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_S
    server_version = "callbus"
    sys_version = ""

    def do_GET(self) -> None:
        """One page."""
        match urlsplit(self.path).path:
            case "/metrics":
                self._send(HTTPStatus.OK, *metrics.render(self.headers.get("Accept", "")))
            case "/health":
                live = self.server.health.live()
                self._send_answer(live["ok"], live)
            case "/ready":
                ready = self.server.health.ready()
                self._send_answer(ready["ready"], ready)
            case _:
                self._send(HTTPStatus.NOT_FOUND, b"the pages are /metrics, /health and /ready\n", "text/plain")

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def log_message(self, text: str, *arguments: Any) -> None:
        """Who asks is no event of the process."""

    def _send_answer(self, good: bool, answer: dict[str, Any]) -> None:
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        self._send(status, json.dumps(answer).encode() + b"\n", "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def serve(section: MetricsSection, health: Health) -> Callable[[], None]:
    """Serve the pages of this process where a port is set; what is returned ends that.

    A port that is taken is a warning and no reason to stop: the calls matter more than their figures.
    """
    if not section.port:
        return lambda: None
    try:
        server = _Server(section, health)
    except OSError as error:
        log.warning(
            "metrics_unavailable",
            message=f"no metrics and no health on {section.host}:{section.port}: {error.strerror}; each process on a "
            "machine needs its own CALLBUS_METRICS__PORT (callbus up counts up from the first)",
        )
        return lambda: None
    thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
    thread.start()
    log.info("metrics", message=f"metrics and health on http://{section.host}:{section.port}/metrics, /health, /ready")

    def close() -> None:
        server.shutdown()
        server.server_close()
        with contextlib.suppress(RuntimeError):
            thread.join()

    return close
