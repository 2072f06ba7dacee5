"""What Whisper writes though nobody said it."""

from __future__ import annotations

import pytest

from services.asr.engines._hallucination import SILENCE_PHRASES, Heard, spoken, without_loops

pytestmark = pytest.mark.unit

SURE, GUESSED = -0.2, -1.4
VOICE, SILENCE = 0.05, 0.9
THRESHOLD = 0.6


def judged(text: str, *, seconds: float = 3.0, logprob: float = SURE, no_speech: float = VOICE) -> str:
    return spoken(Heard(text, seconds, logprob, no_speech), THRESHOLD)


def test_speech_is_kept_as_it_is() -> None:
    assert judged(" Where is my  credit card? ") == "Where is my credit card?"
    assert judged("Größe, Überweisung!", logprob=GUESSED) == "Größe, Überweisung!"
    assert judged("我的余额是多少") == "我的余额是多少"


def test_a_guess_at_silence_is_none() -> None:
    assert judged("I went to the shop.", logprob=GUESSED, no_speech=SILENCE) == ""
    assert judged("I went to the shop.", logprob=SURE, no_speech=SILENCE) == "I went to the shop."
    assert judged("I went to the shop.", logprob=GUESSED, no_speech=VOICE) == "I went to the shop."


@pytest.mark.parametrize(
    "text", ["Thank you for watching!", " you", "Thank you.", "Subtitles by the Amara.org community"]
)
def test_what_stands_under_films_counts_only_where_somebody_speaks(text: str) -> None:
    assert judged(text, no_speech=SILENCE) == ""
    assert judged(text, no_speech=VOICE) == text.strip()


def test_phrases_of_silence_are_written_as_they_are_compared() -> None:
    assert all(phrase == " ".join(phrase.lower().split()) for phrase in SILENCE_PHRASES)
    assert not [phrase for phrase in SILENCE_PHRASES if set(phrase) & set(".,!?-¡")]


@pytest.mark.parametrize("text", ["", " ", "...", "♪♪♪", "- - -", "?!"])
def test_marks_without_a_word_are_nothing(text: str) -> None:
    assert judged(text) == ""


def test_a_loop_is_said_once() -> None:
    assert without_loops("my card my card my card my card is lost") == "my card is lost"
    assert without_loops("No, no, no, no, no, no, no.") == "No,"
    assert without_loops("I'm sorry. I'm sorry! i'm sorry, I'm sorry and that is it") == "I'm sorry. and that is it"


@pytest.mark.parametrize(
    "text",
    [
        "no no no",
        "yes yes please",
        "my card my card my card",
        "four four four four four four four four",
        "1 1 1 1 1 1 1",
    ],
)
def test_what_people_repeat_is_no_loop(text: str) -> None:
    assert without_loops(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "four one one one one one one one one one one one one one one one",
        "Zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, one, two.",
        "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "My number is double zero double zero double zero double zero double zero.",
        "null null null null null null null null eins",
        "cero cero cero cero cero cero cero cero cero cero",
    ],
)
def test_numbers_of_equal_digits_are_kept(text: str) -> None:
    assert judged(text, seconds=9.0) == text


def test_more_text_than_the_audio_can_hold_was_not_said() -> None:
    text = "I would like to know the balance of my savings account and of my other account"
    assert judged(text, seconds=4.0) == text
    assert judged(text, seconds=0.5) == ""
    assert judged("yes please", seconds=0.2) == "yes please"


def test_a_text_that_repeats_itself_without_a_loop_of_words_was_not_said() -> None:
    assert judged("哈" * 60, seconds=20.0) == ""
