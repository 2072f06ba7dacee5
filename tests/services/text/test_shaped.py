"""The way back from spoken words to written ones, and that shaping survives any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.text.shaped import Group, as_written
from services.text.speakable import shape
from services.text.traced import Edit, Traced
from services.text.vocabulary import LANGUAGES

pytestmark = pytest.mark.unit


def pairs(text: str, language: str = "en") -> list[tuple[str, str]]:
    """Written words, and the spoken ones that say them."""
    shaped = shape(text, language)
    written, spoken = shaped.written.split(), shaped.text.split()
    return [
        (" ".join(written[group.written : group.written_end]), " ".join(spoken[group.spoken : group.spoken_end]))
        for group in shaped.groups
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is fine.", [("It", "It"), ("is", "is"), ("fine.", "fine.")]),
        ("Pay $1,250.40 now.", [
            ("Pay", "Pay"), ("$1,250.40", "one thousand two hundred fifty dollars and forty cents"), ("now.", "now."),
        ]),
        ("😊 Hi 😊 you 😊", [("😊", ""), ("Hi", "Hi"), ("😊", ""), ("you", "you"), ("😊", "")]),
        ("Yes — of course", [("Yes —", "Yes,"), ("of", "of"), ("course", "course")]),
        ("**Very good**", [("**Very", "Very"), ("good**", "good")]),
        ("At 5 p.m. today", [("At", "At"), ("5 p.m.", "five PM"), ("today", "today")]),
        ("Call +1 (555) 010-9999", [
            ("Call", "Call"), ("+1", "plus one,"), ("(555)", "five five five,"),
            ("010-9999", "zero one zero, nine nine nine nine"),
        ]),
        ("4 2 7 1", [("4", "four"), ("2", "two"), ("7", "seven"), ("1", "one")]),
        ("see [the site](https://a.com/b) ok", [
            ("see", "see"), ("[the", "the"), ("site](https://a.com/b)", "site"), ("ok", "ok"),
        ]),
        ("5 km 3 GB", [("5 km", "five kilometers"), ("3 GB", "three gigabytes")]),
    ],
)  # fmt: skip
def test_each_spoken_word_belongs_to_written_ones(text, expected):
    assert pairs(text) == expected


def test_what_has_nothing_to_say_is_empty():
    for text in ("😊", "**", "---", "…", "- ", "| |", "&nbsp;", "```"):
        assert shape(text).text == "", text
    assert shape("").groups == () and shape(" \n").groups == ()
    assert shape("😊 😊").groups == (Group(0, 1, 0, 0), Group(1, 2, 0, 0))


def test_a_text_whose_words_do_not_change_is_given_as_it_is_written():
    for text in ("It is  fine,\tthanks.", "Ich bin's; gut!", "  Hello  "):
        assert shape(text) == as_written(text)


def test_times_of_spoken_words_become_times_of_written_ones():
    shaped = shape("Pay $1.50 — now 😊 ok")
    assert shaped.text == "Pay one dollar and fifty cents, now ok"
    assert shaped.written_starts([0, 10, 20, 30, 40, 50, 60, 70]) == [0, 10, None, 60, None, 70]
    assert shaped.written_starts([0, None, 20, 30, 40, 50, None, 70]) == [0, 20, None, None, None, 70]
    assert shaped.weights() == [4, 28, 0, 4, 0, 3]


def test_edits_keep_where_characters_come_from():
    traced = Traced.of("abc def").edit([Edit(0, 3, "x y"), Edit(7, 7, "!")])
    assert traced == ("x y def!", [0, 0, 0, 3, 4, 5, 6, 7], [3, 3, 3, 4, 5, 6, 7, 7])
    assert traced.edit([Edit(0, 0, "(")]).begins[0] == 0


PARTS = st.sampled_from(
    [
        "$", "€", "1,250.40", "1.250,40", "5", "4271", "2026", "-", "–", " — ", "/", ":", "14:30", "pm",
        "p.m.", "%",
        "km", "°C", "+1 (555) 010-9999", "****", "**", "*", "_", "`", "[a](b)", "[", "](", ")", "<b>", "<", "&amp;",
        "&", "#", "@", "a@b.co", "https://x.org/a?b", "www.", "😊", "\ufe0f", "\u200d", "Dr.", "St.", "No. ",
        "ending in ", "Nov 20", "3. Mai", "le 1er", "1/2", "½", "EX20318831", "COVID-19", "|", "\n", "\n- ",
        "\n# ", " ",
        "  ", ",", ".", "...", "x", "hello", "٣", "²", "\x00", "\u2028", "\xa0", "000", "9" * 20, "é", "你好",
        "'", "90s",
        "1st", "~", "=", "w/",
    ]
)  # fmt: skip
TEXT = st.one_of(st.lists(PARTS, max_size=25).map("".join), st.text(max_size=60))


@settings(max_examples=300)
@given(TEXT, st.sampled_from([*LANGUAGES, "en-GB", "pt-BR", "xx", ""]))
def test_any_text_is_shaped_and_every_word_has_its_place(text, language):
    shaped = shape(text, language)
    assert shaped.written == text
    groups = shaped.groups
    written = [index for group in groups for index in range(group.written, group.written_end)]
    spoken = [index for group in groups for index in range(group.spoken, group.spoken_end)]
    assert written == list(range(len(text.split())))
    assert spoken == list(range(len(shaped.text.split())))
    starts = list(range(len(spoken)))
    known = [start for start in shaped.written_starts(starts) if start is not None]
    assert known == sorted(known)
    assert len(shaped.weights()) == len(written)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(["yes", "I", "can't", "help,", "you.", "Thank", "(now)", "twenty-one", "o'clock", "é"]),
        max_size=12,
    )
)
def test_plain_words_stay(words):
    text = " ".join(words)
    assert shape(text).text == text


@settings(max_examples=200)
@given(TEXT, st.sampled_from(LANGUAGES))
def test_shaping_ends_in_words(text, language):
    said = shape(text, language).text
    assert "😊" not in said and "  " not in said.replace("\xa0", " ").replace("\u2028", " ")


LONG = [
    "$1,250.40 ", "4271 ", "****4271 ", "a@b.co ", "https://a.b/c ", "+1 555 ", "[", "[a](b", "<", "<b ", "**a** ", "`",
    "_a_", "1", "1.", "1,", "1-", "12:", "x", " ", "\n", "| a ", "- ", "Dr. ", "A1B2", "5 km ", "😊", "a-",
    "&", "Nov 20 ",
    "ending in ", "'", "0 ", "1 234 ", "(0", "DE89 ", "*•xX",
]  # fmt: skip


@pytest.mark.parametrize("part", LONG)
def test_no_pattern_takes_the_square_of_the_length(part):
    shape(part)
    text = (part * 12_000)[:12_000]
    begun = time.process_time()
    assert shape(text).written == text
    # 0.1 s on an idle machine; what grows with the square of the length takes many times that.
    assert time.process_time() - begun < 3


def test_a_very_long_text_takes_bounded_time():
    text = ("".join(LONG) * 400)[:60_000]
    begun = time.process_time()
    assert shape(text).written == text
    # 2 s on an idle machine.
    assert time.process_time() - begun < 20
