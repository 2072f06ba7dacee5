"""Phrases in JSGF expansion syntax: ``where is my [new] (credit | debit) card``. Pure.

``[x]`` may be left out, ``(a | b)`` is a choice, ``<name>`` is a rule of the agent file, and ``<digit>``, a spoken
digit, stands for itself. Rules are put in where they are named, so that a phrase means the same to any recogniser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

DIGIT = "<digit>"
MAX_EXPANSIONS = 512

_TOKEN = re.compile(r"\s*(?:(<[a-z][a-z0-9_]*>)|([()\[\]|])|([a-z0-9']+(?:-[a-z0-9']+)*))", re.IGNORECASE)


class PhraseError(ValueError):
    """A phrase that can't be read; the text quotes it and says what is allowed."""


class Word(NamedTuple):
    """One word, or ``<digit>``."""

    text: str


class Choice(NamedTuple):
    """One of several; an empty sequence among them makes it optional."""

    options: tuple[Node, ...]


class Sequence(NamedTuple):
    """One after another."""

    parts: tuple[Node, ...]


Node = Word | Choice | Sequence


def parse(phrase: str, rules: Mapping[str, str] | None = None) -> Node:
    """The phrase with its rules put in.

    Raises:
        PhraseError: a bracket is missing, a rule is unknown or names itself, a sign is not allowed, or nothing is left.
    """
    return _Parser(phrase, rules or {}, ()).whole()


def render(node: Node) -> str:
    """The phrase as text again, in the same syntax."""
    if isinstance(node, Word):
        return node.text
    if isinstance(node, Sequence):
        return " ".join(render(part) for part in node.parts)
    wanted = [option for option in node.options if option != Sequence(())]
    text = " | ".join(render(option) for option in wanted)
    return f"[{text}]" if len(wanted) < len(node.options) else f"({text})"


def expand(phrase: str, node: Node) -> list[tuple[str, ...]]:
    """Every way to say it, as words; ``<digit>`` stays one word.

    Raises:
        PhraseError: there are more than :data:`MAX_EXPANSIONS`, or one of them has no word at all.
    """
    found: dict[tuple[str, ...], None] = {}
    for words in _ways(node):
        found[words] = None
        if len(found) > MAX_EXPANSIONS:
            raise PhraseError(
                f"phrase {phrase!r} has more than {MAX_EXPANSIONS} ways to be said; write several phrases"
            )
    if () in found:
        raise PhraseError(f"phrase {phrase!r} may be left out as a whole; at least one word must stand outside []")
    return list(found)


def _ways(node: Node) -> Iterator[tuple[str, ...]]:
    if isinstance(node, Word):
        yield (node.text,)
    elif isinstance(node, Choice):
        for option in node.options:
            yield from _ways(option)
    elif not node.parts:
        yield ()
    else:
        first, rest = node.parts[0], Sequence(node.parts[1:])
        for head in _ways(first):
            for tail in _ways(rest):
                yield head + tail


class _Parser:
    """Recursive descent; ``inside`` are the rules that are being put in."""

    def __init__(self, phrase: str, rules: Mapping[str, str], inside: tuple[str, ...]) -> None:
        self._phrase = phrase
        self._rules = rules
        self._inside = inside
        self._tokens = self._split()
        self._at = 0

    def whole(self) -> Node:
        node = self._choice()
        if self._at < len(self._tokens):
            raise PhraseError(f"phrase {self._phrase!r} has {self._tokens[self._at]!r} without its opening bracket")
        return node

    def _split(self) -> list[str]:
        tokens: list[str] = []
        at = 0
        text = self._phrase.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise PhraseError(
                    f"phrase {self._phrase!r} has a sign that is not allowed at {text[at:].strip()[:10]!r}; "
                    "allowed are words, (a | b), [optional], <rule>"
                )
            tokens.append(match.group().strip().lower())
            at = match.end()
        return tokens

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while (token := self._peek()) not in ("", "|", ")", "]"):
            self._at += 1
            if token == "(":
                parts.append(self._bracket(")"))
            elif token == "[":
                inner = self._bracket("]")
                options = inner.options if isinstance(inner, Choice) else (inner,)
                parts.append(Choice((*(o for o in options if o != Sequence(())), Sequence(()))))
            elif token.startswith("<") and token != DIGIT:
                parts.append(self._rule(token[1:-1]))
            else:
                parts.extend(Word(word) for word in token.split("-"))
        if not parts:
            raise PhraseError(f"phrase {self._phrase!r} has an empty place; write a word there")
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _bracket(self, closing: str) -> Node:
        node = self._choice()
        if self._peek() != closing:
            raise PhraseError(f"phrase {self._phrase!r} lacks a {closing!r}")
        self._at += 1
        return node

    def _rule(self, name: str) -> Node:
        if name in self._inside:
            raise PhraseError(f"rule <{name}> names itself")
        if name not in self._rules:
            known = ", ".join(f"<{rule}>" for rule in ("digit", *self._rules))
            raise PhraseError(f"phrase {self._phrase!r} names <{name}>, which is no rule; there are: {known}")
        return _Parser(self._rules[name], self._rules, (*self._inside, name)).whole()

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""
