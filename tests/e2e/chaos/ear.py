"""An engine of speech recognition as somebody may write one: a provider behind a socket, that is trusted.

It is made in the asr worker, from ``[asr] engine = tests.e2e.chaos.ear:RemoteEar``.
"""

from __future__ import annotations

import base64
import json
import os
import socket
from typing import Any

import msgspec

from config.settings import AsrSection
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, Transcript
from services.asr.engines.pocketsphinx import SAMPLE_RATE_HZ

VARIABLE = "CALLBUS_TEST_EAR"
"""Where the provider is: host:port."""
SILENCE_S = 5.0


class RemoteEar:
    """A connection for each run."""

    name = "remote_ear"
    capabilities = Capabilities(sample_rates_hz=(SAMPLE_RATE_HZ,), waits=True)

    def __init__(self, section: AsrSection) -> None:
        host, _, port = os.environ[VARIABLE].partition(":")
        self._address = host, int(port)

    def warm(self) -> None:
        """See whether it is there."""
        run = self.open(ListenFor())
        run.accept(bytes(3200))
        run.finish()

    def open(self, listen_for: ListenFor) -> RemoteRun:
        return RemoteRun(self._address, listen_for)


class RemoteRun:
    """One stretch of speech. What the provider says is taken as it is."""

    def __init__(self, address: tuple[str, int], listen_for: ListenFor) -> None:
        self._socket = socket.create_connection(address, timeout=SILENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")
        self._tell({"listen_for": msgspec.to_builtins(listen_for)})

    def accept(self, pcm: bytes) -> str | None:
        self._tell({"pcm": base64.b64encode(pcm).decode()})
        partial: str | None = self._answer()["partial"]
        return partial

    def finish(self) -> Transcript:
        self._tell({"end": True})
        heard = self._answer()
        self._socket.close()
        return heard if heard is None else Transcript(heard["text"], heard["confidence"])

    def cancel(self) -> None:
        self._socket.close()

    def _tell(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _answer(self) -> Any:
        return json.loads(self._answers.readline())
