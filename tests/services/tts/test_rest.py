"""What is left of a sentence that broke off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.engine import WordStart
from services.tts.rest import Pace, expected_ms, speakable, too_long, too_short, weight, without_words, words_said
from services.tts.words import spread_words

pytestmark = pytest.mark.unit

TEXT = "It was sent on Monday, I think."
STARTS = tuple(WordStart(word, 200 * number) for number, word in enumerate(TEXT.split()))


@pytest.mark.parametrize(
    ("given_ms", "said"), [(0, 0), (100, 0), (200, 0), (201, 1), (700, 3), (1000, 4), (1400, 6), (9000, 6)]
)
def test_words_are_said_once_the_next_one_has_begun(given_ms: int, said: int) -> None:
    assert words_said(TEXT, STARTS, given_ms, 0, Pace()) == said


def test_times_of_words_that_the_text_does_not_hold_are_none() -> None:
    assert words_said("4271", [WordStart("four", 0), WordStart("two", 300)], 500, 0, Pace()) == 0


@pytest.mark.parametrize(
    ("given_ms", "silence_ms", "said"),
    # "It " is 3 characters of 110 ms each, "was " 4, "sent " 5; the last word of these is said again.
    [(0, 0, 0), (329, 0, 0), (769, 0, 0), (770, 0, 1), (770, 1, 0), (1320, 0, 2), (1420, 100, 2), (60_000, 0, 6)],
)
def test_without_times_the_slowest_voice_counts_and_a_word_of_it_is_said_again(
    given_ms: int, silence_ms: int, said: int
) -> None:
    assert words_said(TEXT, (), given_ms, silence_ms, Pace()) == said


def test_a_pace_that_is_known_leaves_less_to_repeat() -> None:
    pace = Pace()
    pace.learn("too short", 10_000)
    assert pace.slowest_ms == 110
    pace.learn(TEXT, 50.0 * weight(TEXT))
    pace.learn(TEXT, 40.0 * weight(TEXT))
    assert pace.slowest_ms == pytest.approx(60)
    assert words_said(TEXT, (), 12 * 60, 0, pace) == 2
    for _ in range(20):
        pace.learn(TEXT, 40.0 * weight(TEXT))
    assert pace.slowest_ms == pytest.approx(48), "what is long ago does not count"


@pytest.mark.parametrize(
    ("count", "rest"),
    [(0, TEXT), (2, "sent on Monday, I think."), (6, "think."), (7, ""), (9, "")],
)
def test_the_rest_is_as_it_is_written(count: int, rest: str) -> None:
    assert without_words(TEXT, count) == rest
    assert without_words("a\n  b", 1) == "b"


@pytest.mark.parametrize(
    ("text", "given_ms", "short", "long"),
    [
        (TEXT, 2000, False, False),
        (TEXT, 200, True, False),
        (TEXT, 20_000, False, True),
        ("Yes.", 100, False, False),
        ("Yes.", 3000, False, False),
        ("Yes.", 4000, False, True),
        ("4271", 12_000, False, False),
        ("...", 0, False, False),
        ("", 60_000, False, False),
    ],
)
def test_audio_that_can_not_be_the_text(text: str, given_ms: int, short: bool, long: bool) -> None:
    assert (too_short(text, given_ms), too_long(text, given_ms)) == (short, long)


def test_speed_counts() -> None:
    assert expected_ms(TEXT, 2.0) == expected_ms(TEXT) / 2
    assert too_long(TEXT, 10_000, 2.0) and not too_long(TEXT, 10_000)
    assert Pace(2.0).slowest_ms == 55


@pytest.mark.parametrize(("text", "is_one"), [("", False), (" … !", False), ("7", True), ("ü", True), ("是", True)])
def test_what_can_be_spoken(text: str, is_one: bool) -> None:
    assert speakable(text) is is_one


@given(
    st.lists(st.text(st.sampled_from("abc,7"), min_size=1, max_size=9), min_size=1, max_size=12),
    st.floats(20, 110),
    st.floats(0, 1),
)
def test_no_word_is_ever_lost(words: list[str], character_ms: float, share: float) -> None:
    """Whatever the pace of an even voice (not over the slowest) and wherever it breaks off."""
    text = " ".join(words)
    whole_ms = weight(text) * character_ms
    given_ms = int(whole_ms * share)
    spoken_ms, truly_said = 0.0, 0
    for word in words:
        spoken_ms += weight(word) * character_ms
        truly_said += spoken_ms <= given_ms
    assert words_said(text, (), given_ms, 0, Pace()) <= truly_said
    starts = [WordStart(word.text, word.start_ms) for word in spread_words(text, 0, int(whole_ms))]
    assert words_said(text, starts, given_ms, 0, Pace()) <= len([s for s in starts if s.start_ms < given_ms])
