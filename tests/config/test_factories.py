"""Engines are made of their section, and of all settings where they ask for them."""

from __future__ import annotations

from typing import Any

import pytest

from config.factories import make
from config.settings import AsrSection, Settings

pytestmark = pytest.mark.unit

SECTION = AsrSection(language="de")
SETTINGS = Settings(asr=SECTION)


class OfSection:
    def __init__(self, section: AsrSection) -> None:
        self.made_of: tuple[Any, ...] = (section,)


class OfBoth:
    def __init__(self, section: AsrSection, settings: Settings) -> None:
        self.made_of = (section, settings)


def create_of_section(section: AsrSection, *, last_pass: bool = False) -> tuple[Any, ...]:
    return (section,)


def create_with_choice(section: AsrSection, quality: int = 3) -> tuple[Any, ...]:
    return (section, quality)


def test_a_factory_gets_what_it_takes() -> None:
    assert make(OfSection, SECTION, SETTINGS).made_of == (SECTION,)
    assert make(OfBoth, SECTION, SETTINGS).made_of == (SECTION, SETTINGS)
    assert make(OfBoth, SECTION, None).made_of == (SECTION, Settings())
    assert make(create_of_section, SECTION, SETTINGS) == (SECTION,)
    assert make(create_with_choice, SECTION, SETTINGS) == (SECTION, 3)
