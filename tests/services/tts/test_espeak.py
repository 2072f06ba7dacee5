"""The real eSpeak NG: audio, word times, voices, cancelling, odd texts, and that the event loop stays free."""

from __future__ import annotations

import asyncio
import time

import pytest

from config.settings import TtsSection
from services.audio import level
from services.tts.engine import Engine, EngineChoiceError, EngineError, SpeechChunk
from services.tts.engines import espeak
from services.tts.engines._espeak_library import WordEvent, espeak_library
from services.tts.words import spread_words, timed_words

pytest.importorskip("espeakng_loader", reason="eSpeak NG is not installed: pip install 'callbus[espeak]'")
pytestmark = pytest.mark.contract

TEXT = "Your card was posted on Monday. It is 4271."


@pytest.fixture
async def engine():
    made = espeak.create(TtsSection())
    await made.warm()
    yield made
    await made.close()


async def speak(engine: Engine, text: str) -> list[SpeechChunk]:
    return [chunk async for chunk in engine.open(text)]


def pcm_of(chunks: list[SpeechChunk]) -> bytes:
    return b"".join(chunk.pcm for chunk in chunks)


def seconds(chunks: list[SpeechChunk]) -> float:
    return len(pcm_of(chunks)) / 2 / espeak.SAMPLE_RATE_HZ


async def test_it_speaks_in_pieces_that_can_be_heard(engine):
    chunks = await speak(engine, TEXT)
    assert engine.capabilities.streaming
    assert len(chunks) > 1
    assert 4.0 < seconds(chunks) < 6.0
    assert level.rms(pcm_of(chunks)) > 1000
    assert level.leading_silence_ms(pcm_of(chunks), espeak.SAMPLE_RATE_HZ) < 100


async def test_words_have_the_times_that_espeak_tells(engine):
    words = [word for chunk in await speak(engine, TEXT) for word in chunk.words]
    assert [word.text for word in words] == TEXT.split()
    starts = [word.start_ms for word in words]
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert 1200 < starts[5] < 1450, "Monday begins after 'Your card was posted on'"


async def test_speed(engine):
    normal = seconds(await speak(engine, TEXT))
    fast_engine = espeak.create(TtsSection(speed=2.0))
    fast = seconds(await speak(fast_engine, TEXT))
    await fast_engine.close()
    assert fast < 0.7 * normal


@pytest.mark.parametrize("text", ["", " ", "\n\t", "...", "\0", "\udcff"])
async def test_texts_without_words_end(engine, text):
    assert seconds(await speak(engine, text)) < 3.0


@pytest.mark.parametrize(
    "text", ["日本語 привет é", "🙂 yes 🙂", "<b>not</b> [[h@]] &amp; markup", "a\0b c\udc80d", "x" * 50]
)
async def test_any_script_and_sign_is_spoken(engine, text):
    assert level.rms(pcm_of(await speak(engine, text))) > 100


async def test_words_after_signs_beyond_the_basic_plane_keep_their_places(engine):
    words = [word for chunk in await speak(engine, "café 🙂 naïve résumé ok") for word in chunk.words]
    assert [word.text for word in words] == ["café", "🙂", "naïve", "résumé", "ok"]


async def test_a_very_long_text_is_spoken_to_its_end_with_the_loop_free(engine):
    text = "The quick brown fox jumps over the lazy dog, again and again. " * 60
    late_ms: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.002)
            late_ms.append(1000 * (time.perf_counter() - before) - 2)

    watcher = asyncio.create_task(watch())
    words = 0
    duration = 0.0
    async for chunk in engine.open(text):
        duration += len(chunk.pcm) / 2 / espeak.SAMPLE_RATE_HZ
        words += len(chunk.words)
        await asyncio.sleep(0)
    watcher.cancel()
    assert words == len(text.split())
    assert duration > 150
    assert sorted(late_ms)[len(late_ms) // 2] < 10, "synthesis holds up the event loop"


async def test_cancel_takes_effect_within_50_ms(engine):
    text = "word " * 5000
    run = engine.open(text)
    chunks = aiter(run)
    await anext(chunks)
    begun = time.perf_counter()
    run.cancel()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    assert time.perf_counter() - begun < 0.05
    # The one thread is free again for others.
    begun = time.perf_counter()
    await speak(engine, "ok")
    assert time.perf_counter() - begun < 0.5


async def test_cancel_wakes_whoever_waits(engine):
    run = engine.open("one two three")
    task = asyncio.create_task(anext(aiter(engine.open("word " * 3000))))
    run.cancel()
    run.cancel()
    assert [chunk async for chunk in run] == []
    await task


async def test_many_at_once_each_get_their_own_words(engine):
    texts = [f"caller number {number} of twenty" for number in range(20)]
    spoken = await asyncio.gather(*(speak(engine, text) for text in texts))
    assert [" ".join(word.text for chunk in chunks for word in chunk.words) for chunks in spoken] == texts


@pytest.mark.parametrize(
    ("voice", "words"),
    [
        ("xx-nowhere", "no voice 'xx-nowhere'"),
        ("", "no voice ''"),
        ("en-us+nobody", "no variant 'nobody'"),
        ("en-us+../../x", "no variant"),
        ("+f2", "no voice '\\+f2'"),
    ],
)
async def test_an_unknown_voice_says_how_to_see_the_known_ones(voice, words):
    engine = espeak.create(TtsSection(voice=voice))
    with pytest.raises(EngineChoiceError, match=words) as error:
        await engine.warm()
    assert "python -m services.tts --voices" in str(error.value)
    await engine.close()


async def test_voices_are_listed_and_all_variants_among_them(engine):
    voices = await engine.list_voices()
    assert {"en-us", "en-gb", "de", "+f2", "+klatt4"} <= set(voices)


@pytest.fixture
def voices_used(monkeypatch) -> list[str]:
    used: list[str] = []
    speak_on = espeak_library().speak

    def speak_and_note(text: str, voice: str, *rest) -> None:
        used.append(voice)
        speak_on(text, voice, *rest)

    monkeypatch.setattr(espeak_library(), "speak", speak_and_note)
    return used


async def spoken_in(engine: Engine, language: str) -> float:
    """Seconds of a German sentence in the voice for ``language``."""
    text = "Guten Tag, wie kann ich Ihnen heute helfen?"
    return seconds([chunk async for chunk in engine.open(text, language=language)])


async def test_a_sentence_in_another_language_is_spoken_by_a_voice_of_it(engine, voices_used):
    english, german = await spoken_in(engine, "en"), await spoken_in(engine, "de")
    assert abs(english - german) > 0.1
    for language in ("de-DE", "fr", "es_419", "en_US", "en-GB", "en-GB", "tlh-nowhere", "", "../de"):
        await spoken_in(engine, language)
    assert voices_used == [
        "en-us+f2", "de+f2", "de+f2", "fr+f2", "es-419+f2", *["en-us+f2"] * 6,
    ]  # fmt: skip


async def test_a_voice_that_was_chosen_speaks_every_language(voices_used):
    for voice in ("en-us+klatt4", "de"):
        chosen = espeak.create(TtsSection(voice=voice))
        await chosen.warm()
        await spoken_in(chosen, "de")
        await spoken_in(chosen, "en")
        await chosen.close()
        assert set(voices_used) == {voice}
        voices_used.clear()


@pytest.mark.parametrize(
    "text",
    [
        "Wait - what? It's 3.50, isn't it...",
        "Call 0800 123 456 now!",
        "— yes — of course —",
        "He said: 'no', twice; then 50% & more (really).",
        "On 12/31/2024 at 10:30 a.m., e.g. U.S.A.",
        "... ? !",
        "🙂 yes 🙂",
        "one  two\nthree\t- four",
    ],
)
async def test_every_word_of_a_sentence_has_a_time_whatever_espeak_makes_of_it(engine, text):
    chunks = await speak(engine, text)
    starts = [word for chunk in chunks for word in chunk.words]
    duration_ms = round(1000 * seconds(chunks))
    words = timed_words(text, starts, duration_ms) or spread_words(text, 0, duration_ms)
    assert [word.text for word in words] == text.split()
    edges = [edge for word in words for edge in (word.start_ms, word.end_ms)]
    assert edges == sorted(edges)
    assert edges[-1] == duration_ms


async def test_voices_of_two_engines_do_not_mix(engine):
    other = espeak.create(TtsSection(voice="en-us+klatt4"))
    alone = seconds(await speak(engine, TEXT))
    mixed = await asyncio.gather(speak(engine, TEXT), speak(other, TEXT), speak(engine, TEXT))
    await other.close()
    assert seconds(mixed[0]) == pytest.approx(alone, abs=0.02)
    assert seconds(mixed[2]) == pytest.approx(alone, abs=0.02)


def test_what_the_taker_raises_comes_back_and_the_library_still_works():
    def taker(pcm: bytes, words: list[WordEvent]) -> bool:
        raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        espeak_library().speak("hello", "en-us", 175, taker)
    heard: list[int] = []
    espeak_library().speak("hello", "en-us", 175, lambda pcm, words: heard.append(len(pcm)) or False)
    assert sum(heard) > 10_000


async def test_a_failure_of_the_library_is_raised_to_the_reader(engine, monkeypatch):
    monkeypatch.setattr(espeak_library()._library, "espeak_Synth", lambda *_: 1, raising=False)
    with pytest.raises(EngineError, match="returned 1"):
        await speak(engine, "hello")


async def test_another_sample_rate_is_noticed(monkeypatch):
    monkeypatch.setattr(espeak_library(), "sample_rate_hz", 16000)
    engine = espeak.create(TtsSection())
    with pytest.raises(EngineError, match="16000 Hz"):
        await engine.warm()
    await engine.close()
