"""Engine ``pipecat`` of the asr stage: services of the catalogue against providers on this machine, and one's own."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import pytest

pytest.importorskip("pipecat", reason="pipecat is not installed: pip install 'callbus[pipecat]'")
pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'callbus[dev]'")

from config.load import ConfigError
from schemas.llm import ListenFor
from services.asr.engine import EngineError, Transcript, load_engine
from services.asr.engines.pipecat import SILENT_RUNS, PipecatEngine
from services.asr.pool import WAITING_THREADS
from services.asr.worker import AsrWorker
from tests.fakes.pipecat_providers import Providers, serving
from tests.services.pipecat.making import CARTESIA_STT, DEEPGRAM_STT, KEY, OPENAI_STT, OWN, RATE_HZ, settings_for

pytestmark = pytest.mark.integration

SOUND = b"\0\x20" * (RATE_HZ // 10)
SILENCE = bytes(len(SOUND))
SAID = Transcript("my card is broken")
NOTHING = Transcript("", 0.0)
LATENCY_S = 0.15


class Heard(NamedTuple):
    """What a run gave, and how long ``finish`` took."""

    partials: list[str]
    transcript: Transcript
    seconds: float


@asynccontextmanager
async def engine_of(service: str, arguments: dict[str, Any], **more: Any) -> AsyncIterator[PipecatEngine]:
    settings = settings_for("stt", service, arguments, **more)
    engine = load_engine("pipecat", settings.asr, settings)
    assert isinstance(engine, PipecatEngine)
    try:
        yield engine
    finally:
        # In a thread, as all that blocks: the provider answers on this event loop.
        await asyncio.to_thread(engine.close)


def openai(providers: Providers) -> tuple[str, dict[str, Any]]:
    return OPENAI_STT, {"api_key": KEY, "base_url": f"{providers.url}/v1"}


def cartesia(providers: Providers) -> tuple[str, dict[str, Any]]:
    return CARTESIA_STT, {"api_key": KEY, "base_url": providers.websocket_url, "ttfs_p99_latency": LATENCY_S}


def deepgram(providers: Providers) -> tuple[str, dict[str, Any]]:
    if importlib.util.find_spec("deepgram") is None:
        pytest.skip("the package of Deepgram is not installed: pip install 'pipecat-ai[deepgram]'")
    return DEEPGRAM_STT, {"api_key": KEY, "base_url": providers.websocket_url}


EACH = pytest.mark.parametrize("service", [openai, cartesia, deepgram])


def hear(engine: PipecatEngine, *audio: bytes, pace_s: float = 0.02) -> Heard:
    run = engine.open(ListenFor())
    partials = []
    for pcm in audio or (SOUND,) * 6:
        if (text := run.accept(pcm)) is not None:
            partials.append(text)
        time.sleep(pace_s)
    begun = time.perf_counter()
    transcript = run.finish()
    return Heard(partials, transcript, time.perf_counter() - begun)


@EACH
async def test_speech_is_understood_again_and_again(service):
    async with serving() as providers, engine_of(*service(providers)) as engine:
        await asyncio.to_thread(engine.warm)
        for _ in range(3):
            heard = await asyncio.to_thread(hear, engine)
            assert heard.transcript == SAID
            assert bool(heard.partials) == engine.capabilities.partials
            assert heard.partials == list(dict.fromkeys(heard.partials))
        assert (await asyncio.to_thread(hear, engine, SILENCE)).transcript == NOTHING


async def test_a_service_is_used_again_only_where_it_says_that_it_is_done():
    async with serving() as providers:
        async with engine_of(*openai(providers)) as engine:
            for _ in range(5):
                await asyncio.to_thread(hear, engine, SOUND, pace_s=0)
            assert engine.pool.open <= 3
        async with engine_of(*cartesia(providers)) as engine:
            await asyncio.to_thread(engine.warm)
            for _ in range(3):
                await asyncio.to_thread(hear, engine)
            # Each stretch of speech had a connection of its own, opened before.
            async with asyncio.timeout(20):
                while providers.connections != 1:
                    await asyncio.sleep(0.01)
            assert engine.pool.idle == 1


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
async def test_audio_comes_at_the_rate_of_the_settings_and_whole(rate_hz):
    async with engine_of(f"{OWN}:Segments", {"trailing_silence_secs": 0}, sample_rate_hz=rate_hz) as engine:
        assert engine.capabilities.sample_rates_hz == (rate_hz,)
        pieces = [b"\0\x20" * (rate_hz // 50)] * 100
        assert (await asyncio.to_thread(hear, engine, *pieces, pace_s=0)).transcript.text == "2000"


async def test_an_hour_is_taken_whole():
    async with engine_of(
        f"{OWN}:Segments", {"trailing_silence_secs": 0}, sample_rate_hz=8000, deadline_ms=20_000
    ) as engine:
        minute = bytes(2 * 8000 * 60)
        heard = await asyncio.to_thread(hear, engine, *[minute] * 60, pace_s=0)
        assert heard.transcript.text == "3600000"


async def test_no_audio_asks_nobody():
    async with engine_of(f"{OWN}:Listener", {"how": "raises"}) as engine:
        run = engine.open(ListenFor())
        assert run.accept(b"") is None
        assert run.finish() == NOTHING
        engine.open(ListenFor()).cancel()
        assert engine.pool.open == 0


@pytest.mark.parametrize(
    ("how", "text", "at_least_s"), [("confirmed", "one two", 0.0), ("quiet", "one two", 0.1), ("late", "one", 0.2)]
)
async def test_how_a_service_tells_that_it_is_done(how, text, at_least_s):
    async with engine_of(f"{OWN}:Listener", {"how": how, "text": text}) as engine:
        heard = await asyncio.to_thread(hear, engine, SOUND)
    # One that never makes its words final is believed in the end.
    assert heard.transcript.text == (text if how != "late" else "one")
    assert at_least_s <= heard.seconds < at_least_s + 1.0


@EACH
async def test_a_service_that_hangs_has_a_deadline(service):
    async with serving() as providers, engine_of(*service(providers), deadline_ms=600) as engine:
        await asyncio.to_thread(hear, engine)
        providers.behaviour = "hangs"
        if service is cartesia:
            # Nobody can know that it hangs: a caller may have coughed. That it always does is found.
            for _ in range(SILENT_RUNS - 1):
                assert (await asyncio.to_thread(hear, engine, SOUND)).transcript == NOTHING
            with pytest.raises(EngineError, match="said nothing of 3 stretches of speech in a row"):
                await asyncio.to_thread(hear, engine, SOUND)
        else:
            begun = time.perf_counter()
            with pytest.raises(EngineError, match="no transcript within"):
                await asyncio.to_thread(hear, engine, SOUND)
            assert time.perf_counter() - begun < 2.0
        providers.behaviour = "fine"
        assert (await asyncio.to_thread(hear, engine)).transcript == SAID


@pytest.mark.parametrize(
    ("service", "behaviour"),
    [(openai, "breaks"), (openai, "refuses"), (openai, "rubbish"), (cartesia, "cut"), (deepgram, "cut")],
)
async def test_what_goes_wrong_is_told_without_anybodys_words(service, behaviour, caplog, capfd):
    caplog.set_level("DEBUG")
    async with serving() as providers:
        providers.transcript = "the xylophone"
        providers.interims = ("the xylo",)
        async with engine_of(*service(providers), deadline_ms=600) as engine:
            assert (await asyncio.to_thread(hear, engine)).transcript.text == "the xylophone"
            providers.behaviour = behaviour
            with pytest.raises(EngineError) as error:
                await asyncio.to_thread(hear, engine)
            providers.behaviour = "fine"
            assert (await asyncio.to_thread(hear, engine)).transcript.text == "the xylophone"
    told = f"{error.value} {caplog.text} {capfd.readouterr()}"
    assert "xylo" not in told
    assert KEY not in told


@pytest.mark.parametrize("how", ["errors", "raises"])
async def test_what_goes_wrong_in_a_service_of_ones_own(how, caplog, capfd):
    caplog.set_level("DEBUG")
    async with engine_of(f"{OWN}:Listener", {"how": how}) as engine:
        run = engine.open(ListenFor())
        run.accept(SOUND)
        with pytest.raises(EngineError, match="Listener failed") as error:
            await asyncio.to_thread(run.finish)
        with pytest.raises(EngineError, match="Listener failed"):
            run.accept(SOUND)
        run.cancel()
    assert "xylophone" not in f"{error.value} {caplog.text} {capfd.readouterr()}"


async def test_a_careless_service_tells_nobody_what_it_heard(caplog, capfd):
    caplog.set_level("DEBUG")
    async with engine_of(f"{OWN}:Listener", {"how": "confirmed"}) as engine:
        assert (await asyncio.to_thread(hear, engine, SOUND)).transcript.text == "xylophone"
    told = f"{caplog.text} {capfd.readouterr()}"
    assert "xylophone" not in told
    # What is told is where it came from.
    assert "tests.services.pipecat.own" in told
    assert "careless" in told


@EACH
async def test_a_run_that_is_cancelled_lets_go_of_its_service(service):
    async with serving() as providers, engine_of(*service(providers)) as engine:
        await asyncio.to_thread(engine.warm)
        providers.pause_s = 0.5
        for pieces in (0, 1, 5):
            run = engine.open(ListenFor())
            for _ in range(pieces):
                run.accept(SOUND)
            begun = time.perf_counter()
            run.cancel()
            run.cancel()
            assert time.perf_counter() - begun < 0.5
        providers.pause_s = 0.0
        async with asyncio.timeout(20):
            while engine.pool.open > engine.pool.idle:
                await asyncio.sleep(0.01)
        assert (await asyncio.to_thread(hear, engine)).transcript == SAID


async def test_what_was_said_before_a_cancel_is_not_heard_after_it():
    async with engine_of(f"{OWN}:Segments", {"trailing_silence_secs": 0}) as engine:
        for _ in range(5):
            run = engine.open(ListenFor())
            for _ in range(7):
                run.accept(SOUND)
            run.cancel()
            assert (await asyncio.to_thread(hear, engine, SOUND, SOUND, pace_s=0)).transcript.text == "200"
        assert engine.pool.open <= 3


async def test_who_waits_for_a_transcript_is_woken_by_cancel():
    async with engine_of(f"{OWN}:Listener", {"how": "hangs", "ttfs_p99_latency": 60}) as engine:
        run = engine.open(ListenFor())
        run.accept(SOUND)
        finishing = asyncio.create_task(asyncio.to_thread(run.finish))
        await asyncio.sleep(0.05)
        run.cancel()
        with pytest.raises(EngineError, match="cancelled"):
            await asyncio.wait_for(finishing, 1)


@pytest.mark.parametrize("service", [openai, cartesia])
async def test_a_service_that_can_not_be_had_is_told_when_it_is_warmed(service):
    async with serving() as providers, engine_of(*service(providers)) as engine:
        providers.behaviour = "refuses"
        with pytest.raises((EngineError, ConfigError), match="failed") as error:
            await asyncio.to_thread(engine.warm)
    assert KEY not in str(error.value)


async def test_callers_do_not_hear_each_other():
    async with serving() as providers:
        async with engine_of(f"{OWN}:Segments", {"trailing_silence_secs": 0}) as engine:
            heard = await asyncio.gather(
                *(asyncio.to_thread(hear, engine, *[SOUND] * count, pace_s=0.001) for count in range(1, 13))
            )
        assert [each.transcript.text for each in heard] == [str(100 * count) for count in range(1, 13)]
        assert not providers.asked


async def test_a_worker_has_threads_for_transcripts_that_are_waited_for():
    async with engine_of(f"{OWN}:Segments", {}) as engine:
        assert engine.capabilities.waits
        assert AsrWorker.__init__.__globals__["WAITING_THREADS"] == WAITING_THREADS > 2


async def test_two_hundred_runs_with_a_connection_each_leave_nothing_behind():
    async with serving() as providers:
        name, arguments = cartesia(providers)
        async with engine_of(name, {**arguments, "ttfs_p99_latency": 0.002}) as engine:

            def some(count: int) -> None:
                for number in range(count):
                    run = engine.open(ListenFor())
                    run.accept(SOUND)
                    if number % 4 == 3:
                        run.cancel()
                    else:
                        # So short a patience, and a busy machine: the words may come too late for it.
                        with suppress(EngineError):
                            run.finish()

            async def held() -> tuple[int, int, int]:
                async with asyncio.timeout(20):
                    while engine.pool.open > engine.pool.idle:
                        await asyncio.sleep(0.01)
                gc.collect()
                tasks = await asyncio.wrap_future(engine.host.start(_tasks()))
                return threading.active_count(), len(os.listdir("/proc/self/fd")), tasks

            await asyncio.to_thread(some, 20)
            before = await held()
            await asyncio.to_thread(some, 200)
            # A service more may wait ready: a connection with both its ends, and its tasks.
            for now, then, more in zip(await held(), before, (1, 4, 40), strict=True):
                assert now <= then + more


async def _tasks() -> int:
    return len(asyncio.all_tasks())
