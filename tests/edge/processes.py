"""Edge processes of a test: started, found, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.fakes.caller import HOST

ROOT = Path(__file__).resolve().parents[2]


class EdgeProgram:
    """``python -m edge`` on free ports; its log lines are read as JSON."""

    def __init__(self, nats_url: str, directory: Path, **settings: str) -> None:
        """``settings``: keys of [edge] in lower case."""
        section = {"host": HOST, "sip_port": "0", "rtp_port_min": "0", "required_stages": "", **settings}
        environment = {f"CALLBUS_EDGE__{key.upper()}": value for key, value in section.items()}
        self._log = directory / f"edge-{time.monotonic_ns()}.log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge"],
                cwd=ROOT,
                env={**os.environ, "NATS_URL": nats_url, "CALLBUS_OWNERSHIP__DRAIN_MS": "1500", **environment},
                stderr=output,
                stdout=subprocess.DEVNULL,
            )

    def __enter__(self) -> EdgeProgram:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged so far; lines that are no JSON come as ``{"text": ...}``."""
        found = []
        for text in self._log.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(text))
            except ValueError:
                found.append({"text": text})
        return found

    def of(self, event: str) -> list[dict[str, Any]]:
        """Log lines of one event."""
        return [line for line in self.lines() if line.get("event") == event]

    def wait_for(self, event: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The first log line of an event."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := self.of(event):
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        if found := self.of(event):
            return found[0]
        raise AssertionError(f"the edge logged no {event!r}; it logged: {self.lines()}")

    @property
    def port(self) -> int:
        """The port that SIP listens on; waits for it."""
        port = self.wait_for("listening")["sip_port"]
        assert isinstance(port, int)
        return port

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)
