"""Abbreviations written out, signs as words or pauses, white space as a voice needs it. Pure."""

from __future__ import annotations

import re

from services.text.rules import Rule, any_of, ends_text, rule
from services.text.vocabulary import Vocabulary

_NAMED = "=×÷≤≥≈±§°№‰"
"""Signs that are spoken wherever they stand."""
_BEFORE_RANGE = frozenset("0123456789%€$£°")
_LOWER_BEFORE_NAMES = frozenset("the in at on to from near visit by of and is a".split())  # noqa: SIM905

POINT_FIRST = rule(r"(?<![\w.,…])\.(?=[0-9]+(?![\w.]*[.][0-9]))", "0.")
"""``.5`` is half of one, and must not be taken for five."""
LAYOUT = [
    rule(r"\s+", lambda match: _white_space(match)),
    rule(r" (?:[-–—]|--) ", lambda match: _dash(match)),
    rule(r"(?<=[^\W_])(?:—|--| –(?![0-9])|– )(?=[^\W_])", ", "),
    rule(r"\A ?[-–—]{1,3} ", ""),
]
"""Lines and dashes as pauses."""
CLEANUP = [
    rule(r"[ \u00a0\u202f]{2,}", " "),
    rule(r" ?,(?: ?,)+", ","),
    rule(r" (?=[,.;:!?](?:\s|\Z))", ""),
    rule(r",(?=[.!?;:])", ""),
    rule(r"(?<=[.!?;:]) ?,(?=\s|\Z)", ""),
    rule(r"\A[\s,;:]+", ""),
]
"""What the other rules leave behind."""


def abbreviation_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Abbreviations, and signs that stand before numbers."""
    known = vocabulary.abbreviations
    numbered = vocabulary.before_numbers
    days = vocabulary.weekdays

    def abbreviation(match: re.Match[str]) -> str:
        if match[1] in vocabulary.units and match.string[: match.start()].rstrip(" \u00a0")[-1:].isdigit():
            # Of a number it is a unit, which other rules say: 5 min.
            return match.group() if ends_text(match) else match[1]
        said = known[match[1].replace(" ", "")]
        return said + "." if ends_text(match) else said

    def before_number(match: re.Match[str]) -> str:
        return numbered[match[1]] + " "

    def span(match: re.Match[str]) -> str:
        return f"{days[match[1]]} {vocabulary.to} {days[match[2]]}"

    spaced = "|".join(
        re.escape(word).replace(r"\.", r"\. ?") for word in sorted(known, key=lambda word: (-len(word), word))
    )
    short = any_of(word for word in numbered if len(word) > 2 or not word[-1].isalpha())
    rules = [
        rule(r"(?<=\A[0-9])[.)](?= )|(?<=\A[0-9]{2})[.)](?= )", ","),
        rule(rf"(?<![\w.])({any_of(days)})\.? ?[-–] ?({any_of(days)})\b\.?", span),
        rule(rf"(?<![\w.])({any_of(days)})(?:\.(?=,? [\w&])|(?=,? [0-9]))", lambda match: days[match[1]]),
        rule(rf"(?<![\w.])({any_of(numbered)})\. ?#?(?=[0-9])", before_number),
        rule(rf"(?<![\w.])({short}) #?(?=[0-9])", before_number),
        rule(r"(?<![\w&])#(?=[0-9])", f"{vocabulary.number_sign} "),
        rule(r"№ ?(?=[0-9])", f"{vocabulary.number_sign} "),
    ]
    if vocabulary.code == "en":
        rules.append(rule(r"(?<![\w.])(St|Dr)\b\.?(?=(\s+\w)?)", _saint_or_street))
    if vocabulary.titles:
        rules.append(
            rule(rf"(?<![\w.])({any_of(vocabulary.titles)})(?= [A-ZÀ-Ý])", lambda match: vocabulary.titles[match[1]])
        )
    if vocabulary.code == "de":
        rules.insert(0, rule(r"(?<![\w.])Fr\.(?= (?!Vormittag|Nachmittag|Mittag|Morgen|Abend)[A-ZÄÖÜ])", "Frau"))
        rules.append(rule(r"(?<=[a-zäöüß])str\.(?!\w)", lambda match: "straße." if ends_text(match) else "straße"))
    return [*rules, rule(rf"(?<![\w.])({spaced})\.(?!\w)", abbreviation)]


def sign_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Signs that are spoken, and those that are not."""
    signs = vocabulary.signs
    plus = f" {signs['+']} "
    rules = [
        rule(r" ?& ?", f" {signs['&']} "),
        rule(r"(?<![\w#])#(?=\w)", f"{vocabulary.hashtag} "),
        rule(r"(?<![\w@])@(?= ?\w)", f"{signs['@']} "),
        rule(r"(?<=[\w)])\+(?=[ .,!?]|\Z)| \+ |(?<=[0-9])\+(?=[0-9])|(?<!\w)\+(?=[0-9])", plus),
        rule(r"(?<![\w*])\*(?=[0-9 .,!?'\"”’)]|\Z)", f"{signs['*']} "),
        rule(r"(?<![A-Za-z#])#(?=[ .,!?'\"”’)]|\Z)", lambda match: f"{_gap(match)}{signs['#']}"),
        rule(r"(?<=[0-9]) ?/ ?(?=\w)|(?<=\w) ?/ ?(?=[0-9])", f" {signs['/']} "),
        rule(r"~ ?(?=[$€£0-9])", f"{signs['~']} "),
        rule(r"(?<![<>=])([<>])= ?(?=[\w$€£-])", lambda match: f"{signs['≥' if match[1] == '>' else '≤']} "),
        rule(r" ?(?:->|=>|[→⇒➔]) ?| ?\|+", ", "),
        rule(r" ([<>]) ?(?=[\w$€£])| ([<>]) (?=-)", lambda match: f" {signs[match[1] or match[2]]} "),
        rule(rf" ?([{_NAMED}]) ?", lambda match: f" {signs[match[1]]} "),
        rule(r"%", f" {signs['%']}"),
        rule(r"[©®™←↑↓↔^*{}\[\]<>\\_]|[~#](?!\w)", " "),
    ]
    if vocabulary.code == "en":
        rules.insert(0, rule(r"(?<=[\w)])/(?=(?:month|mo|year|yr|day|night|hour|hr|week|person|minute)\b)", " per "))
        rules.insert(0, rule(r"(?<!\w)w/(o(?!\w))? ?", lambda match: "without " if match[1] else "with "))
    return [*rules, rule(r"(?<=[^\W\d])/(?=[^\W\d])", " ")]


def _gap(match: re.Match[str]) -> str:
    """A space where a word follows a digit."""
    return " " if match.string[match.start() - 1 : match.start()].isdigit() else ""


def _white_space(match: re.Match[str]) -> str | None:
    """One space; a line that ends without a mark is followed by a pause."""
    if "\n" not in match.group():
        return None if match.group() in " \u00a0\u202f" else " "
    before = match.string[match.start() - 1 : match.start()]
    return ", " if before.isalnum() and match.end() < len(match.string) else " "


def _dash(match: re.Match[str]) -> str | None:
    """A dash between numbers is a range or a minus."""
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    return None if before in _BEFORE_RANGE and (after.isdigit() or after in "$€£") else ", "


def _saint_or_street(match: re.Match[str]) -> str | None:
    """``St`` and ``Dr`` after a name are a street; before one, a saint and a doctor."""
    text = match.string
    before = text[max(0, match.start() - 40) : match.start()].split(" ")[-2:-1]
    named = bool(before) and before[0][:1].isupper() and before[0].lower() not in _LOWER_BEFORE_NAMES
    named = named and before[0].isalpha()
    follows = text[match.end() : match.end() + 2].strip()[:1]
    if match[1] == "Dr" and not (named and not follows.isupper()):
        return "Doctor" if follows.isupper() or match.group().endswith(".") else None
    if not named and not follows.isupper():
        return None
    said = "Drive" if match[1] == "Dr" else "Street" if named else "Saint"
    return said + "." if match.group().endswith(".") and ends_text(match) else said
