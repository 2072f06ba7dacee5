"""Word times: one for each word of the text, and what is made of them when the caller cuts the sentence off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.playout import PlayoutFlushed
from schemas.tts import SpokenWord, TtsDone
from services.llm.heard import heard_text
from services.tts.engine import WordStart
from services.tts.words import spread_words, timed_words, words_ended

pytestmark = pytest.mark.unit

CALL = {"call_id": "c1", "at_us": 1}


def times(words) -> list[tuple[str, int, int]]:
    return [(word.text, word.start_ms, word.end_ms) for word in words]


def test_spread_words_by_length():
    assert spread_words("to  the bank", 100, 1200) == (
        SpokenWord(text="to", start_ms=100, end_ms=375),
        SpokenWord(text="the", start_ms=375, end_ms=741),
        SpokenWord(text="bank", start_ms=741, end_ms=1200),
    )
    assert spread_words("  ", 0, 100) == ()


def test_a_word_ends_where_the_next_begins():
    starts = [WordStart("one", 0), WordStart("two", 200), WordStart("three", 500)]
    assert times(timed_words("one two three", starts, 450)) == [("one", 0, 200), ("two", 200, 450), ("three", 450, 450)]
    assert timed_words("one two", [], 100) == ()
    assert timed_words("", starts, 100) == ()


def test_a_word_without_a_time_is_heard_with_the_one_before_it():
    starts = [WordStart("yes", 10), WordStart("of", 300), WordStart("course", 400)]
    assert times(timed_words("- yes — of course 🙂", starts, 900)) == [
        ("-", 10, 10), ("yes", 10, 300), ("—", 300, 300), ("of", 300, 400), ("course", 400, 900), ("🙂", 900, 900),
    ]  # fmt: skip


def test_what_the_engine_adds_is_passed_over():
    starts = [WordStart("Bank.", 0), WordStart("dot", 300), WordStart("Hello", 500)]
    assert times(timed_words("Bank. Hello", starts, 900)) == [("Bank.", 0, 500), ("Hello", 500, 900)]
    assert timed_words("4271", [WordStart("four", 0), WordStart("two", 200)], 500) == ()


def test_of_audio_that_breaks_off_only_what_was_said_to_its_end():
    starts = [WordStart("one", 0), WordStart("two", 200), WordStart("three", 500)]
    assert times(words_ended("one two three four", starts, 600)) == [("one", 0, 200), ("two", 200, 500)]
    assert times(words_ended("one two three four", starts, 500)) == [("one", 0, 200)]
    assert words_ended("one two", starts, 0) == ()
    assert words_ended("one two", [], 600) == (), "without times nobody knows"


TOKENS = st.lists(st.sampled_from(["one", "two", "—", "...", "4271", "a.b", "🙂", "no", "No."]), min_size=1, max_size=9)


@st.composite
def spoken_sentences(draw) -> tuple[str, list[WordStart], int]:
    """A text, and what an engine may tell of it: words left out, added, and in wrong places."""
    text = draw(st.sampled_from([" ", "  ", "\n"])).join(draw(TOKENS))
    told = draw(st.lists(st.one_of(st.sampled_from(text.split()), st.just("dot")), max_size=12))
    starts = [WordStart(word, draw(st.integers(0, 3000))) for word in told]
    if draw(st.booleans()):
        starts.sort(key=lambda start: start.start_ms)
    return text, starts, draw(st.integers(0, 3000))


@given(spoken_sentences())
def test_there_is_one_time_for_each_word_and_they_follow_each_other(spoken):
    text, starts, duration_ms = spoken
    words = timed_words(text, starts, duration_ms) or spread_words(text, 0, duration_ms)
    assert [word.text for word in words] == text.split()
    edges = [edge for word in words for edge in (word.start_ms, word.end_ms)]
    assert edges == sorted(edges)
    assert edges[-1] == duration_ms
    ended = words_ended(text, starts, duration_ms)
    assert [word.text for word in ended] == text.split()[: len(ended)]


@given(spoken_sentences(), st.integers(0, 3500), st.integers(0, 3500), st.booleans())
def test_what_was_heard_is_always_a_beginning_of_the_sentence(spoken, sent_ms, more_ms, aligned):
    text, starts, duration_ms = spoken
    if aligned:
        words = timed_words(text, starts, duration_ms)
    else:
        words = tuple(SpokenWord(text=start.text, start_ms=0, end_ms=start.start_ms) for start in starts)
    done = TtsDone(**CALL, turn=0, utterance_id=0, index=0, frames=1, duration_ms=duration_ms, words=words)

    def heard(ms: int) -> list[str]:
        flushed = PlayoutFlushed(**CALL, utterance_id=0, media_time_ms=0, sent_ms=ms)
        return heard_text({0: text}, {0: done}, (), finished=False, flushed=flushed).split()

    count = len(heard(sent_ms))
    assert heard(sent_ms) == text.split()[:count]
    assert len(heard(sent_ms + more_ms)) >= count, "more audio is never fewer words"
    if aligned and words:
        assert all(word.end_ms <= sent_ms for word in words[:count])


def test_what_was_said_in_a_sentences_place_is_what_was_heard():
    spoken = {
        0: TtsDone(**CALL, turn=1, utterance_id=100, index=0, frames=9, duration_ms=900),
        1: TtsDone(**CALL, turn=1, utterance_id=100, index=1, frames=9, duration_ms=900, text="I am sorry."),
        2: TtsDone(**CALL, turn=1, utterance_id=100, index=2, frames=0, duration_ms=0, text=""),
    }
    sentences = {0: "It is here.", 1: "It was sent.", 2: "Bye."}
    assert heard_text(sentences, spoken, {0, 1}, finished=True, flushed=None) == "It is here. I am sorry."
    flushed = PlayoutFlushed(**CALL, utterance_id=100, media_time_ms=0, index=1, sent_ms=700)
    assert heard_text(sentences, spoken, {0}, finished=False, flushed=flushed) == "It is here. I am"
    assert heard_text({}, {1: spoken[1]}, (), finished=True, flushed=None) == "I am sorry.", "no llm stage said it"
