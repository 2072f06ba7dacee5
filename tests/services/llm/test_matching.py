"""Phrases and what people really say: the very phrase always matches, rubbish does not, digits are found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.llm import phrases
from services.llm.agent_check import load_agent
from services.llm.agent_file import find_agent
from services.llm.bank import Bank
from services.llm.digits import UNITS, digit_runs, find_digits, is_digit, spell
from services.llm.matching import DEFAULT_IGNORED, Matcher, words_of
from services.llm.phrases import DIGIT, PhraseError, expand, parse, render

pytestmark = pytest.mark.unit

AGENT = load_agent(find_agent("bank"), Bank().tools())
MENU = AGENT.intents_of["welcome"]
ANYTHING = AGENT.intents_of["anything_else"]


class TestPhrases:
    @pytest.mark.parametrize(
        ("phrase", "ways"),
        [
            ("hello", {"hello"}),
            ("where is my [new] card", {"where is my card", "where is my new card"}),
            ("(a | b c) d", {"a d", "b c d"}),
            ("[a | b] c", {"a c", "b c", "c"}),
            ("e-mail <thing>", {"e mail card", "e mail account"}),
            ("<digit> <digit>", {"<digit> <digit>"}),
            ("I  CAN'T", {"i can't"}),
        ],
    )
    def test_ways(self, phrase: str, ways: set[str]) -> None:
        node = parse(phrase, {"thing": "card | account"})
        assert {" ".join(words) for words in expand(phrase, node)} == ways

    @pytest.mark.parametrize(
        ("phrase", "text"),
        [
            ("where (is", "lacks a ')'"),
            ("where [is)", "lacks a ']'"),
            ("where) is", "without its opening bracket"),
            ("a ( ) b", "empty place"),
            ("a | | b", "empty place"),
            ("", "empty place"),
            ("what?", "not allowed at '?'"),
            ("my <car>", "there are: <digit>, <card>"),
            ("<loop>", "names itself"),
            ("[a] [b]", "may be left out as a whole"),
            ("[a] [b] [c] [d] [e] [f] [g] [h] [i] [k] j", "more than 512"),
        ],
    )
    def test_defects_are_named(self, phrase: str, text: str) -> None:
        rules = {"card": "card", "loop": "a <loop>"} if "loop" in phrase else {"card": "card"}
        with pytest.raises(PhraseError) as error:
            expand(phrase, parse(phrase, rules))
        assert text in str(error.value) or "<loop>" in phrase

    words = st.sampled_from(["where", "is", "my", "card", DIGIT])
    trees = st.recursive(
        words.map(phrases.Word),
        lambda nodes: (
            st.lists(nodes, min_size=1, max_size=3).map(lambda parts: phrases.Sequence(tuple(parts)))
            | st.lists(nodes, min_size=2, max_size=3).map(lambda options: phrases.Choice(tuple(options)))
            | nodes.map(lambda node: phrases.Choice((node, phrases.Sequence(()))))
        ),
        max_leaves=6,
    )

    @settings(max_examples=100, deadline=None)
    @given(trees)
    def test_rendering_and_reading_again_means_the_same(self, node: phrases.Node) -> None:
        text = render(node)
        assert set(phrases._ways(parse(text))) == set(phrases._ways(node))


class TestWords:
    def test_short_forms(self) -> None:
        said = words_of("Where's my card? I'd like it; I can\u2019t wait, don't you")
        assert " ".join(said) == "where is my card i would like it i can not wait do not you"

    def test_ignored_words(self) -> None:
        assert AGENT.matcher.clean("uh hello where is it please") == ("where", "is", "it")
        assert AGENT.matcher.clean("hello") == ("hello",)


class TestMatching:
    @pytest.mark.parametrize(
        ("text", "intent"),
        [
            ("where is my credit card", "card_delivery_inquiry"),
            ("Where's my new debit card, please?", "card_delivery_inquiry"),
            ("hello uh I was wondering where is my credit card thanks", "card_delivery_inquiry"),
            ("when will my kard arrive", "card_delivery_inquiry"),
            ("what's my account balence", "account_balance"),
            ("could you tell me how much money is in my savings account", "account_balance"),
            ("I've lost my card this morning", "lost_card"),
            ("freeze my card", "lost_card"),
            ("can I speak to a person", "speak_to_agent"),
            ("thank you very much bye", "goodbye"),
        ],
    )
    def test_what_people_say(self, text: str, intent: str) -> None:
        match = AGENT.matcher.best(text, MENU)
        assert match is not None
        assert match.intent == intent

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "please",
            "tell me a joke",
            "what is my name",
            "i want to lose weight",
            "my",
            "is my",
            "the weather is fine",
        ],
    )
    def test_what_means_nothing(self, text: str) -> None:
        assert AGENT.matcher.best(text, MENU) is None

    def test_a_short_word_in_a_long_sentence_decides_nothing(self) -> None:
        match = AGENT.matcher.best("no wait where is my card", ANYTHING)
        assert match is not None
        assert match.intent == "card_delivery_inquiry"
        assert AGENT.matcher.best("i really have no idea what this is all about", ANYTHING) is None

    def test_goodbye_beats_no(self) -> None:
        match = AGENT.matcher.best("no thank you goodbye", ANYTHING)
        assert match is not None
        assert match.intent == "goodbye"

    def test_only_intents_of_the_state(self) -> None:
        assert AGENT.matcher.best("yes", MENU) is None
        assert AGENT.matcher.best("yes", ANYTHING) is not None

    def test_digits_in_a_phrase(self) -> None:
        matcher = Matcher({"card": [("ends", "with", DIGIT, DIGIT)], "other": [("one", "moment")]})
        for text in ("ends with four two", "ends with 42", "ends with 4 2", "ends with one two"):
            match = matcher.best(text, ("card",))
            assert match is not None
            assert match.score == 1.0

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(AGENT.matcher._patterns), st.randoms(use_true_random=False))
    def test_the_very_phrase_scores_one(self, pattern: object, chance: object) -> None:
        intent, words, _ = pattern  # type: ignore[misc]
        match = AGENT.matcher.best(" ".join(words), (intent,))
        assert match is not None
        assert (match.intent, match.score) == (intent, 1.0)

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(AGENT.matcher._patterns), st.sampled_from(DEFAULT_IGNORED), st.integers(0, 10))
    def test_ignored_words_change_nothing(self, pattern: object, word: str, at: int) -> None:
        _, words, _ = pattern  # type: ignore[misc]
        text = " ".join([*words[:at], word, *words[at:]])
        match = AGENT.matcher.best(text, AGENT.intents_of["anything_else"])
        plain = AGENT.matcher.best(" ".join(words), AGENT.intents_of["anything_else"])
        assert match == plain

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=60))
    def test_any_text_has_a_score_from_threshold_to_one_or_none(self, text: str) -> None:
        match = AGENT.matcher.best(text, ANYTHING)
        assert match is None or 0.7 <= match.score <= 1.0

    @settings(max_examples=100, deadline=None)
    @given(st.sampled_from(AGENT.matcher._patterns), st.lists(st.sampled_from(["zebra", "violin"]), max_size=6))
    def test_more_words_never_raise_the_score(self, pattern: object, more: list[str]) -> None:
        intent, words, _ = pattern  # type: ignore[misc]
        scores = [
            match.score if (match := AGENT.matcher.best(" ".join([*words, *more[:count]]), (intent,))) else 0.0
            for count in range(len(more) + 1)
        ]
        assert scores == sorted(scores, reverse=True)


class TestDigits:
    @pytest.mark.parametrize(
        ("text", "runs"),
        [
            ("four two seven one", ["4271"]),
            ("4271", ["4271"]),
            ("it is 42 71", ["4271"]),
            ("oh zero nought nine", ["0009"]),
            ("forty two seventy one", ["4271"]),
            ("forty seventy one", ["4071"]),
            ("twenty", ["20"]),
            ("nineteen eighty four", ["1984"]),
            ("the last four digits are four two seven one", ["4", "4271"]),
            ("no digits", []),
            ("", []),
        ],
    )
    def test_runs(self, text: str, runs: list[str]) -> None:
        assert digit_runs(text.split()) == runs

    def test_the_stretch_of_the_right_length(self) -> None:
        assert find_digits(["the", "last", "four", "digits", "are", "four", "two", "seven", "one"], 4) == "4271"
        assert find_digits(["one", "two", "three", "four", "no", "four", "two", "seven", "one"], 4) == "4271"
        assert find_digits(["four", "two", "seven"], 4) == ""

    @given(st.lists(st.sampled_from(sorted(UNITS)), min_size=1, max_size=12))
    def test_spoken_one_by_one(self, words: list[str]) -> None:
        assert digit_runs(words) == ["".join(UNITS[word] for word in words)]
        assert all(is_digit(word) for word in words)

    @given(st.from_regex(r"[0-9]{1,12}", fullmatch=True))
    def test_spelling_and_reading_again(self, digits: str) -> None:
        assert digit_runs(spell(digits).split()) == [digits]
