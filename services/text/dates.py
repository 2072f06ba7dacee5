"""Dates and times of day in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from services.text.numbers import numerals
from services.text.rules import Rule, any_of, ends_text, rule, word_before
from services.text.vocabulary import Clock, Day, Vocabulary, word_set

CENTURY_TURN = 70
"""A year of two digits is in the 20th century from there on."""
_NUMBERED = word_set(
    "version kapitel abschnitt gebäude raum zimmer saal punkt ziffer release haus stufe abteilung absatz anlage teil"
)
"""After these German words 2.10. is no day."""
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_YEAR = r"(?P<year>[0-9]{4}|[0-9]{2})"


def date_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Dates in figures, and with the name of the month."""

    def say(match: re.Match[str]) -> str | None:
        parts = match.groupdict()
        month = parts["month"].rstrip(".").lower()
        number = int(month) if month.isdigit() else vocabulary.month_names[month]
        return _say_date(match, int(parts["day"]), number, _full_year(parts.get("year")), vocabulary)

    def either(match: re.Match[str]) -> str | None:
        first, second, year = int(match["first"]), int(match["second"]), _full_year(match["year"])
        month, day = (first, second) if vocabulary.month_first else (second, first)
        if month > 12:
            month, day = day, month
        return _say_date(match, day, month, year, vocabulary)

    def with_time(match: re.Match[str]) -> str | None:
        said = say(match)
        return f"{said} " if said and match.group().endswith("T") else said

    english = vocabulary.code == "en"
    mark = "st|nd|rd|th" if english else r"\.|er|º"
    names = any_of(name.capitalize() for name in vocabulary.month_names)
    if not english:
        names += "|" + any_of(vocabulary.month_names)
    month = rf"(?P<month>(?:{names})\b\.?)"
    return [
        rule(
            r"(?<![\w-])(?P<year>[12][0-9]{3})-(?P<month>[01][0-9])-(?P<day>[0-3][0-9])(?:T(?=[0-9]{2}:)|(?![\w-]))",
            with_time,
        ),
        rule(rf"(?<![\w/.])(?P<first>[0-9]{{1,2}})/(?P<second>[0-9]{{1,2}})/{_YEAR}(?![\w/])", either),
        rule(r"(?<![\w-])(?P<first>[0-9]{1,2})-(?P<second>[0-9]{1,2})-(?P<year>[0-9]{4})(?![\w-])", either),
        rule(
            rf"(?<![\w.,])(?P<day>[0-9]{{1,2}})(?:{mark})?(?: de| of)? {month}"
            r"(?:,?(?: de| of| del)? (?P<year>[12][0-9]{3})(?![\w,]|\.[0-9]))?",
            say,
        ),
        *([_month_first(month, mark, say, vocabulary)] if english else []),
        *_short_dates(vocabulary, say),
    ]


def _short_dates(vocabulary: Vocabulary, say: Callable[[re.Match[str]], str | None]) -> list[Rule]:
    """Dates that a language writes in its own way: ``3/4``, ``3.4.2026``, ``3.4.``"""

    def without_year(match: re.Match[str]) -> str | None:
        return None if word_before(match) in _NUMBERED else say(match)

    def day_of_year(match: re.Match[str]) -> str | None:
        month, day = match["first"], match["second"]
        if not vocabulary.month_first:
            month, day = day, month
        return _say_date(match, int(day), int(month), 0, vocabulary)

    rules: list[Rule] = []
    if vocabulary.code == "en":
        # On 3/4 a day is meant, and not three quarters, unless it is of something.
        place = r"(?<=\b[Oo]n )|(?<=\b[Bb]y )|(?<=\bdue )|(?<=\buntil )"
        after = r"(?=[.,;?!](?:\s|\Z)| (?:at|from|between|and|or|for)\b|\Z)"
        rules.append(rule(rf"(?:{place})(?P<first>[0-9]{{1,2}})/(?P<second>[0-9]{{1,2}}){after}", day_of_year))
    else:
        rules.append(rule(rf"(?<![\w.])(?P<day>[0-9]{{1,2}})\. ?(?P<month>[01]?[0-9])\. ?{_YEAR}(?!\w|\.[0-9])", say))
    if vocabulary.code == "de":
        rules.append(rule(r"(?<![\w.])(?P<day>[0-3]?[0-9])\.(?P<month>[01]?[0-9])\.(?![\w.])", without_year))
    return rules


def _month_first(month: str, mark: str, say: Callable[[re.Match[str]], str | None], vocabulary: Vocabulary) -> Rule:
    """``November 20, 2026``, and the days from one to another: ``November 20-25``."""

    def in_month(match: re.Match[str]) -> str | None:
        said = say(match)
        if said is None or not match["last"]:
            return said
        return f"{said} {vocabulary.to} {numerals(vocabulary.code).ordinal(int(match['last']))}"

    return rule(
        rf"(?<!\w){month} (?P<day>[0-9]{{1,2}})(?:{mark})?(?: ?[-–] ?(?P<last>[0-3]?[0-9]))?"
        r"(?![\w:]|[.,][0-9]| ?(?:%|[apAP]\.?[mM]\b))"
        r"(?:,? (?P<year>[12][0-9]{3})(?![\w,]|\.[0-9]))?",
        in_month,
    )


def time_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Times of day."""
    words = numerals(vocabulary.code)

    def half_day(match: re.Match[str]) -> str | None:
        hour, minute = int(match["hour"]), int(match["minute"] or 0)
        if not 0 < hour <= 12:
            return None
        said = vocabulary.time(Clock(hour, minute, match["half"].lower() + "m"), words)
        return said + "." if match.group().endswith(".") and ends_text(match) else said

    def whole_day(match: re.Match[str]) -> str | None:
        hour, minute = int(match["hour"]), int(match["minute"] or 0)
        return vocabulary.time(Clock(hour, minute), words) if hour <= 24 else None

    def to_the_second(match: re.Match[str]) -> str | None:
        said, seconds = whole_day(match), int(match["second"])
        if said is None or not seconds:
            return said
        noun = vocabulary.units["s"]
        count = vocabulary.agree(words.cardinal(seconds), noun.feminine)
        return f"{said} {vocabulary.conjunction} {count} {noun.one if seconds == 1 else noun.many}"

    rules = [
        rule(rf"(?<![\w:.,])(?P<hour>[0-9]{{1,2}})(?:[:.](?P<minute>[0-5][0-9]))?(?::[0-5][0-9])? ?{half}", half_day)
        for half in (r"(?P<half>[aApP])\. ?[mM]\b\.?", r"(?P<half>[aApP])[mM]\b\.?(?![\w])")
    ]
    rules += [rule(pattern, whole_day) for pattern in vocabulary.clock]
    plain = r"(?<![\w:.,])(?P<hour>[0-2]?[0-9]):(?P<minute>[0-5][0-9])"
    seconds = r":(?P<second>[0-5][0-9])(?:\.[0-9]{1,6})?Z?(?![\w:])"
    return [*rules, rule(plain + seconds, to_the_second), rule(rf"{plain}Z?(?![\w:])", whole_day)]


def _full_year(year: str | None) -> int:
    if not year:
        return 0
    if len(year) == 4:
        return int(year)
    return int(year) + (1900 if int(year) >= CENTURY_TURN else 2000)


def _say_date(match: re.Match[str], day: int, month: int, year: int, vocabulary: Vocabulary) -> str | None:
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS_OF_MONTH[month - 1]:
        return None
    if match.group().endswith(".") and ends_text(match):
        return vocabulary.date(Day(day, month, year, word_before(match)), numerals(vocabulary.code)) + "."
    return vocabulary.date(Day(day, month, year, word_before(match)), numerals(vocabulary.code))
