"""Choosing an engine, and what is said when it can't be had."""

from __future__ import annotations

import sys

import pytest

from config.settings import TtsSection
from services.tts.engine import EngineChoiceError, engine_names, load_engine
from services.tts.engines._espeak_library import EspeakLibrary

pytestmark = pytest.mark.unit


class OwnEngine:
    def __init__(self, settings: TtsSection) -> None:
        self.settings = settings


def test_engines_that_come_with_it():
    assert {"espeak", "instant"} <= set(engine_names())
    assert load_engine("instant", TtsSection()).capabilities.name == "instant"


def test_an_engine_of_ones_own():
    settings = TtsSection(voice="mine")
    engine = load_engine(f"{__name__}:OwnEngine", settings)
    assert isinstance(engine, OwnEngine)
    assert engine.settings is settings


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("festival", r"no such engine; there are .*espeak.*instant"),
        ("../espeak", "no such engine"),
        ("no.such.module:Engine", "can't be imported"),
        (":Engine", "can't be imported"),
        (f"{__name__}:Missing", "has no 'Missing'"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_in_words(name, words):
    with pytest.raises(EngineChoiceError, match=words):
        load_engine(name, TtsSection())


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(EngineChoiceError, match=r"pip install 'callbus\[espeak\]'"):
        EspeakLibrary()
