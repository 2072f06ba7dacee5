"""From text as it is written to what a real engine speaks, and back to the written words that a caller has heard."""

from __future__ import annotations

import pytest

from config.settings import TtsSection
from schemas.failure import Failure
from schemas.playout import PlayoutFlushed
from schemas.tts import TtsDone
from services.llm.heard import heard_text
from services.text.speakable import shape
from services.tts.engine import WordStart
from services.tts.words import spread_words, timed_words, words_ended
from tests.services.tts.edge_twin import done, sentence, settle, speech_call
from tests.services.tts.scripted import ScriptedEngine, spoken, started_twin, virtual

pytest.importorskip("espeakng_loader", reason="eSpeak NG is missing: pip install 'callbus[espeak]'")

from services.tts.engines import espeak

pytestmark = pytest.mark.unit

CALL = {"call_id": "c1", "at_us": 1}


async def spoken_by_espeak(text: str, language: str = "en") -> tuple[list[WordStart], int]:
    """What the real engine says when it is given the shaped text: words, and the length of its audio."""
    engine = espeak.create(TtsSection())
    await engine.warm()
    words: list[WordStart] = []
    size = 0
    async for chunk in engine.open(shape(text, language).text, language=language):
        words += chunk.words
        size += len(chunk.pcm)
    await engine.close()
    return words, size * 1000 // 2 // espeak.SAMPLE_RATE_HZ


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Your balance is $1,250.40, and your card ending in 4271 is active."),
        ("en", "😊 Great — call +1 (555) 010-9999 on Nov 20, 2026 at 5 p.m. please"),
        ("en", "**Dr. Smith** lives at 5 Main St. in St. Louis."),
        ("de", "Das kostet 1.250,40 € am 3. Mai um 14.30 Uhr."),
        ("fr", "Cela coûte 1 250,40 € le 1er mai."),
    ],
)
async def test_whatever_is_cut_off_is_heard_in_written_words(language, text):
    words, duration_ms = await spoken_by_espeak(text, language)
    times = timed_words(shape(text, language), words, duration_ms)
    assert [word.text for word in times] == text.split()
    edges = [edge for word in times for edge in (word.start_ms, word.end_ms)]
    assert edges == sorted(edges) and edges[-1] == duration_ms
    done = TtsDone(**CALL, turn=1, utterance_id=100, index=0, frames=9, duration_ms=duration_ms, words=times)
    counts = []
    for sent_ms in range(0, duration_ms + 20, 20):
        flushed = PlayoutFlushed(**CALL, utterance_id=100, media_time_ms=0, index=0, sent_ms=sent_ms)
        heard = heard_text({0: text}, {0: done}, (), finished=False, flushed=flushed).split()
        assert heard == text.split()[: len(heard)]
        counts.append(len(heard))
    assert counts == sorted(counts)
    assert counts[0] == 0 and counts[-1] == len(text.split())


async def test_an_amount_that_is_cut_off_is_not_heard_and_later_once():
    text = "You owe $1,250.40 now."
    words, duration_ms = await spoken_by_espeak(text)
    assert [word.text for word in words] == shape(text).text.split()
    fifty = next(word.start_ms for word in words if word.text == "fifty")
    now = next(word.start_ms for word in words if word.text == "now.")
    times = timed_words(shape(text), words, duration_ms)
    assert [word.text for word in times if word.end_ms <= fifty] == ["You", "owe"]
    assert [word.text for word in times if word.end_ms <= now] == ["You", "owe", "$1,250.40"]
    assert [word.text for word in words_ended(shape(text), words, fifty + 1)] == ["You", "owe"]
    assert [word.text for word in words_ended(shape(text), words, now + 1)] == ["You", "owe", "$1,250.40"]


def test_spread_times_count_what_is_spoken():
    times = spread_words(shape("It is $1,250.40 ok 😊"), 0, 1000)
    assert [word.text for word in times] == ["It", "is", "$1,250.40", "ok", "😊"]
    assert times[2].end_ms - times[2].start_ms > 800
    assert (times[4].start_ms, times[4].end_ms) == (1000, 1000)
    assert [(word.start_ms, word.end_ms) for word in spread_words(shape("😊 😊"), 0, 100)] == [(0, 100), (0, 100)]


@virtual
async def test_an_engine_is_given_what_is_spoken_and_the_record_what_is_written():
    edge = await started_twin()
    said = "one dollar and fifty cents, please"
    engine = ScriptedEngine([spoken(said, 60)])
    async with speech_call(edge, engine):
        await edge.answer()
        await edge.tell(sentence(100, 0, "**$1.50** — please"), sentence(100, 1, "😊"), sentence(100, 2), done(100, 3))
        await settle()
    assert engine.opened == [said, "hello there"], "nobody is asked to speak a picture"
    first, picture, last = edge.of(TtsDone)
    assert [(word.text, word.start_ms) for word in first.words] == [("**$1.50**", 0), ("—", 1000), ("please", 1000)]
    assert first.text is None
    assert ([word.text for word in picture.words], picture.frames, picture.text) == (["😊"], 1, None)
    assert [word.text for word in last.words] == ["hello", "there"]
    assert edge.of(Failure) == []
    assert edge.ends() == [(100, 3)]


@virtual
async def test_the_text_is_given_as_it_is_written_where_the_settings_say_so():
    edge = await started_twin()
    engine = ScriptedEngine()
    async with speech_call(edge, engine, settings=TtsSection(shape_text=False)):
        await edge.answer()
        await edge.tell(sentence(100, 0, "**$1.50** 😊"), done(100, 1))
        await settle()
    assert engine.opened == ["**$1.50** 😊"]
