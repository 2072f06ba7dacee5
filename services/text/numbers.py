"""Numbers as they are written into words, by num2words. Pure; the package is imported with the first number."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import Any, NamedTuple

from services.text.vocabulary import Numerals, Vocabulary

DIGITS_MAX = 15
"""A longer number is read digit by digit: nobody follows quadrillions."""
_SEPARATOR = re.compile(r"[^0-9]")


class Number(NamedTuple):
    """``whole`` without separators; ``fraction`` the digits behind the sign, empty where there are none."""

    whole: str
    fraction: str = ""


def parse_number(text: str, decimal: str) -> Number | None:
    """A number with the separators of a language, whose sign before a fraction is ``decimal``.

    None: it is no number but a version, an address or the like.
    """
    signs = _SEPARATOR.findall(text)
    parts = _SEPARATOR.split(text)
    if not signs:
        return Number(text)
    grouped = len(parts[0]) <= 3 and parts[0] != "0"
    if len(set(signs)) == 1 and grouped and signs[0] != decimal and all(len(part) == 3 for part in parts[1:]):
        return Number("".join(parts))
    if len(signs) == 1:
        # A point is understood everywhere; a comma where a point is the usual sign parts two numbers.
        return Number(*parts) if signs[0] == decimal or signs[0] == "." else None
    thousands = parts[1:-1]
    if len(set(signs[:-1])) == 1 and signs[-1] not in signs[:-1] and signs[-1] in ".,":
        return Number("".join(parts[:-1]), parts[-1]) if grouped and all(len(part) == 3 for part in thousands) else None
    return None


def numerals(code: str) -> Numerals:
    """Numbers in words of a language as num2words calls it."""
    return Numerals(partial(_words, code, "cardinal"), partial(_words, code, "ordinal"), partial(_words, code, "year"))


def say_digits(digits: str, vocabulary: Vocabulary) -> str:
    """Digits one by one."""
    return " ".join(_words(vocabulary.code, "cardinal", int(digit)) for digit in digits)


def say_whole(digits: str, vocabulary: Vocabulary) -> str:
    """A whole number; one by one where it begins with a nought or is endless."""
    if len(digits) > DIGITS_MAX or (len(digits) > 1 and digits.startswith("0")):
        return say_digits(digits, vocabulary)
    return _words(vocabulary.code, "cardinal", int(digits))


def say_number(number: Number, vocabulary: Vocabulary) -> str:
    """A number with its fraction, whose digits are read one by one."""
    whole = say_whole(number.whole or "0", vocabulary)
    if not number.fraction:
        return whole
    return f"{whole} {vocabulary.point} {say_digits(number.fraction, vocabulary)}"


@lru_cache(maxsize=2048)
def _words(code: str, kind: str, number: int) -> str:
    words = str(_num2words()(number, lang=code, to=kind))
    if code == "en":
        words = words.replace(",", "").replace(" and ", " ")
    return words.replace("ein Tausend", "eintausend") if code == "de" else words


def _num2words() -> Any:
    from num2words import num2words

    return num2words
