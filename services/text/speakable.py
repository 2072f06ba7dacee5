"""What is written made into what is spoken. Pure."""

from __future__ import annotations

from functools import lru_cache

from services.text.addresses import address_rules
from services.text.amounts import cardinal_rules, measure_rules, money_rules, ordinal_rules, range_rules
from services.text.dates import date_rules, time_rules
from services.text.digits import context_rules, number_rules
from services.text.markdown import without_markup
from services.text.rules import Rule, rule
from services.text.shaped import Shaped, as_written, shaped_from
from services.text.signs import CLEANUP, LAYOUT, POINT_FIRST, abbreviation_rules, sign_rules
from services.text.traced import Traced
from services.text.vocabulary import vocabulary_of

_WIDE_THOUSANDS = r"(?<![0-9.,])(?<![0-9] )[0-9]{1,3}((?: [0-9]{3}){1,4})(?![0-9]| [0-9])"


def shape(text: str, language: str = "en") -> Shaped:
    """The text in words that every voice says alike, and which written word each of them belongs to.

    ``language``: BCP 47 tag of the text. Of a language that callbus does not know only what is written for eyes is
    taken out. ``Shaped.text`` is empty where nothing of the text can be spoken.
    """
    if not text.strip():
        return as_written(text)
    traced = without_markup(Traced.of(text))
    for pattern, change in _rules(language[:20]):
        traced = traced.replace(pattern, change)
    if not any(sign.isalnum() for sign in traced.text):
        traced = Traced("", [], [])
    return shaped_from(text, traced)


def warm(language: str = "en") -> None:
    """Load everything for a language (a fifth of a second), so that its first sentence is as fast as the others."""
    shape("$1.50", language)


@lru_cache(maxsize=64)
def _rules(language: str) -> tuple[Rule, ...]:
    """All steps for a language, in their order: what needs signs comes before what needs only digits."""
    vocabulary = vocabulary_of(language)
    if vocabulary is None:
        return (LAYOUT[0], *CLEANUP)
    sign = "," if vocabulary.decimal == "." else "."
    wide = rule(_WIDE_THOUSANDS, lambda match: match.group().replace(" ", sign))
    return (
        *address_rules(vocabulary),
        POINT_FIRST,
        *LAYOUT,
        *date_rules(vocabulary),
        *number_rules(vocabulary),
        *range_rules(vocabulary),
        *time_rules(vocabulary),
        *abbreviation_rules(vocabulary),
        *([] if vocabulary.code == "en" else [wide]),
        *context_rules(vocabulary),
        *money_rules(vocabulary),
        *ordinal_rules(vocabulary),
        *measure_rules(vocabulary),
        *sign_rules(vocabulary),
        *cardinal_rules(vocabulary),
        *CLEANUP,
    )
