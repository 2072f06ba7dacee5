"""Text into sentences, for engines that think in tokens and for commands that bring a text. Pure."""

from __future__ import annotations

import re

_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
_NOT_AN_END = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|No|e\.g|i\.e)\.|\b[A-Z]\.)$")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without surrounding white space; a title or an initial ends none."""
    sentences: list[str] = []
    begin = 0
    for match in _END.finditer(text):
        if _NOT_AN_END.search(text[begin : match.start()]):
            continue
        sentences.append(text[begin : match.end()].strip())
        begin = match.end()
    sentences.append(text[begin:].strip())
    return [sentence for sentence in sentences if sentence]
