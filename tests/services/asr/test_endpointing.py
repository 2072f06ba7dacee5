"""How long a silence lasts: fixed, by verdicts, by words, by digits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from config.settings import TurnSection
from services.asr.turn.endpointing import ASK_AT_MS, DIGITS_CONFIRM_MS, Endpointing, Silence
from services.asr.turn.unfinished import is_unfinished

pytestmark = pytest.mark.unit


def rule(language: str = "en", **settings: Any) -> Endpointing:
    return Endpointing(TurnSection(**settings), language)


def verdict(probability: float, **known: Any) -> Silence:
    return Silence(**known).judged(probability)


def test_the_fixed_rule_waits_the_same_always_and_asks_nobody() -> None:
    fixed = rule(endpointing="fixed", endpointing_fixed_ms=700)
    for silence in (Silence(), Silence("my name is"), verdict(0.0), verdict(1.0, text="yes")):
        assert fixed.patience_ms(silence) == 700
        assert fixed.next_ask_ms(silence) is None


def test_the_surer_the_model_the_shorter_the_wait() -> None:
    semantic = rule()
    waits = [semantic.patience_ms(verdict(percent / 100)) for percent in range(0, 101)]
    assert (waits[0], waits[10], waits[98], waits[100]) == (3000, 3000, 300, 300)
    assert all(longer >= shorter for longer, shorter in pairwise(waits))
    assert waits[50] > 1500
    assert 500 < waits[95] < waits[90] < 1000


def test_a_probability_outside_its_range_is_no_other_wait() -> None:
    assert rule().patience_ms(verdict(1.5)) == 300
    assert rule().patience_ms(verdict(-0.5)) == 3000


def test_until_a_verdict_comes_silence_decides() -> None:
    semantic = rule(endpointing_fixed_ms=600)
    assert semantic.patience_ms(Silence("check my balance")) == 600
    assert semantic.patience_ms(Silence("check my balance", asks=1)) == 600


def test_verdicts_count_with_their_mean() -> None:
    silence = Silence().judged(1.0).judged(0.6)
    assert silence.probability == pytest.approx(0.8)
    assert silence.verdicts == 2
    assert silence.judged(0.2).probability == pytest.approx(0.6)
    semantic = rule()
    assert semantic.patience_ms(silence) == semantic.patience_ms(verdict(0.8))


def test_the_model_is_asked_again_while_the_silence_lasts() -> None:
    semantic = rule()
    asked = [semantic.next_ask_ms(Silence(asks=asks, verdicts=asks)) for asks in range(len(ASK_AT_MS) + 1)]
    assert asked == [*ASK_AT_MS, None]


def test_the_model_is_not_asked_again_before_it_has_answered_or_will_not() -> None:
    semantic = rule()
    assert [semantic.next_ask_ms(Silence(asks=asks)) for asks in range(1, len(ASK_AT_MS))] == [500, 1000]
    assert semantic.next_ask_ms(Silence(asks=2, verdicts=1)) == 1000
    assert semantic.next_ask_ms(Silence(asks=1, verdicts=1)) == 450


def test_words_that_can_not_be_all_are_waited_for() -> None:
    semantic = rule()
    for probability in (None, 0.5, 0.99):
        silence = Silence("I would like to", probability=probability, verdicts=1)
        assert semantic.patience_ms(silence) > 2000
    assert semantic.patience_ms(verdict(0.99, text="I would like that")) == 300
    assert semantic.patience_ms(verdict(0.0, text="I would like to")) == 3000


def test_nobody_waits_long_after_a_plain_yes() -> None:
    semantic = rule()
    for text in ("yes", "No, thank you.", "okay"):
        assert semantic.patience_ms(verdict(0.02, text=text)) == 975
        assert semantic.patience_ms(verdict(0.99, text=text)) == 300
    assert semantic.patience_ms(verdict(0.02, text="yes there is")) == 3000
    assert rule("de").patience_ms(verdict(0.02, text="Ja, bitte")) == 975
    assert rule("fi").patience_ms(verdict(0.02, text="yes")) == 3000


def test_words_of_a_language_without_a_list_are_no_cue() -> None:
    assert rule("fi").patience_ms(verdict(0.99, text="minä ja")) == 300
    assert rule("de-AT").patience_ms(verdict(0.99, text="ich und")) > 2000


def test_digits_are_waited_for_until_all_are_there() -> None:
    for kind in ("fixed", "semantic"):
        digits = rule(endpointing=kind)
        some = verdict(0.99, text="four two", expected_digits=4, digits=2)
        assert digits.patience_ms(some) == 3000
        every = some._replace(text="four two seven one", digits=4)
        assert digits.patience_ms(every) == DIGITS_CONFIRM_MS
        assert digits.patience_ms(every._replace(digits=5)) == DIGITS_CONFIRM_MS
        assert digits.next_ask_ms(some) is None
    assert rule(vad_stop_ms=400).patience_ms(Silence("one", 1, 1)) == 400


def test_where_digits_are_expected_a_sound_alone_is_no_end() -> None:
    semantic = rule(endpointing_fixed_ms=800)
    assert semantic.patience_ms(verdict(0.99, expected_digits=4)) == 800
    assert semantic.patience_ms(verdict(0.0, expected_digits=4)) == 3000
    assert semantic.patience_ms(verdict(0.99, text="I do not know", expected_digits=4)) == 300
    assert semantic.next_ask_ms(Silence(expected_digits=4)) == ASK_AT_MS[0]


def test_no_wait_is_longer_than_the_longest() -> None:
    short = rule(endpointing_max_ms=200)
    for silence in (Silence(), verdict(0.0), verdict(1.0), Silence("and"), Silence("one", 4, 1), Silence("one", 1, 1)):
        assert short.patience_ms(silence) <= 200
    assert rule(endpointing="fixed", endpointing_max_ms=200).patience_ms(Silence()) == 200


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "I would like to"),
        ("en", "The payment went to my,"),
        ("en", "it was um"),
        ("en", "I'm"),
        ("en", "My name is..."),
        ("en", "The number is"),
        ("en", "Well,"),
        ("en", "okay so"),
        ("en", "If I close my account"),
        ("en", "well, when I tried to pay"),
        ("en", "I don\N{RIGHT SINGLE QUOTATION MARK}t know if it\N{RIGHT SINGLE QUOTATION MARK}s"),
        ("de", "ich habe meine"),
        ("de", "mein Name ist"),
        ("de", "wenn ich das mache"),
        ("es", "quiero cambiar mi"),
        ("fr", "je voudrais"),
        ("EN_us", "and"),
    ],
)
def test_words_that_go_on(language: str, text: str) -> None:
    assert is_unfinished(text, language)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", ""),
        ("en", "..."),
        ("en", "yes"),
        ("en", "Yes it is."),
        ("en", "is"),
        ("en", "I think so"),
        ("en", "oh well"),
        ("en", "if you like"),
        ("en", "When will my new card arrive?"),
        ("en", "if I close my account what happens to my money"),
        ("en", "I lost my card"),
        ("de", "ich rufe Sie an"),
        ("de", "ja das ist es"),
        ("es", "sí"),
        ("es", "si"),
        ("fr", "un"),
        ("xx", "and"),
    ],
)
def test_words_that_may_be_all(language: str, text: str) -> None:
    assert not is_unfinished(text, language)


def test_words_that_are_all_of_an_expected_phrase_are_not_waited_for_long() -> None:
    settings = TurnSection(endpointing_min_ms=300, endpointing_fixed_ms=500, endpointing_max_ms=3000)
    endpointing = Endpointing(settings)
    for probability, patience_ms in ((None, 500), (0.05, 500), (0.99, 300)):
        silence = Silence(text="block my card", probability=probability, verdicts=1, whole=True)
        assert endpointing.patience_ms(silence) == patience_ms
    assert endpointing.patience_ms(Silence(text="block my card", probability=0.05, verdicts=1)) == 3000
