"""Whether what a caller said is all of a phrase that the agent expects: a sign that the caller is done. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from schemas.llm import ListenFor
from services.asr.grammar import (
    RULES,
    Choice,
    GrammarError,
    Node,
    Optional,
    Repeat,
    Rule,
    Sequence,
    Word,
    parse,
)

_NOT_A_WORD = re.compile(r"[^\w']+")
"""Between words: what an engine that writes sentences puts there, Whisper for one."""


@lru_cache(maxsize=64)
def expected_phrases(listen_for: ListenFor) -> ExpectedPhrases:
    """The phrases of ``listen_for``; made once for calls that stand in the same state."""
    return ExpectedPhrases(listen_for)


class ExpectedPhrases:
    """The phrases of a ``ListenFor``. One that is not in JSGF syntax is left out, as in the engine's grammar."""

    def __init__(self, listen_for: ListenFor) -> None:
        parts = [part for phrase in listen_for.phrases if (part := _pattern_of(phrase)) is not None]
        self._pattern = re.compile("|".join(f"(?:{part})" for part in parts)) if parts else None

    def is_whole(self, text: str) -> bool:
        """Whether ``text`` is one of the phrases from its first word to its last, however it is written."""
        words = _NOT_A_WORD.sub(" ", text.lower().replace("’", "'")).strip()
        return self._pattern is not None and bool(words) and self._pattern.fullmatch(f"{words} ") is not None


@lru_cache(maxsize=512)
def _pattern_of(phrase: str) -> str | None:
    try:
        return _pattern(parse(phrase))
    except GrammarError:
        return None


def _pattern(node: Node) -> str:
    """A regular expression; each word in it is followed by a space."""
    match node:
        case Word():
            return re.escape(node.text) + " "
        case Rule():
            return f"(?:{_pattern(parse(RULES[node.name]))})"
        case Sequence():
            return "".join(_pattern(part) for part in node.parts)
        case Choice():
            return f"(?:{'|'.join(_pattern(option) for option in node.options)})"
        case Optional():
            return f"(?:{_pattern(node.part)})?"
        case Repeat():
            return f"(?:{_pattern(node.part)}){node.sign}"
