"""An Ollama server that does what it is told: answer, call tools, be slow, cut, hang, lack its model, fetch it."""

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

    ``messages``: of the lines, in order; a text stands for its content. ``pause_s``: before each line. ``ending``: what
    comes after them: ``done``, ``cut``, ``hang``, ``error``, ``rubbish``, ``silent end``.
    ``status``: not 200: an error.
    """

    messages: list[str | dict[str, Any]] = field(default_factory=list)
    reason: str = "stop"
    pause_s: float = 0.0
    ending: str = "done"
    status: int = 200


class OllamaServer(HttpServer):
    """Answers with ``replies`` in order; the last one again and again.

    Attributes:
        models: names of the models that it has.
        pull: lines of an answer to /api/pull; after ``success`` it has the model.
        written: lines that were sent.
    """

    def __init__(self, *replies: Reply, models: tuple[str, ...] = ("small:latest",), keeps: bool = True) -> None:
        super().__init__(keeps=keeps)
        self.replies = list(replies) or [Reply(["Good", " morning."])]
        self.models = list(models)
        self.pull: list[dict[str, Any]] = []
        self.tags_page = b""
        self.written = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/tags", self._tags),
            web.post("/api/pull", self._pull),
            web.post("/api/chat", self._chat),
        ]

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        if self.tags_page:
            return web.Response(body=self.tags_page, content_type="text/html")
        return web.json_response({"models": [{"name": name, "size": 1} for name in self.models]})

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        response = await self._opened(request)
        for line in self.pull:
            await self._write(response, line)
            if line.get("status") == "success":
                self.models.append(self.requests[-1].body["model"])
        return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = self.requests[-1].body
        name = body["model"] if ":" in body["model"] else body["model"] + ":latest"
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if name not in self.models:
            return web.json_response({"error": f"model '{name}' not found"}, status=404)
        if reply.status != 200:
            return web.json_response({"error": "secret words"}, status=reply.status)
        response = await self._opened(request)
        for message in reply.messages:
            await asyncio.sleep(reply.pause_s)
            entry = {"content": message} if isinstance(message, str) else {"content": "", **message}
            await self._write(response, {"message": {"role": "assistant", **entry}, "done": False})
        if reply.ending == "cut":
            cut(request)
        elif reply.ending == "hang":
            await asyncio.sleep(3600)
        elif reply.ending == "error":
            await self._write(response, {"error": "secret words: llama runner has terminated"})
        elif reply.ending == "rubbish":
            await response.write(b"<html>secret</html>\n")
        elif reply.ending == "done":
            counts = {"prompt_eval_count": 7, "eval_count": len(reply.messages)}
            message_now = {"role": "assistant", "content": ""}
            await self._write(response, {"message": message_now, "done": True, "done_reason": reply.reason, **counts})
        return response

    async def _opened(self, request: web.Request) -> web.StreamResponse:
        response = self.opened(web.StreamResponse(headers={"Content-Type": "application/x-ndjson"}))
        await response.prepare(request)
        return response

    async def _write(self, response: web.StreamResponse, line: dict[str, Any]) -> None:
        await response.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self.written += 1
