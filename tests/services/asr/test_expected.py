"""Whole phrases of those that an agent expects."""

from __future__ import annotations

import pytest

from schemas.llm import ListenFor
from services.asr.expected import ExpectedPhrases

pytestmark = pytest.mark.unit

PHRASES = ("where is my [credit | debit] card", "(help | agent) [please]", "<no>", "<digits>", "i (want")


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("where is my card", True),
        ("where is my debit card", True),
        ("Where is my credit card", True),
        ("where is my", False),
        ("where is my credit", False),
        ("where is my card please", False),
        ("help", True),
        ("agent please", True),
        ("no", True),
        ("no thank you", True),
        ("no that is", False),
        ("four two seven one", True),
        ("i want", False),
        ("Where is my card?", True),
        (" Help, please!", True),
        ("No.", True),
        ("Where is my card? Hello.", False),
        ("...", False),
        ("", False),
    ],
)
def test_whole_phrases(text: str, whole: bool) -> None:
    assert ExpectedPhrases(ListenFor(phrases=PHRASES)).is_whole(text) is whole


def test_an_agent_that_expects_anything_knows_no_whole_phrase() -> None:
    assert not ExpectedPhrases(ListenFor()).is_whole("where is my card")
    assert not ExpectedPhrases(ListenFor(phrases=("(",))).is_whole("(")
