"""A server of chat completions that does what it is told: answer, call tools, be slow, cut, hang, or talk rubbish."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.http_server import HttpServer, cut


@dataclass
class Reply:
    """How to answer one request.

    ``deltas``: of the chunks, in order; a text stands for its content. ``pause_s``: before each chunk. ``ending``: what
    comes after them: ``done``, ``cut`` (the connection breaks), ``hang``, ``error`` (in the stream), ``old error`` (as
    vLLM sent it once), ``rubbish``, ``no reason`` (the stream ends and nobody said why), ``silent end``.
    ``status``: not 200: an error with ``body`` and no stream. ``page``: HTML in place of a stream.
    """

    deltas: list[str | dict[str, Any]] = field(default_factory=list)
    reason: str = "stop"
    pause_s: float = 0.0
    ending: str = "done"
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    page: bool = False
    refuses: tuple[str, ...] = ()


def call_piece(index: int | None, identifier: str | None, name: str | None, arguments: object) -> dict[str, Any]:
    """A delta with one piece of a tool call; None leaves a field out."""
    function = {"name": name, "arguments": arguments}
    piece = {"index": index, "id": identifier, "type": "function" if identifier else None}
    kept: dict[str, Any] = {key: value for key, value in piece.items() if value is not None}
    kept["function"] = {key: value for key, value in function.items() if value is not None}
    return {"tool_calls": [kept]}


class OpenaiServer(HttpServer):
    """Answers with ``replies`` in order; the last one again and again.

    Attributes:
        models: names that GET /models lists; None: there is no such address.
        written: chunks that were sent.
    """

    def __init__(
        self, *replies: Reply, models: list[str] | None = None, models_status: int = 200, keeps: bool = True
    ) -> None:
        super().__init__(keeps=keeps)
        self.replies = list(replies) or [Reply(["Good", " morning."])]
        self.models = models
        self.models_status = models_status
        self.written = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/models", self._models), web.post("/v1/chat/completions", self._complete)]

    def asked(self) -> list[dict[str, Any]]:
        """Bodies of the completions that were asked for."""
        return self.bodies("/v1/chat/completions")

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self.models_status != 200:
            return web.json_response({"error": {"message": "no", "code": "no"}}, status=self.models_status)
        if self.models is None:
            return web.Response(status=404, text="<html>nothing here</html>", content_type="text/html")
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        body = self.requests[-1].body
        refused = [name for name in reply.refuses if name in body]
        if refused:
            message = f"Unrecognized request argument supplied: {refused[0]}"
            return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=400)
        if reply.status != 200:
            return web.json_response(reply.body, status=reply.status, headers=reply.headers)
        if reply.page:
            return web.Response(text="<html>Welcome to nginx</html>", content_type="text/html")
        return await self._stream(request, reply, with_usage="stream_options" in body)

    async def _stream(self, request: web.Request, reply: Reply, *, with_usage: bool) -> web.StreamResponse:
        response = self.opened(web.StreamResponse(headers={"Content-Type": "text/event-stream"}))
        await response.prepare(request)
        for delta in reply.deltas:
            await asyncio.sleep(reply.pause_s)
            await self._write(response, {"delta": {"content": delta} if isinstance(delta, str) else delta})
        if reply.ending == "cut":
            cut(request)
        elif reply.ending == "hang":
            await asyncio.sleep(3600)
        elif reply.ending == "error":
            error = {"message": "CUDA: secret words", "type": "internal_error", "code": 500}
            await response.write(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
        elif reply.ending == "old error":
            error = {"object": "error", "message": "secret words", "type": "BadRequestError", "code": 400}
            await response.write(b"data: " + json.dumps(error).encode() + b"\n\n")
        elif reply.ending == "rubbish":
            await response.write(b"data: {secret words\n\n")
        elif reply.ending == "done":
            await self._write(response, {"delta": {}, "finish_reason": reply.reason})
            if with_usage:
                usage = {"prompt_tokens": 7, "completion_tokens": len(reply.deltas), "total_tokens": 9}
                await response.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
        return response

    async def _write(self, response: web.StreamResponse, choice: dict[str, Any]) -> None:
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]}
        await response.write(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n")
        self.written += 1
