"""The engines that the contract is held against, a row each. An engine's author adds a row to ``CASES``.

Models are built when a test wants them, the smallest that the real library loads; a provider is a server on this
machine that speaks its protocol.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import NamedTuple

from config.engine_sections import ElevenlabsSection, KokoroSection, PiperSection
from config.settings import Settings, TtsSection
from services.tts.engine import Engine, load_engine


class Manner(Enum):
    """How the model behind an engine behaves."""

    PLAIN = auto()
    SLOW = auto()
    """It needs some hundredths of the time that the speech lasts."""
    STUCK = auto()
    """It does not come to an end within a test."""
    FAILING = auto()
    """It fails where a text is long."""


Make = Callable[[Path, Manner], AbstractAsyncContextManager[Engine]]


class EngineCase(NamedTuple):
    """One row.

    Attributes:
        name: of the row, and of its folder.
        make: the engine with such a model, warm; closed behind it. The folder is for its files and lasts.
        manners: those that ``make`` can do.
        rate_hz: what its capabilities must say.
        word_times: so too.
        needs: modules without which it can't be had, and what installs them.
        spends: whether its runs are worth counting over hundreds of them: one row for each engine is enough.
    """

    name: str
    make: Make
    manners: frozenset[Manner]
    rate_hz: int
    word_times: bool
    needs: tuple[str, ...] = ()
    extra: str = ""
    spends: bool = True

    @property
    def missing(self) -> str:
        """Why it can't be had on this machine; empty: it can."""
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"needs {', '.join(absent)}: pip install 'callbus[{self.extra}]'" if absent else ""


@asynccontextmanager
async def warmed(name: str, settings: Settings) -> AsyncIterator[Engine]:
    """An engine that is ready; closed behind it."""
    engine = load_engine(name, settings.tts, settings)
    await engine.warm()
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def embedded(folder: Path, manner: Manner, *, name: str) -> AsyncIterator[Engine]:
    async with warmed(name, Settings(tts=TtsSection(engine=name))) as engine:
        yield engine


WORK = {Manner.PLAIN: 0, Manner.SLOW: 60, Manner.STUCK: 15_000, Manner.FAILING: 0}
"""Multiplications of matrices for each symbol: 15 to 40 us each."""
MOST = 250
"""Symbols with which a failing model still speaks: a sentence or two of those that an engine warms itself with."""


@asynccontextmanager
async def piper(folder: Path, manner: Manner, *, rate_hz: int, aligned: bool) -> AsyncIterator[Engine]:
    from tests.tiny_models.piper import build_piper_voice

    path = folder / f"{manner.name}.onnx"
    if not path.exists():
        build_piper_voice(
            folder,
            manner.name,
            sample_rate_hz=rate_hz,
            aligned=aligned,
            work=WORK[manner],
            most=MOST if manner is Manner.FAILING else 0,
        )
    settings = Settings(piper=PiperSection(model=str(path), threads=1))
    if manner is Manner.STUCK:
        # It would be stuck in ``warm`` as well: the contract is about what comes after.
        engine = load_engine("piper", settings.tts, settings)
        yield engine
        await engine.close()
        return
    async with warmed("piper", settings) as engine:
        yield engine


@asynccontextmanager
async def kokoro(folder: Path, manner: Manner, *, timed: bool) -> AsyncIterator[Engine]:
    from tests.tiny_models.kokoro import build_kokoro_model

    place = folder / manner.name
    if not place.exists():
        # Kokoro has no pad after each symbol: half as many as Piper has.
        build_kokoro_model(place, timed=timed, work=2 * WORK[manner], most=MOST // 3 if manner is Manner.FAILING else 0)
    settings = Settings(kokoro=KokoroSection(model=str(place), threads=1))
    if manner is Manner.STUCK:
        engine = load_engine("kokoro", settings.tts, settings)
        yield engine
        await engine.close()
        return
    async with warmed("kokoro", settings) as engine:
        yield engine


@asynccontextmanager
async def elevenlabs(folder: Path, manner: Manner, *, rate_hz: int, word_times: bool) -> AsyncIterator[Engine]:
    from tests.fakes.elevenlabs_server import KEY, elevenlabs_server

    async with elevenlabs_server() as server:
        server.odd = True
        server.pause_s = 0.003 if manner is Manner.SLOW else 0.0
        server.first_pause_s = 60.0 if manner is Manner.STUCK else 0.0
        server.status = 500 if manner is Manner.FAILING else 200
        section = ElevenlabsSection(url=server.url, api_key=KEY, sample_rate_hz=rate_hz, word_times=word_times)
        async with warmed("elevenlabs", Settings(elevenlabs=section)) as engine:
            yield engine


@asynccontextmanager
async def pipecat(folder: Path, manner: Manner, *, service: str, rate_hz: int) -> AsyncIterator[Engine]:
    """Services of pipecat's catalogue: Cartesia's, over a websocket, and OpenAI's, over HTTP."""
    from tests.fakes.pipecat_providers import serving
    from tests.services.pipecat.making import CARTESIA_TTS, KEY, OPENAI_TTS, settings_for

    async with serving() as providers:
        providers.pause_s = 0.003 if manner is Manner.SLOW else 0.0
        providers.breaks_over = 100 if manner is Manner.FAILING else None
        if service == "cartesia":
            url = f"{providers.websocket_url}/tts/websocket"
            settings = settings_for("tts", CARTESIA_TTS, {"api_key": KEY, "url": url}, sample_rate_hz=rate_hz)
        else:
            arguments = {"api_key": KEY, "base_url": f"{providers.url}/v1", "sample_rate": 24000}
            settings = settings_for("tts", OPENAI_TTS, arguments, sample_rate_hz=rate_hz)
        async with warmed("pipecat", settings) as engine:
            if manner is Manner.STUCK:
                providers.behaviour = "hangs"
            yield engine


EVERY = frozenset(Manner)
PLAIN = frozenset({Manner.PLAIN})
PIPER = ("piper", "onnxruntime", "onnx", "soxr")
KOKORO = ("kokoro_onnx", "onnxruntime", "onnx", "soxr")
ELEVENLABS = ("aiohttp", "soxr")
PIPECAT = ("pipecat", "aiohttp", "soxr")

CASES = [
    EngineCase("instant", partial(embedded, name="instant"), PLAIN, 8000, True),
    EngineCase("espeak", partial(embedded, name="espeak"), PLAIN, 22050, True, ("espeakng_loader", "soxr"), "espeak"),
    EngineCase("piper", partial(piper, rate_hz=22050, aligned=True), EVERY, 22050, True, PIPER, "piper"),
    EngineCase(
        "piper-16k", partial(piper, rate_hz=16000, aligned=False), PLAIN, 16000, True, PIPER, "piper", spends=False
    ),
    EngineCase(
        "piper-8k", partial(piper, rate_hz=8000, aligned=False), PLAIN, 8000, True, PIPER, "piper", spends=False
    ),
    EngineCase("kokoro", partial(kokoro, timed=False), EVERY, 24000, False, KOKORO, "kokoro"),
    EngineCase("kokoro-timed", partial(kokoro, timed=True), PLAIN, 24000, True, KOKORO, "kokoro", spends=False),
    EngineCase(
        "elevenlabs", partial(elevenlabs, rate_hz=16000, word_times=True), EVERY, 16000, True, ELEVENLABS, "elevenlabs"
    ),
    EngineCase(
        "elevenlabs-pcm",
        partial(elevenlabs, rate_hz=22050, word_times=False),
        EVERY,
        22050,
        False,
        ELEVENLABS,
        "elevenlabs",
        spends=False,
    ),
    EngineCase(
        "elevenlabs-8k",
        partial(elevenlabs, rate_hz=8000, word_times=False),
        PLAIN,
        8000,
        False,
        ELEVENLABS,
        "elevenlabs",
        spends=False,
    ),
    EngineCase("pipecat", partial(pipecat, service="cartesia", rate_hz=16000), EVERY, 16000, True, PIPECAT, "pipecat"),
    EngineCase(
        "pipecat-http",
        partial(pipecat, service="openai", rate_hz=24000),
        EVERY,
        24000,
        False,
        PIPECAT,
        "pipecat",
        spends=False,
    ),
    EngineCase(
        "pipecat-8k",
        partial(pipecat, service="openai", rate_hz=8000),
        PLAIN,
        8000,
        False,
        PIPECAT,
        "pipecat",
        spends=False,
    ),
]
"""Of every engine at least one row; a voice of 8, 16, 22.05 and 24 kHz among them."""
