"""A provider of speech that really speaks and hears: eSpeak NG and PocketSphinx behind OpenAI's interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from config.settings import AsrSection, TtsSection
from schemas.llm import ListenFor
from services.asr.engines.pocketsphinx import PocketSphinxEngine
from services.audio.resample import resample
from services.audio.wav import parse_wav
from services.tts.engines._espeak_library import NORMAL_WORDS_PER_MINUTE, WordEvent, espeak_library

SPEECH_HZ = 24_000
PIECE_BYTES = SPEECH_HZ // 10 * 2
STEP_MS = 20


def espeak_pcm(text: str, rate_hz: int) -> bytes:
    """A text in the voice that the agent has by default, so that who understands that one understands this one."""
    pieces: list[bytes] = []

    def take(pcm: bytes, words: list[WordEvent]) -> bool:
        pieces.append(pcm)
        return False

    library = espeak_library()
    library.speak(text, TtsSection().voice, NORMAL_WORDS_PER_MINUTE, take)
    return resample(b"".join(pieces), library.sample_rate_hz, rate_hz)


class SpeechServer:
    """POST /v1/audio/speech and /v1/audio/transcriptions, as OpenAI has them.

    Args:
        phrases: what it listens for.
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        self._engine = PocketSphinxEngine(AsrSection())
        self._listen_for = ListenFor(state="provider", phrases=tuple(dict.fromkeys(phrases)))
        self.url = ""

    async def speak(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/audio/speech"""
        pcm = espeak_pcm((await request.json())["input"], SPEECH_HZ)
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(pcm), PIECE_BYTES):
            await response.write(pcm[start : start + PIECE_BYTES])
        return response

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/audio/transcriptions"""
        file = (await request.post())["file"]
        assert isinstance(file, web.FileField)
        return web.json_response({"text": await asyncio.to_thread(self._hear, file.file.read())})

    def _hear(self, wav: bytes) -> str:
        sound = parse_wav(wav)
        rate_hz = self._engine.capabilities.sample_rates_hz[0]
        pcm = resample(sound.mono(), sound.sample_rate_hz, rate_hz)
        run = self._engine.open(self._listen_for)
        step = rate_hz * STEP_MS // 1000 * 2
        for start in range(0, len(pcm), step):
            run.accept(pcm[start : start + step])
        return run.finish().text


@asynccontextmanager
async def speech_server(phrases: Sequence[str]) -> AsyncIterator[SpeechServer]:
    """The server on a free port of this machine, for as long as it is wanted."""
    server = SpeechServer(phrases)
    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/audio/speech", server.speak)
    application.router.add_post("/v1/audio/transcriptions", server.transcribe)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
