"""Providers that fail when they are told to: of answers, of voices, and of transcripts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from config.settings import AsrSection
from schemas.llm import ListenFor
from services.asr.engine import Run
from services.asr.engines.pocketsphinx import PocketSphinxEngine
from tests.e2e.matrix.bank_model import MODEL, Use, answer, tokens_of
from tests.fakes.elevenlabs_server import ElevenlabsServer, routes_of
from tests.fakes.openai_server import OpenaiServer, Reply, call_piece

HOST = "127.0.0.1"
LINE_BYTES = 1 << 20
Spoil = Callable[[Reply], Reply]


class Mortal:
    """A web server that can die, as a process does: with every connection, and from then on it refuses new ones."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self._site: web.TCPSite | None = None
        self.port = 0

    async def live(self) -> None:
        """Listen, after the first time at the same port."""
        if self._site is None:
            self._site = web.TCPSite(self._runner, HOST, self.port, reuse_address=True)
            await self._site.start()
            self.port = self._runner.addresses[0][1]

    async def die(self) -> None:
        """Break everything off."""
        site, self._site = self._site, None
        if site is not None:
            await site.stop()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()


class ThinkingServer(OpenaiServer):
    """The bank's model behind chat completions. ``spoil``: makes another reply of each that holds text."""

    def __init__(self) -> None:
        super().__init__(models=[MODEL])
        self.spoil: Spoil | None = None
        self.mortal: Mortal

    async def __aenter__(self) -> ThinkingServer:
        application = web.Application(middlewares=[self._recorded])
        application.add_routes(self.routes())
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        self.mortal = Mortal(self._runner)
        await self.mortal.live()
        self.port = self.mortal.port
        return self

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        wanted = answer(self.requests[-1].body["messages"])
        if isinstance(wanted, Use):
            call = call_piece(0, "call-1", wanted.name, json.dumps(wanted.arguments))
            self.replies = [Reply([call], reason="tool_calls")]
        else:
            reply = Reply([*tokens_of(wanted)])
            self.replies = [reply if self.spoil is None else self.spoil(reply)]
        return await super()._complete(request)

    async def _stream(self, request: web.Request, reply: Reply, *, with_usage: bool) -> web.StreamResponse:
        response = await super()._stream(request, reply, with_usage=with_usage)
        if reply.ending == "death":
            await self.mortal.die()
        return response


class SpeakingServer(ElevenlabsServer):
    """ElevenLabs. ``dies``: in the place of a cut."""

    dies = False
    mortal: Mortal

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = await super().stream(request)
        if self.dies:
            await self.mortal.die()
        return response

    async def __aenter__(self) -> SpeakingServer:
        application = web.Application()
        application.add_routes(routes_of(self))
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        self.mortal = Mortal(runner)
        await self.mortal.live()
        self.url = f"http://{HOST}:{self.mortal.port}"
        self._runner = runner
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def mend(self) -> None:
        """As it was made, but for what it has seen."""
        for name in (
            "status",
            "body",
            "content_type",
            "cut_after_ms",
            "hang_after_ms",
            "pause_s",
            "first_pause_s",
            "odd",
        ):
            setattr(self, name, ElevenlabsServer.__dataclass_fields__[name].default)
        self.dies = False


@dataclasses.dataclass
class Hearing:
    """How a transcript goes wrong.

    Attributes:
        cut_after_partials: break the connection after so many texts; ``dies``: and refuse from then on.
        reply_s: before each reply; ``final_s``: before the transcript.
        hang_after_partials: say nothing more after so many.
        line: in the place of the transcript.
    """

    cut_after_partials: int | None = None
    dies: bool = False
    reply_s: float = 0.0
    final_s: float = 0.0
    cut_final: bool = False
    hang_after_partials: int | None = None
    line: bytes | None = None


class HearingServer:
    """PocketSphinx behind a socket: lines of JSON, an answer to each. See :class:`tests.e2e.chaos.ear.RemoteEar`.

    Attributes:
        fault: what goes wrong now.
        runs: how many were begun.
    """

    def __init__(self) -> None:
        self._engine = PocketSphinxEngine(AsrSection())
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.fault = Hearing()
        self.port = 0
        self.runs = 0

    async def __aenter__(self) -> HearingServer:
        await asyncio.to_thread(self._engine.warm)
        await self.live()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.die()

    async def live(self) -> None:
        """Listen, after the first time at the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, HOST, self.port, limit=LINE_BYTES, reuse_address=True
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Break everything off, and refuse from now on."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        run: Run | None = None
        partials = 0
        while line := await reader.readline():
            asked, fault = json.loads(line), self.fault
            if "listen_for" in asked:
                self.runs += 1
                run = await asyncio.to_thread(self._engine.open, msgspec.convert(asked["listen_for"], ListenFor))
                continue
            assert run is not None
            await asyncio.sleep(fault.reply_s)
            if "pcm" in asked:
                partial = await asyncio.to_thread(run.accept, base64.b64decode(asked["pcm"]))
                partials += bool(partial)
                if fault.hang_after_partials is not None and partials >= fault.hang_after_partials:
                    await asyncio.sleep(3600)
                if fault.cut_after_partials is not None and partials >= fault.cut_after_partials:
                    writer.transport.abort()
                    if fault.dies:
                        await self.die()
                    return
                said: dict[str, Any] = {"partial": partial}
                writer.write(json.dumps(said).encode() + b"\n")
            else:
                heard = await asyncio.to_thread(run.finish)
                await asyncio.sleep(fault.final_s)
                if fault.cut_final:
                    writer.transport.abort()
                    return
                said = {"text": heard.text, "confidence": heard.confidence}
                writer.write(json.dumps(said).encode() + b"\n" if fault.line is None else fault.line)
            await writer.drain()
