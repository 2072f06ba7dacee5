"""A server that speaks ElevenLabs' HTTP interface: voices, streams with and without times, and what can go wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KEY = "a-key-of-the-tests"
VOICE = "21m00Tcm4TlvDq8ikWAM"
FORMATS = ("pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000")
CHARACTER_MS = 60
PIECE_MS = 100
ERRORS: dict[int, str] = {
    400: "voice_not_found",
    401: "invalid_api_key",
    404: "voice_not_found",
    429: "too_many_concurrent_requests",
    500: "internal_server_error",
}


@dataclass
class ElevenlabsServer:
    """What it does next, and what it saw. Change it at any time."""

    url: str = ""
    key: str = KEY
    permissions: bool = True
    """Whether the key may read voices."""
    status: int = 200
    """Answer of requests for speech."""
    body: bytes | None = None
    """In place of what would be answered."""
    content_type: str = ""
    cut_after_ms: int | None = None
    """Break the connection off after so much audio."""
    hang_after_ms: int | None = None
    """Give nothing more after so much audio."""
    pause_s: float = 0.0
    """Wait before each piece of audio but the first."""
    first_pause_s: float = 0.0
    odd: bool = False
    """Cut the stream where samples are not."""
    anew: bool = False
    """Count the times of each piece from its own start."""
    speech: Callable[[str, int], bytes] | None = None
    """PCM of a text at a rate; None: a tone."""
    texts: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    requests: int = 0
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody closed a connection in the middle of a stream."""
    pieces_sent: int = 0

    async def voices(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/voices"""
        if refusal := self._refuse(request):
            return refusal
        return web.json_response({"voices": [{"voice_id": VOICE, "name": "Rachel"}, {"voice_id": "x2", "name": "Ben"}]})

    async def voice(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/voices/{voice}"""
        if refusal := self._refuse(request):
            return refusal
        if request.match_info["voice"] != VOICE:
            return _error(400, "voice_not_found")
        return web.json_response({"voice_id": VOICE, "name": "Rachel"})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/text-to-speech/{voice}/stream and /stream/with-timestamps"""
        self._count(request)
        asked = await request.json()
        self.bodies.append(asked)
        self.texts.append(asked["text"])
        if request.headers.get("xi-api-key") != self.key:
            return _error(401, "invalid_api_key")
        if request.match_info["voice"] != VOICE:
            return _error(404, "voice_not_found")
        if request.query.get("output_format") not in FORMATS:
            return _error(422, "invalid_output_format", asked["text"])
        if self.body is not None:
            return web.Response(
                status=self.status, body=self.body, content_type=self.content_type or "application/octet-stream"
            )
        if self.status != 200:
            return _error(self.status, ERRORS.get(self.status, ""), asked["text"])
        timed = request.path.endswith("/with-timestamps")
        response = web.StreamResponse()
        response.content_type = self.content_type or ("application/json" if timed else "audio/mpeg")
        await asyncio.sleep(self.first_pause_s)
        await response.prepare(request)
        try:
            await self._send(response, asked["text"], int(request.query["output_format"].split("_")[1]), timed)
        except (ConnectionError, asyncio.CancelledError):
            self.broken.set()
            raise
        if self.cut_after_ms is not None:
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write_eof()
        return response

    async def _send(self, response: web.StreamResponse, text: str, rate: int, timed: bool) -> None:
        carried = b""
        for number, (pcm, alignment) in enumerate(self._pieces(text, rate)):
            if self.cut_after_ms is not None and number * PIECE_MS >= self.cut_after_ms:
                return
            if self.hang_after_ms is not None and number * PIECE_MS >= self.hang_after_ms:
                await asyncio.sleep(3600)
            if number:
                await asyncio.sleep(self.pause_s)
            if timed:
                line = {"audio_base64": base64.b64encode(pcm).decode(), "alignment": alignment}
                data = json.dumps(line).encode() + b"\n"
            else:
                data = pcm
            if self.odd:
                data, carried = carried + data[:-1], data[-1:]
            await response.write(data)
            self.pieces_sent += 1
        if carried:
            await response.write(carried)

    def _pieces(self, text: str, rate: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
        spoken = self.speech(text, rate) if self.speech is not None else b""
        total_ms = len(spoken) * 500 // rate if spoken else CHARACTER_MS * len(text)
        count = len(text)
        for begin in range(0, total_ms, PIECE_MS):
            end = min(total_ms, begin + PIECE_MS)
            inside = range(-(-begin * count // total_ms), -(-end * count // total_ms))
            zero = begin if self.anew else 0
            alignment = {
                "characters": [text[place] for place in inside],
                "character_start_times_seconds": [(total_ms * place / count - zero) / 1000 for place in inside],
                "character_end_times_seconds": [(total_ms * (place + 1) / count - zero) / 1000 for place in inside],
            }
            first, last = rate * begin // 1000, rate * end // 1000
            yield spoken[2 * first : 2 * last] or tone(first, last, rate), alignment

    def _count(self, request: web.Request) -> None:
        self.requests += 1
        self.connections.add(id(request.transport))

    def _refuse(self, request: web.Request) -> web.StreamResponse | None:
        self._count(request)
        if request.headers.get("xi-api-key") != self.key:
            return _error(401, "invalid_api_key")
        if not self.permissions:
            return _error(401, "missing_permissions")
        return None


def tone(begin: int, end: int, rate: int) -> bytes:
    """Samples of a tone of about 400 Hz."""
    period = rate // 400
    wave = struct.pack(f"<{period}h", *(int(8000 * math.sin(2 * math.pi * at / period)) for at in range(period)))
    skipped = begin % period
    return (wave * (2 + (end - begin) // period))[2 * skipped : 2 * (skipped + end - begin)]


def routes_of(server: ElevenlabsServer) -> list[web.RouteDef]:
    """Its addresses."""
    return [
        web.get("/v1/voices", server.voices),
        web.get("/v1/voices/{voice}", server.voice),
        web.post("/v1/text-to-speech/{voice}/stream", server.stream),
        web.post("/v1/text-to-speech/{voice}/stream/with-timestamps", server.stream),
    ]


@asynccontextmanager
async def elevenlabs_server() -> AsyncIterator[ElevenlabsServer]:
    """The server on a free port of this machine, for as long as it is wanted."""
    server = ElevenlabsServer()
    application = web.Application()
    application.add_routes(routes_of(server))
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


def _error(status: int, code: str, text: str = "") -> web.Response:
    """As the interface answers: its messages may repeat what was sent."""
    detail = {"status": code, "message": f"something about {text!r} and {KEY}"}
    return web.json_response({"detail": detail}, status=status)
