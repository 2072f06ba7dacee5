"""Providers of speech as services of pipecat speak to them: OpenAI over HTTP, Cartesia and Deepgram over
websockets. What a provider does next is set on the object; what it was asked is kept."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from aiohttp import WSMsgType, web

MS_PER_CHARACTER = 60
PIECE_MS = 100
OPENAI_RATE_HZ = 24_000
WAV_HEADER_BYTES = 44
LOUD = 1000
"""What is not louder than this is no speech."""


class Providers:
    """All of them, as one server.

    Attributes:
        behaviour: ``fine``, ``refuses`` (status 401), ``breaks`` (500, or an error in the stream), ``hangs``, ``cut``,
            ``rubbish``.
        breaks_over: a text of more characters breaks; None: none.
        transcript, interims: what is understood of speech; each piece of sound gives the next interim text.
        confirms: a transcript comes when it is asked for.
        word_times: Cartesia tells when words begin.
        pause_s: before each piece of audio and each transcript.
        asked: what came lately: a kind, and what was sent.
        aborted: texts that nobody wanted any more, while they were spoken.
        connections: websockets that are open.
    """

    def __init__(self) -> None:
        self.behaviour = "fine"
        self.breaks_over: int | None = None
        self.transcript = "my card is broken"
        self.interims: tuple[str, ...] = ("my", "my card")
        self.confirms = True
        self.word_times = True
        self.pause_s = 0.0
        self.asked: deque[tuple[str, Any]] = deque(maxlen=64)
        self.aborted = 0
        self.connections = 0
        self.port = 0
        self._sounds = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def of_kind(self, kind: str) -> list[Any]:
        """What was sent of a kind, in order."""
        return [what for each, what in self.asked if each == kind]

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**30)
        application.router.add_post("/v1/audio/speech", self._speech)
        application.router.add_post("/v1/audio/transcriptions", self._transcription)
        application.router.add_get("/tts/websocket", self._cartesia_tts)
        application.router.add_get("/stt/websocket", self._cartesia_stt)
        application.router.add_get("/v1/listen", self._deepgram)
        return application

    def _breaks(self, text: str) -> bool:
        return self.behaviour == "breaks" or (self.breaks_over is not None and len(text) > self.breaks_over)

    async def _trouble(self, text: str = "") -> web.Response | None:
        """What a request gets in place of an answer."""
        if self.behaviour == "hangs":
            await asyncio.sleep(3600)
        if self.behaviour == "refuses":
            return web.json_response({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, status=401)
        if self._breaks(text):
            # 400 and not 500: the client of OpenAI would try that twice more.
            return web.json_response({"error": {"message": f"can't say {text}"}}, status=400)
        return None

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(("speech", asked))
        try:
            if (trouble := await self._trouble(asked["input"])) is not None:
                return trouble
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in _tone(asked["input"], OPENAI_RATE_HZ):
                await asyncio.sleep(self.pause_s)
                await response.write(piece)
                if self.behaviour == "cut":
                    assert request.transport is not None
                    request.transport.close()
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += 1
            raise
        return response

    async def _transcription(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        audio = file.file.read()
        self.asked.append(("transcription", audio))
        if (trouble := await self._trouble()) is not None:
            return trouble
        await asyncio.sleep(self.pause_s)
        if self.behaviour == "rubbish":
            return web.Response(text="<html>", content_type="text/html")
        return web.json_response({"text": self.transcript if _is_loud(audio[WAV_HEADER_BYTES:]) else ""})

    @asynccontextmanager
    async def _socket(self, request: web.Request) -> AsyncIterator[web.WebSocketResponse]:
        if self.behaviour == "refuses":
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        try:
            with suppress(ConnectionError):
                yield socket
        finally:
            self.connections -= 1

    async def _cartesia_tts(self, request: web.Request) -> web.StreamResponse:
        speaking: dict[str, asyncio.Task[None]] = {}
        async with self._socket(request) as socket:
            try:
                async for message in socket:
                    asked = json.loads(message.data)
                    self.asked.append(("cartesia", asked))
                    task = speaking.get(asked["context_id"])
                    if asked.get("cancel") and task is not None and not task.done():
                        self.aborted += 1
                        task.cancel()
                    elif asked.get("transcript", "").strip():
                        speaking[asked["context_id"]] = asyncio.create_task(self._say(socket, asked))
            finally:
                for task in speaking.values():
                    task.cancel()
        return socket

    async def _say(self, socket: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        context, text = asked["context_id"], asked["transcript"]
        if self.behaviour == "hangs":
            return
        if self._breaks(text):
            await socket.send_json({"type": "error", "context_id": context, "error": f"can't say {text}"})
            return
        if self.behaviour == "rubbish":
            await socket.send_str("{not json")
            return
        if self.word_times:
            found = list(re.finditer(r"\S+", text))
            starts = [word.start() * MS_PER_CHARACTER / 1000 for word in found]
            times = {"words": [word.group() for word in found], "start": starts}
            await socket.send_json({"type": "timestamps", "context_id": context, "word_timestamps": times})
        for piece in _tone(text, asked["output_format"]["sample_rate"]):
            await asyncio.sleep(self.pause_s)
            data = base64.b64encode(piece).decode()
            await socket.send_json({"type": "chunk", "context_id": context, "data": data})
            if self.behaviour == "cut":
                await socket.close()
                return
        await socket.send_json({"type": "done", "context_id": context})

    async def _cartesia_stt(self, request: web.Request) -> web.StreamResponse:
        def result(text: str, *, final: bool = False) -> dict[str, Any]:
            return {"type": "transcript", "text": text, "is_final": final}

        async with self._socket(request) as socket:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    await self._hear(socket, message.data, result)
                elif message.data == "finalize":
                    await self._finalize(socket, result)
        return socket

    async def _deepgram(self, request: web.Request) -> web.StreamResponse:
        async with self._socket(request) as socket:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    await self._hear(socket, message.data, _deepgram_result)
                elif json.loads(message.data)["type"] == "Finalize":
                    await self._finalize(socket, _deepgram_result)
                elif json.loads(message.data)["type"] == "CloseStream":
                    break
        return socket

    async def _hear(self, socket: web.WebSocketResponse, audio: bytes, result: Callable[..., Any]) -> None:
        self.asked.append(("audio", audio))
        if self.behaviour == "cut":
            await socket.close()
        elif self.behaviour == "rubbish":
            await socket.send_str("{not json")
        elif self.behaviour == "fine" and _is_loud(audio):
            self._sounds += 1
            if self._sounds <= len(self.interims):
                await socket.send_json(result(self.interims[self._sounds - 1]))

    async def _finalize(self, socket: web.WebSocketResponse, result: Callable[..., Any]) -> None:
        self.asked.append(("finalize", None))
        heard, self._sounds = self._sounds > 0, 0
        if self.behaviour == "fine" and self.confirms:
            await asyncio.sleep(self.pause_s)
            await socket.send_json(result(self.transcript if heard else "", final=True))


def _deepgram_result(text: str, *, final: bool = False) -> dict[str, Any]:
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": 1.0,
        "start": 0.0,
        "is_final": final,
        "speech_final": final,
        "from_finalize": final,
        "channel": {"alternatives": [{"transcript": text, "confidence": 0.9, "words": []}]},
        "metadata": {
            "request_id": "1",
            "model_info": {"name": "m", "version": "1", "arch": "a"},
            "model_uuid": "1",
        },
    }


def _tone(text: str, rate_hz: int) -> Iterator[bytes]:
    """500 Hz, in pieces."""
    total_ms = len(text) * MS_PER_CHARACTER
    half = rate_hz // 1000
    cycle = b"\x00\x20" * half + b"\x00\xe0" * half
    for begin_ms in range(0, total_ms, PIECE_MS):
        samples = rate_hz * min(PIECE_MS, total_ms - begin_ms) // 1000
        yield (cycle * (samples // half))[: 2 * samples]


def _is_loud(pcm: bytes) -> bool:
    samples = array("h", pcm[: len(pcm) // 2 * 2])
    return len(samples) > 0 and max(samples) > LOUD


@asynccontextmanager
async def serving() -> AsyncIterator[Providers]:
    """The server on a free port of this machine."""
    providers = Providers()
    runner = web.AppRunner(providers.application(), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    providers.port = runner.addresses[0][1]
    try:
        yield providers
    finally:
        await runner.cleanup()


@contextmanager
def serving_in_a_thread() -> Iterator[Providers]:
    """The server for tests that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    server = serving()
    providers: Providers = run(server.__aenter__())  # type: ignore[arg-type]
    try:
        yield providers
    finally:
        run(server.__aexit__(None, None, None))  # type: ignore[arg-type]
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
