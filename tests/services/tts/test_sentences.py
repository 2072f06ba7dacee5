"""Cutting texts into sentences and pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.sentences import split_sentences, split_text

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


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("I am sorry. Please say that again.", ["I am sorry.", "Please say that again."]),
        ("  One  ", ["One"]),
        ("It is 4.50 now! 'Really?' Yes", ["It is 4.50 now!", "'Really?'", "Yes"]),
        ("你好吗。我很好。", ["你好吗。", "我很好。"]),
        ("Wait... - ... what?", ["Wait... - ... what?"]),
        ("... !", []),
        ("", []),
    ],
)
def test_sentences_of_a_command(text, sentences):
    assert split_sentences(text) == sentences
