"""Words of strangers."""

from __future__ import annotations

import json

import pytest

from edge.text import REPLACEMENT, clean, reason_token

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("alice", "alice"),
        ("+49 30 1234", "+49 30 1234"),
        ("Zoë 日本", "Zoë 日本"),
        ("a\r\nInjected: 1", f"a{REPLACEMENT}{REPLACEMENT}Injected: 1"),
        (b"\xff\x80bob".decode("utf-8", "surrogateescape"), f"{REPLACEMENT}{REPLACEMENT}bob"),
        ("\x00\x1b[31m", f"{REPLACEMENT}{REPLACEMENT}[31m"),
        ("x" * 100, "x" * 64),
    ],
)
def test_anything_becomes_short_and_printable(text: str, wanted: str) -> None:
    assert clean(text, 64) == wanted
    assert json.loads(json.dumps(clean(text, 64)).encode("utf-8")) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("agent_done", "agent_done"),
        ("", "other"),
        ("call 030 back", "other"),
        ("a" * 41, "other"),
        ("x\n", "other"),
    ],
)
def test_a_reason_is_a_token_or_the_default(text: str, wanted: str) -> None:
    assert reason_token(text, "other") == wanted
