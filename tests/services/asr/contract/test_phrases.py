"""Phrases of an agent as plain sentences: every pair of words that may follow each other, and no other pair."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.llm import ListenFor
from services.asr import grammar
from services.asr.engines._phrases import MAX_PHRASES, expected_phrases, words_of
from services.asr.expected import ExpectedPhrases

pytestmark = pytest.mark.unit


def listen(*phrases: str, digits: int = 0) -> ListenFor:
    return ListenFor(state="x", phrases=phrases, digits=digits)


def knows_all(word: str) -> bool:
    return True


def test_alternatives_and_what_may_be_left_out() -> None:
    heard = expected_phrases(listen("where is my [new] (credit | debit) card", "yes [please]"), knows_all)
    assert set(heard.phrases) == {
        "where is my credit card",
        "where is my debit card",
        "where is my new credit card",
        "where is my new debit card",
        "yes",
        "yes please",
    }


def test_repetition_is_a_pair_of_its_own() -> None:
    assert set(expected_phrases(listen("no+", "so*"), knows_all).phrases) == {"no", "no no", "so", "so so"}


def test_any_row_of_digits_is_made_of_pairs() -> None:
    four, fifteen = (expected_phrases(listen(digits=count), knows_all).phrases for count in (4, 15))
    assert set(four) == set(fifteen)
    pairs = {pair for phrase in four for pair in itertools.pairwise(phrase.split())}
    assert pairs == set(itertools.product(grammar.DIGITS, repeat=2))


def test_what_needs_an_unknown_word_is_left_out_and_named() -> None:
    heard = expected_phrases(listen("where is my (card | fzzbxq)", "the fzzbxq is lost", "broken ("), "fzzbxq".__ne__)
    assert heard.phrases == ("where is my card",)
    assert heard.missing == ("fzzbxq",)
    assert len(heard.faults) == 1
    nothing = expected_phrases(listen("fzzbxq", "broken ("), "fzzbxq".__ne__)
    assert nothing == ((), ("fzzbxq",), heard.faults)
    assert expected_phrases(ListenFor(), knows_all) == ((), (), ())


def test_more_sentences_than_are_listed_become_words() -> None:
    words = [f"w{number}" for number in range(40)]
    either = " | ".join(words)
    heard = expected_phrases(listen(f"({either}) ({either})", "and no more"), knows_all)
    assert set(heard.phrases) == {*words, "and", "no", "more"}
    assert len(heard.phrases) <= MAX_PHRASES


def test_the_longest_rules_are_within_the_bound() -> None:
    every = expected_phrases(listen(*(f"<{rule}>" for rule in grammar.RULES if rule != "date")), knows_all)
    assert any(" " in phrase for phrase in every.phrases)


def test_plain_words_for_hints() -> None:
    assert words_of(listen("my [credit | debit] card", "my card <digit>", "card+", "no ( way", digits=3)) == (
        "my",
        "credit",
        "debit",
        "card",
    )


_words = st.sampled_from("abcdef").map(str)
_phrases = st.recursive(
    _words,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(" ".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda options: f"({' | '.join(options)})"),
        inner.map(lambda part: f"[{part}]"),
        inner.map(lambda part: f"({part})+"),
    ),
    max_leaves=8,
)


@given(st.lists(_phrases, min_size=1, max_size=3), st.sets(st.sampled_from("abcdef"), max_size=2))
def test_each_sentence_is_one_that_the_agent_expects(phrases: list[str], unknown: set[str]) -> None:
    listen_for = listen(*phrases)
    heard = expected_phrases(listen_for, lambda word: word not in unknown)
    expected = ExpectedPhrases(listen_for)
    assert all(expected.is_whole(sentence) for sentence in heard.phrases), heard.phrases
    assert not unknown & {word for sentence in heard.phrases for word in sentence.split()}
