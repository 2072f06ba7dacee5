"""Text into sentences, for commands that bring a text. Pure."""

from __future__ import annotations

from services.text.cutting import cut_sentences


def split_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a text, without surrounding white space; a title or an initial ends none."""
    return cut_sentences(text, language)
