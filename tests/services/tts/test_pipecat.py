"""Engine ``pipecat`` of the tts stage: services of the catalogue against providers on this machine, and one's own."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("pipecat", reason="pipecat is not installed: pip install 'callbus[pipecat]'")
pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'callbus[dev]'")

from config.load import ConfigError
from services.tts.engine import EngineChoiceError, EngineError, SpeechChunk, load_engine
from services.tts.engines.pipecat import PipecatEngine
from tests.fakes.pipecat_providers import MS_PER_CHARACTER, Providers, serving
from tests.services.pipecat.making import CARTESIA_TTS, KEY, OPENAI_TTS, OWN, RATE_HZ, settings_for

pytestmark = pytest.mark.integration

TEXT = "Your card was sent."
SOON_S = 0.5
"""50 ms are an engine's own; the rest is for a busy machine."""


@asynccontextmanager
async def engine_of(service: str, arguments: dict[str, Any], *, warm: bool = True, **more: Any) -> AsyncIterator[Any]:
    settings = settings_for("tts", service, arguments, **more)
    engine = load_engine("pipecat", settings.tts, settings)
    assert isinstance(engine, PipecatEngine)
    try:
        if warm:
            await engine.warm()
        yield engine
    finally:
        await engine.close()


def openai(providers: Providers) -> tuple[str, dict[str, Any]]:
    return OPENAI_TTS, {"api_key": KEY, "base_url": f"{providers.url}/v1", "sample_rate": 24_000}


def cartesia(providers: Providers) -> tuple[str, dict[str, Any]]:
    url = f"{providers.websocket_url}/tts/websocket"
    return CARTESIA_TTS, {"api_key": KEY, "url": url, "settings": {"voice": "v", "model": "m"}}


EACH = pytest.mark.parametrize("service", [openai, cartesia])


async def spoken(engine: PipecatEngine, text: str = TEXT) -> list[SpeechChunk]:
    return [chunk async for chunk in engine.open(text)]


def milliseconds(chunks: list[SpeechChunk], rate_hz: int = RATE_HZ) -> int:
    return sum(len(chunk.pcm) for chunk in chunks) * 500 // rate_hz


@EACH
async def test_a_sentence_at_the_rate_of_the_settings(service):
    async with serving() as providers:
        for rate_hz in (8000, 16000, 24000):
            async with engine_of(*service(providers), sample_rate_hz=rate_hz) as engine:
                assert engine.capabilities.sample_rate_hz == rate_hz
                assert abs(milliseconds(await spoken(engine), rate_hz) - len(TEXT) * MS_PER_CHARACTER) <= 1
    assert (providers.of_kind("speech") or providers.of_kind("cartesia"))[-2:]


async def test_words_begin_where_the_provider_says_in_the_first_sentence_and_in_the_tenth():
    async with serving() as providers, engine_of(*cartesia(providers)) as engine:
        assert engine.capabilities.word_times
        for _ in range(10):
            words = [word for chunk in await spoken(engine) for word in chunk.words]
            assert [word.text for word in words] == TEXT.split()
            assert [word.start_ms for word in words] == [TEXT.index(each) * MS_PER_CHARACTER for each in TEXT.split()]
        providers.word_times = False
        assert [word for chunk in await spoken(engine) for word in chunk.words] == []


async def test_words_of_a_long_text_go_on_where_the_piece_before_ended():
    long = " ".join([TEXT] * 30)
    async with serving() as providers, engine_of(*cartesia(providers)) as engine:
        chunks = await spoken(engine, long)
    starts = [word.start_ms for chunk in chunks for word in chunk.words]
    assert len(starts) == len(long.split())
    assert starts == sorted(starts)
    assert starts[-1] == pytest.approx(long.rindex("sent.") * MS_PER_CHARACTER, abs=5)
    assert all(len(chunk.pcm) <= 2 * RATE_HZ for chunk in chunks)


@EACH
async def test_a_service_that_can_not_be_had_is_told_when_it_is_warmed(service):
    async with serving() as providers:
        providers.behaviour = "refuses"
        async with engine_of(*service(providers), warm=False) as engine:
            with pytest.raises((EngineError, EngineChoiceError), match="TTSService failed") as error:
                await engine.warm()
    assert KEY not in str(error.value)


async def test_a_provider_that_is_not_there_is_told_when_it_is_warmed():
    async with serving() as providers:
        service = cartesia(providers)
    async with engine_of(*service, warm=False) as engine:
        with pytest.raises(EngineError, match="CartesiaTTSService failed, connectivity, ConnectionRefusedError"):
            await engine.warm()


async def test_a_service_that_does_not_start_is_told():
    async with engine_of(f"{OWN}:DoesNotStart", {}, warm=False) as engine:
        with pytest.raises(ConfigError, match="DoesNotStart did not start: RuntimeError: no model in /models/voice"):
            await engine.warm()


@pytest.mark.parametrize(
    ("service", "behaviour"),
    [
        (openai, "breaks"),
        (openai, "refuses"),
        (openai, "cut"),
        (cartesia, "breaks"),
        (cartesia, "cut"),
        (cartesia, "rubbish"),
    ],
)
async def test_a_sentence_that_fails_says_why_and_nothing_of_its_words(service, behaviour, caplog, capfd):
    caplog.set_level("DEBUG")
    async with serving() as providers, engine_of(*service(providers)) as engine:
        providers.behaviour = behaviour
        with pytest.raises(EngineError) as error:
            await spoken(engine, "My xylophone was sent.")
        assert error.value.__cause__ is None
        providers.behaviour = "fine"
        assert milliseconds(await spoken(engine)) > 0
    told = f"{error.value} {caplog.text} {capfd.readouterr()}"
    assert "xylophone" not in told
    assert KEY not in told


@EACH
async def test_cancelled_it_ends_at_once_and_the_provider_is_told(service):
    async with serving() as providers, engine_of(*service(providers)) as engine:
        providers.pause_s = 0.02
        for taken in (0, 1, 3):
            providers.aborted = 0
            run = engine.open("A long sentence that goes on and on for a good while.")
            chunks = aiter(run)
            for _ in range(taken):
                await anext(chunks)
            begun = time.perf_counter()
            run.cancel()
            assert [chunk async for chunk in chunks] == []
            assert time.perf_counter() - begun < SOON_S
            if taken:
                async with asyncio.timeout(5):
                    while not providers.aborted:
                        await asyncio.sleep(0.005)
        providers.pause_s = 0.0
        # Nothing of the sentences before is heard in the next one.
        assert abs(milliseconds(await spoken(engine)) - len(TEXT) * MS_PER_CHARACTER) <= 1


async def test_who_waits_for_a_service_that_hangs_is_woken_by_cancel():
    async with serving() as providers, engine_of(*cartesia(providers)) as engine:
        providers.behaviour = "hangs"
        run = engine.open(TEXT)
        waiting = asyncio.create_task(anext(aiter(run)))
        await asyncio.sleep(0.05)
        begun = time.perf_counter()
        run.cancel()
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert time.perf_counter() - begun < SOON_S
        providers.behaviour = "fine"
        assert milliseconds(await spoken(engine)) > 0


async def test_texts_without_words_ask_nobody():
    async with engine_of(f"{OWN}:Voice", {"how": "errors"}, warm=False) as engine:
        for text in ("", " ", "...", "🙂", "\0"):
            assert await spoken(engine, text) == []


@pytest.mark.parametrize("how", ["errors", "raises", "silent"])
async def test_what_goes_wrong_in_a_service_of_ones_own(how, caplog, capfd):
    caplog.set_level("DEBUG")
    async with engine_of(f"{OWN}:Voice", {"how": how, "stop_frame_timeout_s": 0.1}, warm=False) as engine:
        with pytest.raises(EngineError, match="Voice failed") as error:
            await spoken(engine, "My xylophone was sent.")
    assert "xylophone" not in f"{error.value} {caplog.text} {capfd.readouterr()}"


async def test_a_model_of_the_catalogue_runs_beside_the_event_loop(tmp_path):
    pytest.importorskip("piper", reason="Piper is not installed: pip install 'callbus[piper]'")
    pytest.importorskip("onnx", reason="onnx is not installed: the model can't be built")
    from tests.tiny_models.piper import build_piper_voice

    build_piper_voice(tmp_path, "tiny", sample_rate_hz=22050)
    arguments = {"download_dir": str(tmp_path), "settings": {"voice": "tiny"}}
    async with engine_of("pipecat.services.piper.tts:PiperTTSService", arguments) as engine:
        assert milliseconds(await spoken(engine)) > 300


async def test_a_session_is_made_and_closed(recwarn):
    async with engine_of(f"{OWN}:WantsSession", {}) as engine:
        assert milliseconds(await spoken(engine)) == 10 * len(TEXT)
    async with engine_of(f"{OWN}:WantsSession", {"refuses": True}, warm=False) as engine:
        with pytest.raises(EngineError, match="WantsSession refuses its arguments"):
            await spoken(engine)
        del engine
    gc.collect()
    assert not [warning for warning in recwarn if "Unclosed" in str(warning.message)]


async def test_two_hundred_sentences_leave_nothing_behind():
    async with serving() as providers, engine_of(*openai(providers)) as engine:

        async def some(count: int) -> None:
            for number in range(count):
                run = engine.open("Of course.")
                async for _ in run:
                    if number % 4 == 3:
                        run.cancel()

        def held() -> tuple[int, int, int]:
            return threading.active_count(), len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))

        await some(20)
        before = held()
        await some(200)
        async with asyncio.timeout(5):  # a connection that is closed is gone a moment later
            while not all(now <= then + 2 for now, then in zip(held(), before, strict=True)):
                await asyncio.sleep(0.05)
        assert engine._pool.open <= 4
