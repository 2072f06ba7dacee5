"""Phrases to JSGF."""

from __future__ import annotations

import pytest

from schemas.llm import ListenFor
from services.asr import grammar
from services.asr.grammar import Grammar, GrammarError, build, count_digits, parse

pytestmark = pytest.mark.unit


def make(*phrases: str, digits: int = 0, unknown: tuple[str, ...] = ()) -> Grammar:
    made = build(ListenFor(phrases=phrases, digits=digits), lambda word: word not in unknown)
    assert made is not None
    return made


def heard(made: Grammar) -> str:
    line = next(line for line in made.jsgf.splitlines() if line.startswith("public"))
    return line.removeprefix("public <heard> = [ ").removesuffix(" ];")


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("where is my card", "where is my card"),
        ("Where's my Card?", "where's my card"),
        ("a (b | c d) [e [f]]", "a (b | c d) [e [f]]"),
        ("(a b)* c+", "(a b)* (c)+"),
        ("pin 42 check-in", "pin four two check in"),
        ("a | b", "(a | b)"),
    ],
)
def test_phrases_keep_their_meaning(phrase: str, expected: str) -> None:
    assert heard(make(phrase)) == expected


def test_rules_are_added_with_those_that_they_use() -> None:
    made = make("<number> pounds", "<number> dollars")
    assert made.jsgf.startswith("#JSGF V1.0;\ngrammar callbus;\n")
    for rule in ("number", "below_thousand", "below_hundred", "unit", "teen", "tens"):
        assert made.jsgf.count(f"\n<{rule}> = ") == 1
    assert "<month>" not in made.jsgf
    assert {"pounds", "seventy", "thousand"} <= made.words


def test_every_rule_parses_and_uses_only_rules() -> None:
    for name in grammar.RULES:
        assert f"<{name}>" in make(f"<{name}>").jsgf


def test_digits_are_one_to_as_many_as_are_expected() -> None:
    assert heard(make(digits=3)) == "<digit> [<digit> [<digit>]]"
    assert heard(make("i do not know", digits=1)) == "i do not know | <digit>"
    assert heard(make(digits=9999)).count("<digit>") == grammar.MAX_DIGITS


def test_what_needs_an_unknown_word_is_left_out() -> None:
    made = make(
        "my [blue] (card | xq | xq card)", "xq", "(xq | zz)", "[xq]", "[xq] (xq)*", unknown=("xq", "zz", "blue")
    )
    assert heard(made) == "my (card)"
    assert made.missing == ("blue", "xq", "zz")


def test_a_rule_without_known_words_is_void() -> None:
    made = make("hello", "<weekday> please", unknown=tuple(grammar.RULES["weekday"].split(" | ")))
    assert "<weekday> = <VOID>;" in made.jsgf


def test_nothing_to_listen_for_makes_no_grammar() -> None:
    assert build(ListenFor(), lambda word: True) is None
    assert build(ListenFor(phrases=("a",)), lambda word: False) is None


@pytest.mark.parametrize(
    ("phrase", "defect"),
    [
        ("(a", r"'\)' is missing"),
        ("a)", r"'\)' closes nothing"),
        ("[a | ]", "an alternative is empty"),
        ("", "an alternative is empty"),
        ("* a", r"'\*' repeats nothing"),
        ("<nonsense>", "no rule <nonsense>; there are .*digit"),
        ("/0.5/ a", "'/' at 0 is not supported"),
    ],
)
def test_a_bad_phrase_is_named_and_the_others_stay(phrase: str, defect: str) -> None:
    with pytest.raises(GrammarError, match=defect):
        parse(phrase)
    made = make("hello", phrase)
    assert heard(made) == "hello"
    assert len(made.faults) == 1


def test_digits_of_a_transcript() -> None:
    assert count_digits("my card ends with four OH 71") == 4
    assert count_digits("Four, two. Seven-one!") == 4
    assert count_digits("42 71.") == 4
    assert count_digits("") == 0
