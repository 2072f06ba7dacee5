"""What is written made into what is spoken. Pure."""

from __future__ import annotations

from services.text.shaped import Shaped, as_written, shaped_from
from services.text.traced import Traced


def shape(text: str, language: str = "en") -> Shaped:
    """The text in words that every voice says alike, and which written word each of them belongs to.

    ``language``: BCP 47 tag of the text.
    """
    if not text.strip():
        return as_written(text)
    return shaped_from(text, Traced.of(text))
