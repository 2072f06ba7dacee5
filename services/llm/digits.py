"""Spoken digits as digits: "four two seven one", "oh", "forty two seventy one", "4271". Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

UNITS = {
    "zero": "0", "oh": "0", "o": "0", "nought": "0",
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip
TEENS = {
    "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15", "sixteen": "16",
    "seventeen": "17", "eighteen": "18", "nineteen": "19",
}  # fmt: skip
TENS = {
    "twenty": "2", "thirty": "3", "forty": "4", "fifty": "5", "sixty": "6", "seventy": "7", "eighty": "8",
    "ninety": "9",
}  # fmt: skip


def is_digit(word: str) -> bool:
    """Whether a word says exactly one digit."""
    return word in UNITS or (len(word) == 1 and word.isascii() and word.isdigit())


def digit_runs(words: Sequence[str]) -> list[str]:
    """The digits of each stretch of words that say digits, in order: ``my card 42 seven one`` -> ``["4271"]``."""
    runs: list[str] = []
    current = ""
    at = 0
    while at < len(words):
        digits, used = _digits_at(words, at)
        if used:
            current += digits
            at += used
            continue
        if current:
            runs.append(current)
            current = ""
        at += 1
    return [*runs, current] if current else runs


def find_digits(words: Sequence[str], count: int) -> str:
    """The ``count`` digits that the words say together, the last such stretch where there are several; else empty."""
    return next((run for run in reversed(digit_runs(words)) if len(run) == count), "")


def spell(digits: Iterable[str]) -> str:
    """Digits apart, as a voice reads them one by one: ``4271`` -> ``4 2 7 1``."""
    return " ".join(digits)


def _digits_at(words: Sequence[str], at: int) -> tuple[str, int]:
    word = words[at]
    if word in UNITS:
        return UNITS[word], 1
    if word.isascii() and word.isdigit():
        return word, 1
    if word in TEENS:
        return TEENS[word], 1
    if word in TENS:
        unit = UNITS.get(words[at + 1], "0") if at + 1 < len(words) else "0"
        return (TENS[word] + unit, 2) if unit != "0" else (TENS[word] + "0", 1)
    return "", 0
