"""The words of a language that numbers and signs are spoken with. Data, and the languages that there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from services.text.abbreviations import base_language


class Noun(NamedTuple):
    """What is counted. ``feminine``: where the number before it takes that form."""

    one: str
    many: str
    feminine: bool = False


class Currency(NamedTuple):
    """A currency and its hundredth part; ``cent`` None: it has none."""

    unit: Noun
    cent: Noun | None


class Clock(NamedTuple):
    """A time of day. ``half``: ``am``, ``pm`` or nothing."""

    hour: int
    minute: int
    half: str = ""


class Day(NamedTuple):
    """A date. ``year`` 0: not told. ``before``: the word that stands before it, in lower case."""

    day: int
    month: int
    year: int
    before: str = ""


class Numerals(NamedTuple):
    """Numbers in words, all of them in one language."""

    cardinal: Callable[[int], str]
    ordinal: Callable[[int], str]
    year: Callable[[int], str]


def as_it_is(words: str, feminine: bool) -> str:
    """Of a language whose numbers are the same before every noun."""
    return words


def word_set(words: str) -> frozenset[str]:
    """Words parted by white space."""
    return frozenset(words.split())


class Vocabulary(NamedTuple):
    """What a language says for numbers and signs.

    Attributes:
        code: the language as num2words calls it.
        decimal: the sign before a fraction.
        point, minus, conjunction, to: the words for a decimal point, a negative, "and", a range.
        signs: words for signs that stand between or before words.
        address: words for the signs of addresses.
        number_sign, hashtag: ``#5``, ``#word``.
        money_join: between a currency and its hundredths.
        agree: makes a number in words fit a noun: the words, and whether the noun is feminine.
        of_million: what stands between "million" and a noun.
        scales: what may follow an amount (``5 M``): as written, and as spoken.
        month_names: as they are written, in lower case, with their number.
        weekdays: as they are written in short, and as spoken.
        abbreviations: without their full stop, and as spoken; before_numbers: those that are so before a number only.
        titles: those that are also written without a full stop before a name.
        digit_words, digit_links: after one of the former, and any of the latter, digits are read one by one.
        year_words: before a number of four digits they make it a year.
        ordinals: a number and what makes it an ordinal, as a pattern with the groups ``number`` and ``mark``.
        ordinal: says one: number, mark, the word before, numbers in words.
        fractions: numerator and denominator, and the words.
        date, time: say them.
        clock: ways to write a time beside ``14:30``, as patterns with the groups ``hour`` and ``minute``.
        month_first: 11/20 is in November.
    """

    code: str
    decimal: str
    point: str
    minus: str
    conjunction: str
    to: str
    signs: Mapping[str, str]
    address: Mapping[str, str]
    number_sign: str
    hashtag: str
    currencies: Mapping[str, Currency]
    money_join: str
    scales: Mapping[str, str]
    units: Mapping[str, Noun]
    month_names: Mapping[str, int]
    weekdays: Mapping[str, str]
    abbreviations: Mapping[str, str]
    before_numbers: Mapping[str, str]
    digit_words: frozenset[str]
    digit_links: frozenset[str]
    year_words: frozenset[str]
    ordinals: str
    ordinal: Callable[[int, str, str, Numerals], str]
    fractions: Mapping[tuple[int, int], str]
    date: Callable[[Day, Numerals], str]
    time: Callable[[Clock, Numerals], str]
    agree: Callable[[str, bool], str] = as_it_is
    titles: Mapping[str, str] = {}
    of_million: str = ""
    clock: tuple[str, ...] = ()
    month_first: bool = False


LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt")
"""Each has a module ``services.text.words_<language>`` with its ``VOCABULARY``."""


@cache
def _vocabulary(base: str) -> Vocabulary | None:
    if base not in LANGUAGES:
        return None
    vocabulary: Vocabulary = importlib.import_module(f"services.text.words_{base}").VOCABULARY
    return vocabulary


def vocabulary_of(language: str) -> Vocabulary | None:
    """The words of a language, a BCP 47 tag; None: callbus does not know them."""
    vocabulary = _vocabulary(base_language(language))
    if vocabulary is None:
        return None
    region = language.replace("_", "-").upper().split("-")[1:]
    if vocabulary.code == "en" and region and "US" not in region:
        vocabulary = vocabulary._replace(month_first=False)
    if vocabulary.code == "pt" and "BR" in region:
        vocabulary = vocabulary._replace(code="pt_BR")
    if vocabulary.code == "fr" and (own := {"BE", "CH"} & set(region)):
        vocabulary = vocabulary._replace(code=f"fr_{own.pop()}")
    if vocabulary.code == "es" and {"MX", "US", "PR", "DO", "GT", "HN", "NI", "PA", "SV"} & set(region):
        vocabulary = vocabulary._replace(decimal=".")
    return vocabulary
