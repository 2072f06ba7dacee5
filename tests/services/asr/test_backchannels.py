"""Which words only say "I am listening"."""

from __future__ import annotations

import pytest

from services.asr.turn.backchannels import BACKCHANNELS, is_backchannel, may_become_backchannel, usual_backchannels

pytestmark = pytest.mark.unit

TAKES_THE_FLOOR = {
    "en": ("yes", "no", "stop", "wait", "hold on", "what", "help", "agent"),
    "de": ("ja", "nein", "stopp", "warte", "moment", "was"),
    "es": ("sí", "no", "para", "espera", "qué"),
    "fr": ("oui", "non", "stop", "attendez", "quoi"),
    "nl": ("ja", "nee", "stop", "wacht", "wat"),
    "it": ("sì", "no", "ferma", "aspetta", "cosa"),
}


@pytest.mark.parametrize(
    "text", ["mm-hm", "Uh-huh.", "okay", "OK", "Yeah, right.", "I see", "mm hm okay I see", "that’s right"]
)
def test_words_of_a_listener(text: str) -> None:
    assert is_backchannel(text, "en")
    assert is_backchannel(text, "en-US")


@pytest.mark.parametrize("text", ["", "...", "yes", "okay stop", "right there", "i see a problem", "i", "see", "card"])
def test_words_that_take_the_floor(text: str) -> None:
    assert not is_backchannel(text, "en")


@pytest.mark.parametrize("language", BACKCHANNELS)
def test_every_listed_phrase_is_one_and_no_answer_or_order_is(language: str) -> None:
    phrases = BACKCHANNELS[language]
    assert len(set(phrases)) == len(phrases)
    assert all(phrase == phrase.lower() for phrase in phrases)
    assert [phrase for phrase in phrases if not is_backchannel(phrase, language)] == []
    assert [word for word in TAKES_THE_FLOOR[language] if is_backchannel(word, language)] == []


def test_what_a_recogniser_listens_for_is_taken_for_one() -> None:
    assert usual_backchannels("en-US") == usual_backchannels("en") != ()
    assert [phrase for phrase in usual_backchannels("en") if not is_backchannel(phrase, "en")] == []
    assert usual_backchannels("xx") == ()


def test_a_phrase_may_begin_with_another_one() -> None:
    assert is_backchannel("oh i see", "en")
    assert is_backchannel("right i see", "en", frozenset({"right i"}))


def test_accents_are_not_needed() -> None:
    assert is_backchannel("tres bien", "fr")
    assert is_backchannel("Ajá", "es") and is_backchannel("aja", "es")


def test_words_of_ones_own_count_in_any_language() -> None:
    own = frozenset({"Roger that", ""})
    assert is_backchannel("roger that, okay", "en", own)
    assert is_backchannel("Roger that!", "xx", own)
    assert not is_backchannel("okay", "xx", own)
    assert not is_backchannel("", "xx", own)


@pytest.mark.parametrize(
    ("text", "undecided"),
    [("I", True), ("okay I", True), ("oh", True), ("that's", True), ("okay", False), ("I want", False), ("", False)],
)
def test_the_beginning_of_a_longer_phrase_is_undecided(text: str, undecided: bool) -> None:
    assert may_become_backchannel(text, "en") is undecided
