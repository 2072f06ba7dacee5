"""Providers as pipecat's services speak to them, on this machine: OpenAI's interfaces over HTTP, Cartesia's and
Deepgram's over websockets. What each does next is set on the object; all that it was asked is kept."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import WSMsgType, web

TONE = b"\x00\x20" * 1200
"""50 ms at 24,000 Hz."""


class Providers:
    """The server. Behaviours: ``fine``, ``refuses`` (401), ``breaks`` (500), ``hangs``, ``cut``, ``rubbish``."""

    def __init__(self) -> None:
        self.behaviour = "fine"
        self.transcript = "my card is broken"
        self.interims: tuple[str, ...] = ("my", "my card")
        self.answer: list[str] = ["Of ", "course."]
        self.tool_calls: list[tuple[str, str, str]] = []
        self.pieces = 4
        self.word_s: float | None = None
        self.pause_s = 0.0
        self.seen: list[tuple[str, Any]] = []
        self.aborted = 0
        self.connections = 0
        self.url = ""

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws")

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**30)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_post("/v1/audio/speech", self._speech)
        application.router.add_post("/v1/audio/transcriptions", self._transcription)
        application.router.add_get("/tts/websocket", self._cartesia_tts)
        application.router.add_get("/stt/websocket", self._cartesia_stt)
        application.router.add_get("/v1/listen", self._deepgram)
        return application

    async def _trouble(self) -> web.Response | None:
        """What a request gets in place of an answer."""
        if self.behaviour == "hangs":
            await self._until_aborted(asyncio.sleep(30))
        if self.behaviour == "refuses":
            return web.json_response({"error": {"message": "no such key", "code": "invalid_api_key"}}, status=401)
        if self.behaviour == "breaks":
            return web.json_response({"error": {"message": "out of order"}}, status=500)
        return None

    async def _until_aborted(self, work: Any) -> None:
        try:
            await work
        except asyncio.CancelledError:
            self.aborted += 1
            raise

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(("chat", await request.json()))
        if (trouble := await self._trouble()) is not None:
            return trouble
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for delta in self._deltas():
            await response.write(f"data: {json.dumps(self._chunk(delta))}\n\n".encode())
            await self._until_aborted(asyncio.sleep(self.pause_s))
            if self.behaviour == "rubbish":
                await response.write(b"data: {not json\n\n")
            if self.behaviour == "cut":
                request.transport.close()
                return response
        usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
        await response.write(f"data: {json.dumps({**self._chunk(None), 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
        return response

    def _deltas(self) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = [{"content": text} for text in self.answer]
        for index, (identity, name, arguments) in enumerate(self.tool_calls):
            middle = len(arguments) // 2
            head = {"index": index, "id": identity, "type": "function"}
            deltas.append({"tool_calls": [{**head, "function": {"name": name, "arguments": arguments[:middle]}}]})
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": arguments[middle:]}}]})
        return deltas

    def _chunk(self, delta: dict[str, Any] | None) -> dict[str, Any]:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
        return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(("speech", await request.json()))
        if (trouble := await self._trouble()) is not None:
            return trouble
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(self.pieces):
            await response.write(TONE)
            await self._until_aborted(asyncio.sleep(self.pause_s))
            if self.behaviour == "cut":
                request.transport.close()
                return response
        return response

    async def _transcription(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        self.seen.append(("transcription", file.file.read()))
        if (trouble := await self._trouble()) is not None:
            return trouble
        if self.behaviour == "rubbish":
            return web.Response(text="<html>", content_type="text/html")
        await asyncio.sleep(self.pause_s)
        return web.json_response({"text": self.transcript})

    async def _open(self, request: web.Request) -> web.WebSocketResponse:
        if self.behaviour == "refuses":
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        return socket

    async def _cartesia_tts(self, request: web.Request) -> web.WebSocketResponse:
        socket = await self._open(request)
        speaking: dict[str, asyncio.Task[None]] = {}
        try:
            async for message in socket:
                asked = json.loads(message.data)
                self.seen.append(("cartesia", asked))
                if asked.get("cancel"):
                    self.aborted += 1
                    if task := speaking.pop(asked["context_id"], None):
                        task.cancel()
                elif asked.get("transcript", "").strip():
                    speaking[asked["context_id"]] = asyncio.create_task(
                        self._say(socket, asked["context_id"], asked["transcript"])
                    )
        finally:
            for task in speaking.values():
                task.cancel()
            self.connections -= 1
        return socket

    async def _say(self, socket: web.WebSocketResponse, context: str, text: str) -> None:
        if self.behaviour == "hangs":
            return
        if self.behaviour == "breaks":
            await socket.send_json({"type": "error", "context_id": context, "error": "secret words", "done": True})
            return
        if self.word_s is not None:
            words = {"words": text.split(), "start": [self.word_s * each for each in range(len(text.split()))]}
            await socket.send_json({"type": "timestamps", "context_id": context, "word_timestamps": words})
        for _ in range(self.pieces):
            data = base64.b64encode(TONE).decode()
            await socket.send_json({"type": "chunk", "context_id": context, "data": data})
            await asyncio.sleep(self.pause_s)
            if self.behaviour == "cut":
                await socket.close()
                return
        await socket.send_json({"type": "done", "context_id": context})

    async def _cartesia_stt(self, request: web.Request) -> web.WebSocketResponse:
        socket = await self._open(request)
        with suppress(ConnectionError):
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    await self._hear(socket, message.data, self._cartesia_interim)
                elif message.data == "finalize" and self.behaviour == "fine":
                    await socket.send_json({"type": "transcript", "text": self.transcript, "is_final": True})
        self.connections -= 1
        return socket

    async def _deepgram(self, request: web.Request) -> web.WebSocketResponse:
        socket = await self._open(request)
        with suppress(ConnectionError):
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    await self._hear(socket, message.data, self._deepgram_result)
                elif json.loads(message.data)["type"] == "Finalize" and self.behaviour == "fine":
                    await socket.send_json(self._deepgram_result(self.transcript, final=True))
                elif json.loads(message.data)["type"] == "CloseStream":
                    break
        self.connections -= 1
        return socket

    async def _hear(self, socket: web.WebSocketResponse, audio: bytes, interim: Callable[[str], Any]) -> None:
        """Each piece of sound gives the next interim text; silence gives none."""
        self.seen.append(("audio", audio))
        if self.behaviour == "cut":
            await socket.close()
        sounds = sum(1 for kind, heard in self.seen if kind == "audio" and any(heard))
        if any(audio) and sounds <= len(self.interims) and self.behaviour == "fine":
            await socket.send_json(interim(self.interims[sounds - 1]))

    @staticmethod
    def _cartesia_interim(text: str) -> dict[str, Any]:
        return {"type": "transcript", "text": text, "is_final": False}

    @staticmethod
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


@asynccontextmanager
async def serving() -> AsyncIterator[Providers]:
    """The server on a free port of this machine."""
    providers = Providers()
    runner = web.AppRunner(providers.application(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    providers.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield providers
    finally:
        await runner.cleanup()
