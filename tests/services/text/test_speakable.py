"""What is spoken of what is written: the tables in ``tests/data/speech``, one for each language."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.text.numbers import Number, parse_number
from services.text.speakable import shape
from services.text.vocabulary import LANGUAGES, vocabulary_of

pytestmark = pytest.mark.unit

TABLES = Path(__file__).parents[2] / "data" / "speech"
EXAMPLES = [
    (path.stem, *line.split("\t"))
    for path in sorted(TABLES.glob("*.tsv"))
    for line in path.read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize(("language", "written", "spoken"), EXAMPLES)
def test_examples(language, written, spoken):
    assert shape(written, language).text == spoken


@pytest.mark.parametrize(("language", "written", "spoken"), EXAMPLES)
def test_what_is_spoken_is_spoken_as_it_stands(language, written, spoken):
    assert shape(spoken, language).text == spoken


def test_every_language_has_a_table():
    counts = {language: sum(example[0] == language for example in EXAMPLES) for language in LANGUAGES}
    assert counts["en"] >= 200
    assert min(counts.values()) >= 20


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en-US", "3/4/2026", "March fourth, twenty twenty-six"),
        ("en-GB", "3/4/2026", "April third, twenty twenty-six"),
        ("EN_us", "$5", "five dollars"),
        ("pt-BR", "16", "dezesseis"),
        ("pt", "16", "dezasseis"),
        ("fr-CH", "90", "nonante"),
        ("es-MX", "1,250.40", "mil doscientos cincuenta coma cuatro cero"),
        ("ja", "**5** 円 😊", "5 円"),
        ("ru", "5 рублей", "5 рублей"),
        ("", "5", "5"),
        ("x" * 500, "5", "5"),
    ],
)
def test_regions_and_unknown_languages(language, written, spoken):
    assert shape(written, language).text == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Here you are:\n- one\n- two", "Here you are: one, two"),
        ("A line\nand another", "A line, and another"),
        ("| Name | Price |\n|---|---|\n| Tea | $2 |", "Name, Price. Tea, two dollars."),
        ("2 < 3 && 4 > 1", "two less than three and and four greater than one"),
        ("9" * 16 + "9", "nine nine nine, " * 5 + "nine nine"),
        ("1,000,000,000,000,000,000", "one" + " zero" * 18),
        ("31/02/2026", "thirty-one slash zero two slash twenty twenty-six"),
        ("25:00", "twenty-five:zero zero"),
        ("13 pm", "thirteen pm"),
    ],
)
def test_odd_ones(written, spoken):
    assert shape(written).text == spoken


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [
        ("5", ".", Number("5")),
        ("1,250.40", ".", Number("1250", "40")),
        ("1.250,40", ".", Number("1250", "40")),
        ("1.250", ",", Number("1250")),
        ("1.250", ".", Number("1", "250")),
        ("1.25", ",", Number("1", "25")),
        ("1,25", ",", Number("1", "25")),
        ("1,25", ".", None),
        ("1.2.3", ".", None),
        ("1,250,00", ".", None),
        ("1'250.40", ".", Number("1250", "40")),
        ("1,2.3", ".", None),
        ("0,123", ".", None),
    ],
)
def test_separators(text, decimal, number):
    assert parse_number(text, decimal) == number


def test_each_language_has_all_its_words():
    for language in LANGUAGES:
        vocabulary = vocabulary_of(language)
        assert vocabulary is not None
        assert set(vocabulary.month_names.values()) == set(range(1, 13))
        assert {"EUR", "USD", "GBP"} <= set(vocabulary.currencies)
        assert {"km", "kg", "°C", "s", "min"} <= set(vocabulary.units)
        assert len(set(vocabulary.weekdays.values())) == 7


def test_num2words_is_imported_with_the_first_number():
    code = (
        "import sys; from services.text.speakable import shape; shape('Hello there, you.');"
        "assert 'num2words' not in sys.modules; shape('5'); assert 'num2words' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[3])
