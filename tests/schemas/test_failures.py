"""The failure table is complete and speaks in words."""

from __future__ import annotations

import pytest

from schemas.failure import FAILURES
from schemas.llm import turn_of, utterance_of

pytestmark = pytest.mark.contract


def test_rows_are_whole() -> None:
    for code, row in FAILURES.items():
        assert row.code == code
        assert row.text and row.help and row.caller_hears


def test_utterance_ids_name_their_turn() -> None:
    assert [utterance_of(0), utterance_of(3), utterance_of(3, 2)] == [0, 300, 302]
    assert [turn_of(0), turn_of(300), turn_of(302)] == [0, 3, 3]
