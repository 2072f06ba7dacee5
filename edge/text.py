"""Words of a stranger made fit for the record: any bytes in, short printable text out."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str, limit: int) -> str:
    """At most ``limit`` printable characters; what JSON or a terminal could stumble over becomes U+FFFD.

    Lone surrogates stand for bytes that were not UTF-8 (PEP 383): they can't be encoded again.
    """
    return "".join(character if character.isprintable() else REPLACEMENT for character in text[:limit])


def reason_token(text: str, otherwise: str) -> str:
    """``text`` where it is a short token (``agent_done``), else ``otherwise``: reasons never carry free text."""
    return text if _TOKEN.fullmatch(text) else otherwise
