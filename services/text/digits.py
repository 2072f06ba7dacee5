"""Digits that are read one by one: phone and card numbers, codes, all that is too long to follow. Pure."""

from __future__ import annotations

import re

from services.text.numbers import say_digits
from services.text.rules import Rule, any_of, rule
from services.text.traced import Edit
from services.text.vocabulary import Vocabulary

LONG = 5
"""Digits without a separator that are no longer taken for a number."""
_DIGITS = re.compile(r"[0-9]+")
_NORTH_AMERICAN = re.compile(r"\+(1)([0-9]{3})([0-9]{3})([0-9]{4})")
_RUNS = re.compile(r"[A-Za-z]+|[0-9]+|-")
_ALNUM = re.compile(r"[A-Z0-9]+")
_VOWEL = re.compile(r"[AEIOUY]")
_SEPARATORS = re.compile(r"[ \-.()/]+")


def number_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Phone, card and bank account numbers and codes: what is told by how it is written."""

    def groups(match: re.Match[str]) -> list[Edit]:
        return _say_groups(match.string, match.start(), match.end(), vocabulary)

    def phone(match: re.Match[str]) -> list[Edit] | None:
        digits = sum(sign.isdigit() for sign in match.group())
        return groups(match) if 7 <= digits <= 18 else None

    def international(match: re.Match[str]) -> list[Edit] | None:
        edits = phone(match)
        if edits is None:
            return None
        if found := _NORTH_AMERICAN.fullmatch(match.group()):
            said = ", ".join(say_digits(group, vocabulary) for group in found.groups())
            return [Edit(match.start(), match.end(), f"{vocabulary.address['+']} {said}")]
        edits = [edit for edit in edits if edit.text]
        said = f"{vocabulary.address['+']} {edits[0].text}"
        return [Edit(match.start(), edits[0].end, said), *edits[1:]]

    def bank_account(match: re.Match[str]) -> list[Edit]:
        last = match.end()
        return [
            Edit(found.start() + match.start(), found.end() + match.start(), _spell_groups(found.group(), vocabulary)
                 + ("" if found.end() + match.start() == last else ","))
            for found in _ALNUM.finditer(match.group())
        ]  # fmt: skip

    def code(match: re.Match[str]) -> str | None:
        return _spell_code(match.group(), vocabulary)

    return [
        _masked(vocabulary),
        rule(r"(?<![0-9A-Za-z-])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![\w-])", bank_account),
        rule(r"(?<![\w-])[0-9]{4}(?:[ -][0-9]{4}){2,3}(?:[ -][0-9]{1,4})?(?![\w-])", groups),
        rule(r"(?<![\w-])[0-9]{4}[ -][0-9]{6}[ -][0-9]{5}(?![\w-])", groups),
        rule(r"(?<![\w+])\+[0-9]{1,15}(?:(?: ?\(|\)[ \-]?|[ .\-/])[0-9]{1,12}){0,6}(?![\w])", international),
        rule(
            r"(?<![\w.,-])(?:1[ .\-])?(?:\([0-9]{3}\) ?|[0-9]{3}[ .\-])[0-9]{3}[.\- ][0-9]{4}(?![\w-]|[.,][0-9])",
            groups,
        ),
        rule(r"(?<![\w.,-])[0-9]{3}-[0-9]{4}(?![\w-]|[.,][0-9])", groups),
        # Europe's numbers of social value: 116 116 blocks cards, 116 117 is the doctor on call.
        rule(r"(?<![\w.,-])116 1[0-9]{2}(?![\w-]|[.,][0-9]| ?(?:[%€$£]|[Ee]uro?\b|EUR))", groups),
        rule(r"(?<![\w.,-])\(?0[0-9]{1,5}\)?(?:[ /\-][0-9]{2,8}){1,5}(?![\w-]|[.,:][0-9])", phone),
        rule(r"(?<![\w.@/-])[A-Z0-9]{2,30}(?:-[A-Z0-9]{1,30}){0,4}(?![\w@-])", code),
        rule(r"(?<![\w.@/-])[A-Za-z]{1,3}-?[0-9]{4,20}(?![\w@-])", code),
    ]


def _masked(vocabulary: Vocabulary) -> Rule:
    """The end of a number of which the rest is hidden."""

    def shown(match: re.Match[str]) -> list[Edit]:
        said = say_digits(match.group(1), vocabulary)
        return [Edit(match.start(), match.start(1), ""), Edit(match.start(1), match.end(), said)]

    return rule(r"(?<![\w*•])(?:(?:[*•xX]{4}[ -]){1,3}[*•xX]{0,4}[ -]?|[*•xX]{2,16}[ -]?)([0-9]{2,6})(?!\w)", shown)


def context_rules(vocabulary: Vocabulary) -> list[Rule]:
    """Digits that are read one by one for what stands before them, or for their length."""
    words, links = any_of(vocabulary.digit_words), any_of(vocabulary.digit_links)
    more = rf"[0-9]{{3,}}(?:[ -][0-9]{{2,}}|(?:, | {vocabulary.conjunction} )[0-9]{{3,}}){{0,5}}"
    counted = any_of(
        {noun for each in vocabulary.currencies.values() for noun in each.unit[:2]}
        | {*vocabulary.currencies, *vocabulary.units, *vocabulary.scales, vocabulary.signs["%"]}
    )

    def after_word(match: re.Match[str]) -> list[Edit]:
        return [
            Edit(found.start(), found.end(), say_grouped(found.group(), vocabulary))
            for found in _DIGITS.finditer(match.string, match.start(1), match.end(1))
        ]

    def long(match: re.Match[str]) -> str | None:
        digits = match.group()
        if digits.startswith("0") or len(digits) > 9 or not digits.endswith("000"):
            return say_grouped(digits, vocabulary)
        return None

    not_counted = rf"(?!\w|[.,:/][0-9]| ?(?:[%€$£]|(?:{counted})\b))"
    context = rf"(?<!\w)(?:{words})s?(?:,? (?:{links})\b|[:,#]){{0,4}} ?#?({more}){not_counted}"
    return [
        rule(context, after_word, re.IGNORECASE),
        rule(rf"(?<![\w.,])(?:[0-9]{{{LONG},}}|0[0-9]{{1,{LONG - 2}}})(?!\w|[.,][0-9])", long),
    ]


def say_grouped(digits: str, vocabulary: Vocabulary) -> str:
    """Digits one by one, with a pause between groups where there are many."""
    return ", ".join(say_digits(group, vocabulary) for group in _groups(digits))


def _groups(digits: str) -> list[str]:
    count = len(digits)
    if count <= 6 and count != 6:
        return [digits]
    size = 4 if count % 4 == 0 else 3
    groups = [digits[at : at + size] for at in range(0, count, size)]
    if len(groups[-1]) == 1:
        groups[-2:] = ["".join(groups[-2:])]
    return groups


def _say_groups(text: str, start: int, end: int, vocabulary: Vocabulary) -> list[Edit]:
    """Each group of digits that is written, then a pause; the signs between them are not spoken."""
    edits: list[Edit] = []
    at = start
    for found in _DIGITS.finditer(text, start, end):
        between = text[at : found.start()]
        if between:
            edits.append(Edit(at, found.start(), " " if edits else ""))
        at = found.end()
        edits.append(Edit(found.start(), at, say_grouped(found.group(), vocabulary) + ","))
    edits[-1] = edits[-1]._replace(text=edits[-1].text.removesuffix(","))
    return edits


def _spell_groups(code: str, vocabulary: Vocabulary) -> str:
    groups = (code[at : at + 4] for at in range(0, len(code), 4))
    return ", ".join(" ".join(_letters(group, vocabulary)) for group in groups)


def _letters(code: str, vocabulary: Vocabulary) -> list[str]:
    return [say_digits(sign, vocabulary) if sign.isdigit() else sign for sign in code]


def _spell_code(code: str, vocabulary: Vocabulary) -> str | None:
    """Letters and digits one by one; None: no code but a word, a number, or a name like COVID-19."""
    digits = sum(sign.isdigit() for sign in code)
    letters = sum(sign.isalpha() for sign in code)
    runs = _RUNS.findall(code)
    mixed = sum(run != "-" for run in runs)
    if not letters or not digits or not (digits >= 3 or (mixed >= 3 and len(code) >= 4)):
        return None
    if code[0].isdigit() and mixed == 2 and letters <= 3:
        return None
    said: list[str] = []
    for run in runs:
        if run == "-":
            said[-1] += ","
        elif run.isdigit():
            said.append(say_grouped(run, vocabulary))
        elif len(run) > 4 and _VOWEL.search(run.upper()):
            said.append(run)
        else:
            said += run.upper()
    return " ".join(said)
