"""Cutting very long texts, and word times by length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.tts import SpokenWord
from services.tts.engine import WordStart
from services.tts.sentences import split_text
from services.tts.words import spoken_words, spread_words

pytestmark = pytest.mark.unit


@given(st.text(max_size=600), st.integers(min_value=1, max_value=80))
def test_pieces_together_are_the_text_and_none_is_too_long(text, limit):
    pieces = split_text(text, limit)
    assert "".join(piece.text for piece in pieces) == text
    assert all(len(piece.text) <= limit for piece in pieces)
    assert all(text[piece.offset : piece.offset + len(piece.text)] == piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("short", "short"),
        ("One two. Three four, five six seven", "One two."),
        ("One two three, four five six seven", "One two three,"),
        ("One two three four five six seven", "One two three four "),
        ("abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrst"),
        ("1.5 and 2.5 make 4.0 altogether", "1.5 and 2.5 make "),
        ("你好吗。我很好。谢谢你的关心,今天天气非常好啊", "你好吗。我很好。"),
    ],
)
def test_cut_where_a_voice_pauses(text, first):
    assert split_text(text, 20)[0].text == first


def test_spread_words_by_length():
    assert spread_words("to  the bank", 100, 1200) == (
        SpokenWord(text="to", start_ms=100, end_ms=375),
        SpokenWord(text="the", start_ms=375, end_ms=741),
        SpokenWord(text="bank", start_ms=741, end_ms=1200),
    )
    assert spread_words("  ", 0, 100) == ()


def test_a_word_ends_where_the_next_begins():
    words = spoken_words([WordStart("one", 0), WordStart("two", 200), WordStart("three", 500)], 450)
    assert [(word.start_ms, word.end_ms) for word in words] == [(0, 200), (200, 500), (500, 500)]
    assert spoken_words([], 100) == ()
