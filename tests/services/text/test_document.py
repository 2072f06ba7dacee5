"""The tables in docs/speech-text.md are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.text.speakable import shape

pytestmark = pytest.mark.unit

PAGE = (Path(__file__).parents[3] / "docs" / "speech-text.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?:([a-zA-Z-]{2,5}) \| )?`([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("language", "written", "spoken"), ROWS)
def test_each_row_is_true(language, written, spoken):
    assert shape(written, language or "en").text == spoken


def test_there_are_rows():
    assert len(ROWS) > 40
    assert PAGE.count("| `") == len(ROWS)
