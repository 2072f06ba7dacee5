"""ElevenLabs' own, against a server of its protocol: what is asked for, word times, errors, connections, the key."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.engine_sections import ElevenlabsSection
from config.settings import Settings, TtsSection
from services.packages import MissingPackageError
from services.tts.__main__ import run
from services.tts.engine import Engine, EngineChoiceError, EngineError, SpeechChunk, load_engine
from tests.services.tts.edge_twin import wait_for

pytest.importorskip("aiohttp", reason="ElevenLabs needs aiohttp: pip install 'callbus[elevenlabs]'")
from tests.fakes.elevenlabs_server import KEY, VOICE, ElevenlabsServer, elevenlabs_server

pytestmark = pytest.mark.contract

TEXT = "Your card was posted on Monday. Kingfisher."


@pytest.fixture
async def server() -> AsyncIterator[ElevenlabsServer]:
    async with elevenlabs_server() as running:
        yield running


@pytest.fixture
async def make(server: ElevenlabsServer) -> AsyncIterator[Any]:
    """``make(speed=..., **section)``: an engine that asks the server."""
    engines: list[Engine] = []

    def make_engine(speed: float = 1.0, **section: Any) -> Engine:
        section = {"url": server.url, "api_key": KEY, **section}
        settings = Settings(tts=TtsSection(speed=speed), elevenlabs=ElevenlabsSection(**section))
        engines.append(load_engine("elevenlabs", settings.tts, settings))
        return engines[-1]

    yield make_engine
    for engine in engines:
        await engine.close()


async def chunks_of(engine: Engine, text: str = TEXT, language: str = "en") -> list[SpeechChunk]:
    return [chunk async for chunk in engine.open(text, language=language)]


@pytest.mark.parametrize("word_times", [True, False])
@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 24000])
async def test_samples_that_the_network_cuts_are_whole_again(server, make, rate_hz, word_times):
    engine = make(sample_rate_hz=rate_hz, word_times=word_times)
    smooth = b"".join(chunk.pcm for chunk in await chunks_of(engine))
    server.odd = True
    assert b"".join(chunk.pcm for chunk in await chunks_of(engine)) == smooth
    assert len(smooth) // 2 == rate_hz * 60 * len(TEXT) // 1000


@pytest.mark.parametrize("anew", [False, True])
async def test_words_have_the_times_of_their_first_letters(server, make, anew):
    server.anew = anew
    words = [word for chunk in await chunks_of(make()) for word in chunk.words]
    assert [word.text for word in words] == TEXT.split()
    assert [word.start_ms for word in words] == [60 * TEXT.index(word.text) for word in words]


async def test_a_text_longer_than_a_request_is_asked_for_in_several_and_its_times_go_on(server, make):
    text = "It is in the mail. " * 200
    words, seconds = [], 0.0
    async for chunk in make(sample_rate_hz=8000).open(text):
        words += chunk.words
        seconds += len(chunk.pcm) / 16000
    assert len(server.texts) == 2
    assert "".join(server.texts) == text
    assert [word.text for word in words] == text.split()
    starts = [word.start_ms for word in words]
    assert starts == sorted(starts)
    assert seconds == pytest.approx(0.06 * len(text), abs=0.2)
    assert starts[-1] == pytest.approx(1000 * seconds - 360, abs=50)


async def test_what_is_asked_for(server, make):
    await chunks_of(make(), language="de-DE")
    with capture_logs() as logs:
        await chunks_of(make(speed=2.0, model="eleven_multilingual_v2"), language="de-DE")
        await chunks_of(make(speed=0.9), language="tlh")
    assert [line["message"] for line in logs] == ["[tts] speed = 2.0: ElevenLabs goes no further than 1.2"]
    assert server.bodies == [
        {"text": TEXT, "model_id": "eleven_flash_v2_5", "language_code": "de"},
        {"text": TEXT, "model_id": "eleven_multilingual_v2", "voice_settings": {"speed": 1.2}},
        {"text": TEXT, "model_id": "eleven_flash_v2_5", "voice_settings": {"speed": 0.9}},
    ]


async def test_texts_without_a_word_cost_no_request(server, make):
    engine = make()
    for text in ("", " ", "...", "🙂", "\0"):
        assert await chunks_of(engine, text) == []
    assert server.requests == 0


async def test_one_connection_serves_one_sentence_after_the_other(server, make):
    engine = make()
    await engine.warm()
    for _ in range(5):
        await chunks_of(engine)
    assert (server.requests, len(server.connections)) == (6, 1)


async def test_voices_are_listed_with_their_names_and_such_a_line_can_be_chosen(server, make):
    voices = await make().list_voices()
    assert voices == (f"{VOICE} Rachel", "x2 Ben")
    engine = make(voice=voices[0])
    await engine.warm()
    assert await chunks_of(engine)
    server.key = "another"
    with pytest.raises(EngineError, match="401"):
        await make().list_voices()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 400}, r"400 \(voice_not_found\): no such voice"),
        ({"status": 401}, r"401 \(invalid_api_key\): the key is refused: \[elevenlabs\] api_key.*ELEVENLABS_API_KEY"),
        ({"status": 404}, r"404 \(voice_not_found\): no such voice or model.*--voices"),
        ({"status": 422}, "422: the request is refused"),
        ({"status": 429}, r"429 \(too_many_concurrent_requests\): too many requests at once"),
        ({"status": 500}, r"500 \(internal_server_error\): it failed"),
        ({"status": 503, "body": b"<html>Kingfisher</html>", "content_type": "text/html"}, "503: it failed"),
        ({"status": 302}, "302: it refused"),
        ({"status": 418, "body": b'{"detail": ["Kingfisher"]}'}, "418: it refused"),
        ({"status": 401, "body": b'{"detail": {"status": "quota_exceeded"}}'}, "characters are used up"),
        ({"status": 401, "body": b'{"detail": {"status": "Kingfisher, oh"}}'}, "401: the key is refused"),
        ({"body": b""}, "200 without any speech"),
        ({"body": b"<html>Kingfisher", "content_type": "text/html"}, "200 with 'text/html' in place of speech"),
        ({"cut_after_ms": 500}, "broke off: ClientPayloadError"),
        ({"cut_after_ms": 0}, "broke off|without any speech"),
    ],
)
@pytest.mark.parametrize("word_times", [True, False])
async def test_what_goes_wrong_is_said_in_words(server, make, change, words, word_times):
    for name, value in change.items():
        setattr(server, name, value)
    engine = make(word_times=word_times)
    with pytest.raises(EngineError, match=words) as error:
        await chunks_of(engine)
    told = f"{error.value} {error.value.__cause__}"
    assert "Kingfisher" not in told
    assert KEY not in told
    for name in change:
        setattr(server, name, getattr(ElevenlabsServer(), name))
    assert await chunks_of(engine), "the next sentence is said"


@pytest.mark.parametrize("body", [b"Kingfisher\n", b"[1]\n", b'{"audio_base64": "%%"}\n', b'{"alignment": 7}\n'])
async def test_lines_that_hold_no_audio_are_told(server, make, body):
    server.body = body
    with pytest.raises(EngineError, match=r"a line that holds no audio|without any speech"):
        await chunks_of(make())


async def test_a_line_that_never_ends_is_given_up(server, make, monkeypatch):
    monkeypatch.setattr("services.tts.engines._elevenlabs_stream.LINE_BYTES_MAX", 20_000)
    server.body = b"x" * 100_000
    with pytest.raises(EngineError, match="a line without an end"):
        await chunks_of(make())


async def test_a_stream_that_falls_silent_is_given_up(server, make, monkeypatch):
    monkeypatch.setattr("services.tts.engines.elevenlabs.SILENCE_S", 0.1)
    server.pause_s = 60.0
    with pytest.raises(EngineError, match="no answer in time"):
        await chunks_of(make())
    await asyncio.wait_for(server.broken.wait(), 2.0)


async def test_a_server_that_is_not_there_is_told(make):
    with pytest.raises(EngineError, match=r"can't be reached.*\[elevenlabs\] url"):
        await chunks_of(make(url="http://127.0.0.1:9"))
    with pytest.raises(EngineError, match="can't be reached"):
        await make(url="http://127.0.0.1:9").warm()


def test_the_command_that_lists_voices_says_so_in_a_line(monkeypatch, capsys):
    monkeypatch.setenv("CALLBUS_TTS__ENGINE", "elevenlabs")
    monkeypatch.setenv("CALLBUS_ELEVENLABS__URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ELEVENLABS_API_KEY", KEY)
    with pytest.raises(SystemExit):
        run(["--voices"])
    told = capsys.readouterr()
    assert told.err.startswith("tts: ElevenLabs can't be reached")
    assert KEY not in told.err + told.out


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_cancel_closes_the_connection_at_once(server, make, taken):
    server.pause_s = 60.0 if taken == 1 else 0.01
    server.first_pause_s = 60.0 if taken == 0 else 0.0
    speech = make().open(TEXT)
    chunks = aiter(speech)
    for _ in range(taken):
        await anext(chunks)
    waiting = asyncio.create_task(anext(chunks, None))
    await wait_for(lambda: server.texts)
    begun = time.perf_counter()
    speech.cancel()
    await asyncio.wait_for(waiting, 0.5)
    assert await anext(chunks, None) is None
    await asyncio.wait_for(server.broken.wait() if taken else asyncio.sleep(0), 1.0)
    assert time.perf_counter() - begun < 1.0
    assert server.pieces_sent < 10


async def test_who_waits_may_be_cancelled_too(server, make):
    server.pause_s = 60.0
    chunks = aiter(make().open(TEXT))
    await anext(chunks)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await anext(chunks)
    await asyncio.wait_for(server.broken.wait(), 1.0)
    assert await anext(chunks, None) is None


async def test_nothing_is_read_ahead_of_who_listens(server, make):
    speech = make(sample_rate_hz=24000, word_times=False).open("word " * 480)
    chunks = aiter(speech)
    await anext(chunks)
    await asyncio.sleep(0.1)
    held = sum(len(chunk.pcm) for chunk in speech._ready)
    assert held <= 16 * 1024
    speech.cancel()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"key": "another"}, EngineChoiceError, "401 .*the key is refused"),
        ({"voice": "nobody"}, EngineChoiceError, "no such voice"),
        ({"permissions": False}, None, ""),
    ],
)
async def test_warm_tries_key_and_voice(server, make, change, error, words):
    change = dict(change)
    voice = change.pop("voice", VOICE)
    for name, value in change.items():
        setattr(server, name, value)
    engine = make(voice=voice)
    if error is None:
        await engine.warm()
        return
    with pytest.raises(error, match=words) as told:
        await engine.warm()
    assert KEY not in str(told.value)


def test_where_the_key_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key_of(**section: Any) -> str:
        settings = Settings(elevenlabs=ElevenlabsSection(**section))
        return str(load_engine("elevenlabs", settings.tts, settings)._key)

    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    (tmp_path / "key").write_text(" from-a-file \nsecond line\n")
    with pytest.raises(EngineChoiceError, match=r"\[elevenlabs\] api_key, api_key_file or ELEVENLABS_API_KEY"):
        key_of()
    with pytest.raises(EngineChoiceError, match="can't be read"):
        key_of(api_key_file=str(tmp_path / "nowhere"))
    with pytest.raises(EngineChoiceError, match="printable ASCII") as error:
        key_of(api_key="bad\nkey")
    assert "bad" not in str(error.value)
    monkeypatch.setenv("ELEVENLABS_API_KEY", "from-the-environment")
    assert key_of() == "from-the-environment"
    assert key_of(api_key_file=str(tmp_path / "key")) == "from-a-file"
    assert key_of(api_key="from-the-settings", api_key_file=str(tmp_path / "key")) == "from-the-settings"


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    settings = Settings(elevenlabs=ElevenlabsSection(api_key="k"))
    with pytest.raises(MissingPackageError, match=r"aiohttp.*callbus\[elevenlabs\]"):
        load_engine("elevenlabs", settings.tts, settings)
