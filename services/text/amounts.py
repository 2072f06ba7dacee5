"""Amounts in words: money, percent, units, ordinals, fractions, ranges, years, plain numbers. Pure."""

from __future__ import annotations

import re

from services.text.numbers import (
    DIGITS_MAX,
    Number,
    numerals,
    parse_number,
    say_digits,
    say_number,
    say_whole,
)
from services.text.rules import NUMBER, Rule, any_of, rule, word_before
from services.text.traced import Edit
from services.text.vocabulary import Noun, Vocabulary

CURRENCY_SIGNS = {
    "US$": "USD", "CA$": "CAD", "C$": "CAD", "AU$": "AUD", "A$": "AUD", "R$": "BRL", "MX$": "MXN",
    "$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₩": "KRW", "zł": "PLN",
}  # fmt: skip
_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
}  # fmt: skip
_MINUS = r"(?:[-–]|− ?)"
_SECOND_PART = re.compile(r"0[0-9]+(?![.,:]?[0-9])")
"""Numbers do not begin with a nought: 2024-0815 is no range."""
_MILLION = re.compile(
    r"(?:illion(?:en|e|s)?|illiard(?:en|e|s)?|illón|illones|ilhão|ilhões|ilioni|ilione|iljoen|iljard)\Z"
)
_NEXT_WORD = re.compile(r" ([^\W\d]{3,30})")
_FEMININE_ENDS = ("a", "as", "ción", "dad", "ções", "ção")
_NO_FEMININES = frozenset(
    {"día", "días", "dia", "dias", "para", "problema", "problemas", "programa", "programas", "mapa"}
)
_MONEY_BEFORE = re.compile(r"([$€£])[0-9.,]+\Z")
_DIGIT_RUN = re.compile(r"[0-9]+")


def range_rules(vocabulary: Vocabulary) -> list[Rule]:
    """``9-5``: from nine to five; several such dashes are pauses, and one before a result is a minus."""

    def dash(match: re.Match[str]) -> str:
        around = match.string[max(0, match.start() - 12) : match.end() + 16]
        if "=" in around[match.end() - max(0, match.start() - 12) :]:
            return f" {vocabulary.minus} "
        near = re.search(r"[0-9][0-9\-–]*\Z", match.string[max(0, match.start() - 12) : match.start()])
        after = re.match(r"[0-9]+[-–]", match.string[match.end() : match.end() + 12])
        several = after or (near and ("-" in near.group() or "–" in near.group()))
        if several or _SECOND_PART.match(match.string, match.end()):
            return ", "
        # $5-10: both are dollars.
        money = _MONEY_BEFORE.search(match.string[max(0, match.start() - 12) : match.start()])
        return f" {vocabulary.to} " + (money[1] if money and match.string[match.end()].isdigit() else "")

    signs = "[$€£]?"
    return [
        rule(r"(?<=[0-9]),[-–—](?!\w)", ""),
        rule(r"(?<=[0-9]) ?\* ?(?=[$€£0-9])", " × "),
        rule(rf"(?<=[0-9%€]) ?[–—-] ?(?={signs}[0-9])", dash),
        rule(r"(?<=[0-9][aApP][mM]) ?[–—-] ?(?=[0-9])|(?<=[aApP]\.[mM]\.) ?[–—-] ?(?=[0-9])", dash),
        rule(r"(?<=[0-9][hH]) ?[–—-] ?(?=[0-9])", dash),
    ]


def money_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Currencies, by sign or by code, before the number or after it."""
    money = any_of([*CURRENCY_SIGNS, *vocabulary.currencies])
    scales = any_of(vocabulary.scales)
    amount = rf"(?P<number>{NUMBER})(?: ?(?P<scale>(?i:{scales})\b))?"

    def say(match: re.Match[str]) -> str | None:
        number = parse_number(match["number"], vocabulary.decimal)
        code = CURRENCY_SIGNS.get(match["money"], match["money"])
        if number is None or code not in vocabulary.currencies:
            return None
        said = _say_money(number, code, match["scale"], vocabulary)
        return f"{vocabulary.minus} {said}" if match["minus"] or match.groupdict().get("after") else said

    sign = rf"(?P<minus>{_MINUS}?)(?P<money>{money}) ?(?P<after>{_MINUS}?)"
    return [
        rule(rf"(?<!\w){sign}{amount}(?!\w)(?: (?:USD|EUR|GBP)\b)?", say),
        rule(rf"(?<![\w.,])(?P<minus>{_MINUS}?){amount}[ \u00a0]?(?P<money>{money})(?!\w)", say),
    ]


def measure_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Percent, units, and how many of them."""
    units = any_of(vocabulary.units)

    def unit(match: re.Match[str]) -> str | None:
        number = parse_number(match["number"], vocabulary.decimal)
        if number is None:
            return None
        said = _count(number, vocabulary.units[match["unit"]], vocabulary)
        return f"{vocabulary.minus} {said}" if match["minus"] else said

    def percent(match: re.Match[str]) -> list[Edit]:
        return [Edit(match.start(1), match.end(1), f" {vocabulary.signs[match[1]]}")]

    return [
        rule(rf"(?<![\w.,])(?P<minus>{_MINUS}?)(?P<number>{NUMBER})[ \u00a0]?(?P<unit>{units})(?![\w/²³])", unit),
        rule(r"[0-9][ \u00a0]?([%‰])", percent),
    ]


def ordinal_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Ordinals, decades, fractions."""
    words = numerals(vocabulary.code)

    def ordinal(match: re.Match[str]) -> str | None:
        number = _DIGIT_RUN.findall(match["number"])
        return vocabulary.ordinal(int("".join(number)), match["mark"], word_before(match), words)

    def decade(match: re.Match[str]) -> str:
        said = words.year(int(match[1])) if len(match[1]) == 4 else words.cardinal(int(match[1]))
        return f"{said[:-1]}ies" if said.endswith("y") else f"{said}s"

    def fraction(match: re.Match[str]) -> str | None:
        part = _VULGAR.get(match["sign"] or "") or (int(match["top"] or 0), int(match["bottom"] or 0))
        if part not in vocabulary.fractions:
            return None if match["whole"] or match["sign"] else _either(match, vocabulary)
        said = vocabulary.fractions[part]
        return f"{say_whole(match['whole'], vocabulary)} {vocabulary.conjunction} {said}" if match["whole"] else said

    parts = r"(?:(?P<top>[0-9]{1,2})/(?P<bottom>[0-9]{1,3})(?![\w/])|(?P<sign>[½⅓⅔¼¾⅕⅖⅗⅘⅛⅜⅝⅞]))"
    rules = [
        rule(rf"(?<![\w/.,])(?:(?P<whole>[0-9]{{1,4}}) )?{parts}", fraction),
        rule(r"(?<![\w/.,])(?P<whole>[0-9]{1,4})(?P<sign>[½⅓⅔¼¾⅕⅖⅗⅘⅛⅜⅝⅞])(?P<top>)(?P<bottom>)", fraction),
        rule(vocabulary.ordinals, ordinal),
    ]
    if vocabulary.code == "en":
        rules.append(rule(r"(?<![\w.,])['’]?((?:1[1-9]|20)?[1-9]0)['’]?s(?!\w)", decade))
    return rules


def cardinal_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Years, and whatever numbers are left."""
    words = numerals(vocabulary.code)

    def year(match: re.Match[str]) -> str | None:
        number = int(match.group())
        return words.year(number) if number >= 1900 or word_before(match) in vocabulary.year_words else None

    def number(match: re.Match[str]) -> str | list[Edit] | None:
        parsed = parse_number(match["number"], vocabulary.decimal)
        if parsed is None:
            return _say_parts(match, vocabulary)
        said = say_number(parsed, vocabulary)
        if not parsed.fraction:
            said = _agree_with_next(said, match, vocabulary)
        return f"{vocabulary.minus} {said}" if match["minus"] else said

    return [
        rule(r"(?<![\w.,:/-])(?:1[0-9]{3}|20[0-9]{2})(?![\w:/-]|[.,][0-9])", year),
        rule(rf"(?<![\w.])(?P<minus>{_MINUS}?)(?<!\w-)(?P<number>{NUMBER})(?!\w)", number),
    ]


def _agree_with_next(said: str, match: re.Match[str], vocabulary: Vocabulary) -> str:
    """A number before a noun, whose gender is guessed by its end where that is possible."""
    found = _NEXT_WORD.match(match.string, match.end())
    language = vocabulary.code[:2]
    if found is None or language not in ("de", "es", "it", "pt") or (language == "de" and found[1].islower()):
        return said
    feminine = language != "de" and found[1].endswith(_FEMININE_ENDS) and found[1] not in _NO_FEMININES
    return vocabulary.agree(said, feminine)


def _say_money(number: Number, code: str, scale: str | None, vocabulary: Vocabulary) -> str:
    currency = vocabulary.currencies[code]
    if scale:
        noun = _of_million(currency.unit.many, vocabulary)
        return f"{say_number(number, vocabulary)} {vocabulary.scales[scale.lower()]} {noun}"
    if currency.cent is None or len(number.fraction) != 2:
        return _count(number, currency.unit, vocabulary)
    whole, cents = Number(number.whole), Number(str(int(number.fraction)))
    if cents.whole == "0":
        return _count(whole, currency.unit, vocabulary)
    if not int(whole.whole or "0"):
        return _count(cents, currency.cent, vocabulary)
    join = vocabulary.money_join
    return f"{_count(whole, currency.unit, vocabulary)}{join}{_count(cents, currency.cent, vocabulary)}"


def _count(number: Number, noun: Noun, vocabulary: Vocabulary) -> str:
    """A number of something."""
    if number.fraction or len(number.whole) > DIGITS_MAX:
        return f"{say_number(number, vocabulary)} {noun.many}"
    words = vocabulary.agree(say_whole(number.whole, vocabulary), noun.feminine)
    if int(number.whole) == 1:
        return f"{words} {noun.one}"
    return f"{words} {_of_million(noun.many, vocabulary) if _MILLION.search(words) else noun.many}"


def _of_million(noun: str, vocabulary: Vocabulary) -> str:
    """``de dólares`` after a million, where a language says so."""
    of = vocabulary.of_million
    if of == "de" and vocabulary.code.startswith("fr") and noun[0] in "aeiouhé":
        return f"d'{noun}"
    return f"{of} {noun}" if of else noun


def _either(match: re.Match[str], vocabulary: Vocabulary) -> str:
    """Two numbers with a stroke between them that are no fraction: 24/7."""
    top, bottom = (say_whole(match[name], vocabulary) for name in ("top", "bottom"))
    return f"{top} {bottom}" if match.group() == "24/7" else f"{top} {vocabulary.signs['/']} {bottom}"


def _say_parts(match: re.Match[str], vocabulary: Vocabulary) -> list[Edit]:
    """A version, an address of a machine, a list: its numbers, and points between them."""
    edits: list[Edit] = []
    at = match.start("number")
    for run in _DIGIT_RUN.finditer(match.string, match.start("number"), match.end("number")):
        if run.start() > at:
            sign = match.string[at : run.start()]
            edits.append(Edit(at, run.start(), f" {vocabulary.point} " if sign == "." else ", "))
        digits = run.group()
        said = say_digits(digits, vocabulary) if digits.startswith("0") else say_whole(digits, vocabulary)
        edits.append(Edit(run.start(), run.end(), said))
        at = run.end()
    return edits
